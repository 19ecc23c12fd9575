// The textual IR: exact round trip, and errors with line and column for text that is not a graph.
#include <cstring>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/rewriter.h"
#include "ir/verify.h"

namespace stator {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kMlp = R"(graph @mlp(%x: f32[s0, 8]) where s0 in [1, 64] {
  weight %w0: f32[8, 16] = "fc.weight"
  literal %c0: f32[] = [0.5]
  literal %c1: i64[3] = [1, -2, 9223372036854775807]
  %0 = matmul(%x, %w0) : f32[s0, 16]                        // addmm_3 · model.py:41
  %1 = mul(%0, %c0) : f32[s0, 16]
  %2 = reshape(%1) {dims = [2*s0, 8]} : f32[2*s0, 8]
  %3 = kernel(%2) {kind = "pointwise"} : f32[2*s0, 8]
    graph @body(%x0: f32[2*s0, 8]) where s0 in [1, 64] {
      %0 = relu(%x0) : f32[2*s0, 8]
      return %0
    }
  %4 = add(%c1, %c1) : i64[3]
  return %3, %4
}
)";

TEST(Text, RoundTripsExactly) { EXPECT_EQ(PrintGraph(ParseGraph(kMlp)), kMlp); }

TEST(Text, KeepsOrders) {
  Graph graph = ParseGraph(
      "graph @g(%x: f32[1, 2, 3, 4]@0231) {\n  %y = relu(%x) : f32[1, 2, 3, 4]@0231\n return %y }");
  EXPECT_EQ(graph.type(graph.outputs()[0]).order, ChannelsLastOrder(4));
  EXPECT_THAT(PrintGraph(graph), HasSubstr("f32[1, 2, 3, 4]@0231"));
}

TEST(Text, KeepsEveryBitOfLargeLiterals) {
  std::mt19937 rng(4);
  std::vector<std::byte> bytes(40 * 4);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  Graph graph;
  ValueId literal = graph.AddLiteral({.dims = {40}}, MakeConstantData(bytes));
  graph.SetOutputs({literal});
  Graph read = ParseGraph(PrintGraph(graph));
  const ConstantData& data = read.value(read.outputs()[0]).data;
  ASSERT_EQ(data.size, bytes.size());
  EXPECT_EQ(std::memcmp(data.bytes, bytes.data(), bytes.size()), 0);
}

struct BadText {
  const char* text;
  const char* message;
};

class RejectsText : public ::testing::TestWithParam<BadText> {};

TEST_P(RejectsText, WithAReason) {
  try {
    ParseGraph(GetParam().text);
    FAIL() << "accepted: " << GetParam().text;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Text, RejectsText,
    ::testing::Values(
        BadText{"", "line 1, column 1: expected `graph`"},
        BadText{"graph @g(%x: f32[2]) {\n %y = frobnicate(%x)\n return %y }",
                "there is no op `frobnicate`"},
        BadText{"graph @g(%x: f32[2]) {\n return %y }", "line 2, column"},
        BadText{"graph @g(%x: f32[2]) {\n %x = relu(%x)\n return %x }", "%x is defined twice"},
        BadText{"graph @g(%x: f33[2]) { return %x }", "unknown dtype `f33`"},
        BadText{"graph @g(%x: f32[2]) {\n %y = relu(%x) : f32[3]\n return %y }",
                "where f32[2] is inferred"},
        BadText{"graph @g(%x: f32[s0]) { return %x }", "symbol `s0` has no range"},
        BadText{"graph @g() {\n literal %c: f32[2] = [1, 2, 3]\n return %c }", "too many elements"},
        BadText{"graph @g() {\n literal %c: f32[99999999, 99999999] = [1]\n return %c }",
                "too large for text"},
        BadText{"graph @g() {\n literal %c: f32[99999999999, 99999999999] = hex \"\"\n return %c }",
                "out of range"},
        BadText{"graph @g(%x: f32[2]) {\n %y = relu(%x, %x)\n return %y }", "relu"},
        BadText{"graph @g(%x: f32[2]) { return %x } more", "text after the graph"}));

// Mutated text never crashes: it reads as a graph or raises an Error.
TEST(Text, SurvivesMutation) {
  std::mt19937 rng(5);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text(kMlp);
    for (unsigned edit = 0; edit < 1 + rng() % 3; ++edit) {
      size_t at = rng() % text.size();
      switch (rng() % 4) {
        case 0: text[at] = static_cast<char>(rng()); break;
        case 1: text.erase(at, 1 + rng() % 20); break;
        case 2: text.insert(at, text.substr(rng() % text.size(), rng() % 20)); break;
        default: text[at] = "0123456789[](){}%,\"@*"[rng() % 20]; break;
      }
      if (text.empty()) text = " ";
    }
    try {
      Graph graph = ParseGraph(text);
      ASSERT_EQ(PrintGraph(ParseGraph(PrintGraph(graph))), PrintGraph(graph));
      ++accepted;
    } catch (const Error& error) {
      ASSERT_NE(error.kind(), ErrorKind::kInternal) << error.what() << "\n" << text;
    }
  }
  EXPECT_GT(accepted, 100);
}

TEST(Rewriter, EditsAndKeepsNames) {
  Graph graph = ParseGraph(
      "graph @g(%x: f32[2]) {\n %0 = neg(%x)  // neg_1 · a.py:1\n %1 = neg(%0)\n return %1 }");
  NodeId last = graph.nodes()[1];
  Rewriter rewriter(graph);
  ASSERT_TRUE(rewriter.Start());
  rewriter.SetInsertionPoint(last);
  ValueId replacement = rewriter.Add("abs", {graph.inputs()[0]});
  rewriter.ReplaceUses(graph.outputs()[0], replacement);
  rewriter.Erase(last);
  VerifyGraph(graph);
  EXPECT_EQ(graph.outputs()[0], replacement);
  EXPECT_EQ(graph.nodes().size(), 2u);
  EXPECT_EQ(rewriter.num_rewrites(), 1);
}

TEST(Rewriter, StopsWithoutFuel) {
  Graph graph = ParseGraph("graph @g(%x: f32[2]) { return %x }");
  Fuel fuel{.left = 1};
  Rewriter rewriter(graph, &fuel);
  EXPECT_TRUE(rewriter.Start());
  EXPECT_FALSE(rewriter.Start());
}

}  // namespace
}  // namespace stator
