// Type rules: symbolic sizes, and what must be rejected.
#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/parse.h"

namespace stator {
namespace {

// The type of `node` ("sum(%x) {...}") over inputs ("%x: f32[s0, 4]"), symbols s0 and s1.
std::string Infer(const std::string& inputs, const std::string& node) {
  Graph graph =
      ParseGraph("graph @g(" + inputs + ") where s0 in [1, 64], s1 in [1, 64] {\n  %0 = " + node +
                 "\n  return %0\n}\n");
  return graph.type(graph.outputs()[0]).ToString();
}

void ExpectRejected(const std::string& inputs, const std::string& node) {
  EXPECT_THROW(Infer(inputs, node), Error) << node << " over " << inputs;
}

TEST(Infer, Broadcasts) {
  EXPECT_EQ(Infer("%a: f32[s0, 1, 4], %b: f32[s1, 4]", "add(%a, %b)"), "f32[s0, s1, 4]");
  EXPECT_EQ(Infer("%a: f32[s0, 1], %b: f32[]", "lt(%a, %b)"), "bool[s0, 1]");
  EXPECT_EQ(Infer("%a: bool[s0, 1], %b: f16[4], %c: f16[]", "where(%a, %b, %c)"), "f16[s0, 4]");
  ExpectRejected("%a: f32[s0], %b: f32[s1]", "add(%a, %b)");
  ExpectRejected("%a: f32[s0], %b: f32[4]", "add(%a, %b)");
  ExpectRejected("%a: f32[3], %b: f32[4]", "add(%a, %b)");
  ExpectRejected("%a: f32[4], %b: f16[4]", "add(%a, %b)");
  ExpectRejected("%a: bool[4], %b: bool[4]", "sub(%a, %b)");
  ExpectRejected("%a: i32[4]", "exp(%a)");
  ExpectRejected("%a: f32[4], %b: f32[4]", "bitwise_and(%a, %b)");
}

TEST(Infer, Views) {
  EXPECT_EQ(Infer("%x: f32[s0, 12, 64]", "reshape(%x) {dims = [12*s0, 64]}"), "f32[12*s0, 64]");
  EXPECT_EQ(Infer("%x: f32[s0, 6]", "reshape(%x) {dims = [2*s0, 3]}"), "f32[2*s0, 3]");
  EXPECT_EQ(Infer("%x: f32[s0, 2, s1]", "permute(%x) {perm = [2, 0, 1]}"), "f32[s1, s0, 2]");
  EXPECT_EQ(Infer("%x: f32[1, 4]", "expand(%x) {dims = [s1, s0, 4]}"), "f32[s1, s0, 4]");
  EXPECT_EQ(Infer("%x: f32[s0, 4]", "slice(%x) {dim = 0, start = 1, end = s0, step = 1}"),
            "f32[s0 - 1, 4]");
  EXPECT_EQ(Infer("%x: f32[9]", "slice(%x) {dim = 0, start = 1, end = 8, step = 3}"), "f32[3]");
  ExpectRejected("%x: f32[s0, 6]", "reshape(%x) {dims = [s0, 5]}");
  ExpectRejected("%x: f32[6]", "reshape(%x) {dims = [-2, -3]}");
  ExpectRejected("%x: f32[2, 3]", "permute(%x) {perm = [0, 0]}");
  ExpectRejected("%x: f32[2, 3]", "permute(%x) {perm = [0]}");
  ExpectRejected("%x: f32[2, 3]", "expand(%x) {dims = [3]}");
  ExpectRejected("%x: f32[2]", "expand(%x) {dims = [3]}");
  ExpectRejected("%x: f32[4]", "slice(%x) {dim = 0, start = 0, end = 5, step = 1}");
  ExpectRejected("%x: f32[4]", "slice(%x) {dim = 0, start = -1, end = 2, step = 1}");
  ExpectRejected("%x: f32[4]", "slice(%x) {dim = 1, start = 0, end = 0, step = 1}");
  ExpectRejected("%x: f32[4]", "slice(%x) {dim = 0, start = 0, end = 4, step = 0}");
}

TEST(Infer, Reductions) {
  EXPECT_EQ(Infer("%x: f32[s0, 4, s1]", "sum(%x) {axes = [1], keepdim = true}"), "f32[s0, 1, s1]");
  EXPECT_EQ(Infer("%x: i8[s0, 4]", "any(%x) {axes = [0, 1], keepdim = false}"), "bool[]");
  EXPECT_EQ(Infer("%x: f16[s0, 4]", "argmax(%x) {axes = [1], keepdim = false}"), "i64[s0]");
  ExpectRejected("%x: bool[4]", "sum(%x) {axes = [0], keepdim = false}");
  ExpectRejected("%x: f32[4]", "sum(%x) {axes = [-1], keepdim = false}");
  ExpectRejected("%x: f32[4]", "sum(%x) {axes = [0, 0], keepdim = false}");
  ExpectRejected("%x: i32[4]", "mean(%x) {axes = [0], keepdim = false}");
  ExpectRejected("%x: f32[0]", "amax(%x) {axes = [0], keepdim = false}");
  ExpectRejected("%x: f32[4, 4]", "argmax(%x) {axes = [0, 1], keepdim = false}");
}

TEST(Infer, Products) {
  EXPECT_EQ(Infer("%a: f32[s0, 1, s1, 8], %b: f32[12, 8, 3]", "matmul(%a, %b)"),
            "f32[s0, 12, s1, 3]");
  ExpectRejected("%a: f32[2, 3], %b: f32[4, 2]", "matmul(%a, %b)");
  ExpectRejected("%a: f32[2], %b: f32[2, 2]", "matmul(%a, %b)");
  std::string attrs =
      "{stride = [2, 2], padding = [3, 3], dilation = [1, 1], groups = 1, "
      "transposed = false, output_padding = [0, 0]}";
  EXPECT_EQ(Infer("%x: f32[s0, 3, s1, 224], %w: f32[64, 3, 7, 7]", "conv(%x, %w) " + attrs),
            "f32[s0, 64, floordiv(s1 - 1, 2) + 1, 112]");
  ExpectRejected("%x: f32[1, 3, 9, 9], %w: f32[64, 4, 7, 7]", "conv(%x, %w) " + attrs);
  ExpectRejected("%x: f32[1, 3, 9, 9], %w: f32[64, 3, 7, 7], %b: f32[3]",
                 "conv(%x, %w, %b) " + attrs);
  ExpectRejected("%x: f32[1, 3, 0, 0], %w: f32[64, 3, 7, 7]", "conv(%x, %w) " + attrs);
  ExpectRejected("%x: i32[1, 3, 9, 9], %w: i32[64, 3, 7, 7]", "conv(%x, %w) " + attrs);
}

TEST(Infer, Attention) {
  std::string attrs = " {causal = false, scale = 0.5}";
  EXPECT_EQ(Infer("%q: f16[s0, 8, s1, 64], %k: f16[s0, 2, 9, 64], %v: f16[s0, 2, 9, 32]",
                  "attention(%q, %k, %v)" + attrs),
            "f16[s0, 8, s1, 32]");
  ExpectRejected("%q: f16[1, 8, 3, 64], %k: f16[1, 3, 9, 64], %v: f16[1, 3, 9, 32]",
                 "attention(%q, %k, %v)" + attrs);
  ExpectRejected("%q: f32[1, 2, 3, 4], %k: f32[1, 2, 5, 4], %v: f32[1, 2, 5, 4], %m: bool[3, 4]",
                 "attention(%q, %k, %v, %m)" + attrs);
  ExpectRejected("%q: f32[1, 2, 3, 4], %k: f32[1, 2, 5, 4], %v: f32[1, 2, 5, 4], %m: bool[3, 5]",
                 "attention(%q, %k, %v, %m) {causal = true, scale = 0.5}");
}

TEST(Infer, Pools) {
  EXPECT_EQ(Infer("%x: f32[s0, 64, 112, 112]",
                  "max_pool(%x) {kernel = [3, 3], stride = [2, 2], padding = [1, 1], "
                  "dilation = [1, 1], ceil_mode = false}"),
            "f32[s0, 64, 56, 56]");
  // The last window of ceil mode must start inside the input: 3, not 4.
  EXPECT_EQ(Infer("%x: f32[1, 1, 5]",
                  "avg_pool(%x) {kernel = [1], stride = [2], padding = [0], ceil_mode = true, "
                  "count_include_pad = true, divisor_override = 0}"),
            "f32[1, 1, 3]");
  EXPECT_EQ(Infer("%x: f32[s0, 8, 7, 7]", "adaptive_avg_pool(%x) {output_size = [1, 1]}"),
            "f32[s0, 8, 1, 1]");
  ExpectRejected("%x: f32[1, 1, 5]",
                 "max_pool(%x) {kernel = [2], stride = [2], padding = [2], dilation = [1], "
                 "ceil_mode = false}");
  ExpectRejected("%x: f32[1, 1, 2]",
                 "max_pool(%x) {kernel = [3], stride = [1], padding = [0], dilation = [1], "
                 "ceil_mode = false}");
}

TEST(Infer, Indices) {
  EXPECT_EQ(Infer("%w: f32[100, 16], %i: i64[s0, s1]", "embedding(%w, %i)"), "f32[s0, s1, 16]");
  EXPECT_EQ(Infer("%x: f32[4, 5, 6], %i: i64[3], %j: i64[2, 1]", "index(%x, %i, none, %j)"),
            "f32[2, 3, 5]");
  EXPECT_EQ(Infer("%x: f32[4, 5, 6], %i: i64[s0]", "index(%x, none, %i)"), "f32[4, s0, 6]");
  EXPECT_EQ(Infer("%a: f32[s0, 4], %b: f32[s1, 4]", "concat(%a, %b) {dim = 0}"), "f32[s0 + s1, 4]");
  EXPECT_EQ(
      Infer("%x: f32[s0, 4]", "pad(%x) {pads = [1, 1, 0, -2], mode = \"constant\", value = 0.0}"),
      "f32[s0 + 2, 2]");
  ExpectRejected("%w: f32[100, 16], %i: f32[3]", "embedding(%w, %i)");
  ExpectRejected("%a: f32[2, 4], %b: f32[2, 5]", "concat(%a, %b) {dim = 0}");
  ExpectRejected("%x: f32[3]", "pad(%x) {pads = [3, 0], mode = \"reflect\", value = 0.0}");
  ExpectRejected("%x: f32[3]", "pad(%x) {pads = [1, 0], mode = \"circular\", value = 0.0}");
  ExpectRejected("%x: f32[4], %i: bool[4]", "index(%x, %i)");
}

TEST(Infer, Creation) {
  EXPECT_EQ(Infer("", "arange() {dtype = i64, start = 0.0, step = 1.0, size = s0 + 1}"),
            "i64[s0 + 1]");
  EXPECT_EQ(Infer("", "full() {dims = [s0, 2], dtype = bool, value = 1.0}"), "bool[s0, 2]");
  ExpectRejected("", "full() {dims = [-1], dtype = bool, value = 1.0}");
}

}  // namespace
}  // namespace stator
