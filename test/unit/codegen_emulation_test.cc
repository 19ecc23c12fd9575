// Kernel texts run in an emulator of a CUDA device and compared with the reference kernels: odd
// sizes, strides, dtypes, symbolic sizes; accesses out of bounds and missing barriers.
#include "cuda_emulation.h"

namespace stator::testing {
namespace {

// The text with each `_` before `[` or behind `= ` replaced by a dtype.
std::string InDType(const std::string& text, std::string_view dtype) {
  std::string typed = std::regex_replace(text, std::regex(R"(\b_\[)"), std::string(dtype) + "[");
  return std::regex_replace(typed, std::regex(R"(= _\b)"), "= " + std::string(dtype));
}

constexpr std::string_view kFloats[] = {"f16", "bf16", "f32", "f64"};

TEST(CudaEmulation, Pointwise) {
  Emulation emulation("pointwise");
  for (std::string_view dtype : kFloats) {
    auto add = [&](const std::string& body, std::vector<Layout> layouts = {}) {
      emulation.Add(
          {.kind = "pointwise", .body = InDType(body, dtype), .layouts = std::move(layouts)});
    };
    add(R"(graph @g(%x: _[3, 64], %y: _[64]) {
      %0 = add(%x, %y)
      %1 = gelu(%0)
      return %1
    })",
        {{}, {.constant = true}});
    add(R"(graph @g(%x: _[5, 7, 3], %y: _[7, 1]) {
      %0 = mul(%x, %y)
      %1 = sigmoid(%0)
      return %0, %1
    })");
    add(R"(graph @g(%x: _[2, 6, 4, 8]@0231, %y: _[6, 1, 1]) {
      literal %c: _[] = [0.5]
      %0 = mul(%x, %y) : _[2, 6, 4, 8]@0231
      %1 = add(%0, %c) : _[2, 6, 4, 8]@0231
      %2 = relu(%1) : _[2, 6, 4, 8]@0231
      return %2
    })");
    add("graph @g(%x: _[4, 40], %y: _[4, 40]) {\n %0 = maximum(%x, %y)\n return %0\n}",
        {{.gaps = true}, {.step = 3}, {}});
    add("graph @g(%x: _[4, 40]) {\n %0 = silu(%x)\n return %0\n}", {{.alignment = 8}, {}});
    add("graph @g(%x: _[4, 40]) {\n %0 = tanh(%x)\n return %0\n}", {{}, {.gaps = true}});
    add("graph @g(%x: _[]) {\n %0 = exp(%x)\n return %0\n}");
    add("graph @g(%x: _[3, 0]) {\n %0 = exp(%x)\n return %0\n}");
    emulation.Add({.kind = "pointwise",
                   .body = InDType("graph @g(%x: _[s0, 8], %y: _[s0, 1]) where s0 in [1, 99] {\n"
                                   " %0 = sub(%x, %y)\n return %0\n}",
                                   dtype),
                   .symbols = {{"s0", 13}}});
    emulation.Add({.kind = "pointwise",
                   .body = InDType("graph @g(%x: _[4, s0]) where s0 in [1, 99] {\n"
                                   " %0 = abs(%x)\n return %0\n}",
                                   dtype),
                   .symbols = {{"s0", 8}}});
  }
  emulation.Run();
}

TEST(CudaEmulation, Copy) {
  Emulation emulation("copy");
  for (const char* dtype : {"bool", "f16", "f32", "i64"}) {
    for (const char* types : {"_[5, 32]", "_[2, 3, 7]", "_[2, 8, 4, 4]", "_[]"}) {
      std::string body = InDType(fmt::format("graph @g(%x: {}) {{\n return %x\n}}", types), dtype);
      emulation.Add({.kind = "copy", .body = body});
      emulation.Add({.kind = "copy", .body = body, .layouts = {{.gaps = true}, {}}});
      emulation.Add({.kind = "copy", .body = body, .layouts = {{.step = 2}, {.gaps = true}}});
    }
  }
  emulation.Run();
}

TEST(CudaEmulation, Rowwise) {
  Emulation emulation("rowwise");
  for (std::string_view dtype : kFloats) {
    auto add = [&](const std::string& body, std::vector<Layout> layouts = {},
                   SymbolValues symbols = {}) {
      emulation.Add({.kind = "rowwise",
                     .body = InDType(body, dtype),
                     .layouts = std::move(layouts),
                     .symbols = std::move(symbols),
                     .special = false,
                     .slack = 2});
    };
    add("graph @g(%x: _[5, 96]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[3, 7]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[3, 333]) {\n %0 = log_softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[9]) {\n %0 = log_softmax(%x) {axis = 0}\n return %0\n}", {{.step = 2}, {}});
    add("graph @g(%x: _[2, 40000]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[3, s0]) where s0 in [1, 9999] {\n"
        " %0 = softmax(%x) {axis = 1}\n return %0\n}",
        {}, {{"s0", 77}});
    add(R"(graph @g(%x: _[2, 3, 64], %y: _[2, 3, 64], %w: _[64], %b: _[64]) {
      %0 = add(%x, %y)
      %1 = layer_norm(%0, %w, %b) {eps = 1e-05, num_dims = 1}
      %2 = gelu(%1)
      %3 = add(%2, %y)
      return %0, %3
    })",
        {{}, {}, {.constant = true}, {.constant = true}});
    add(R"(graph @g(%x: _[7, 5, 33], %w: _[5, 33]) {
      %0 = layer_norm(%x, %w) {eps = 1e-05, num_dims = 2}
      return %0
    })");
    add(R"(graph @g(%x: _[600, 24], %w: _[24]) {
      %0 = rms_norm(%x, %w) {eps = 1e-06, num_dims = 1}
      return %0
    })",
        {{.gaps = true}, {.constant = true}, {}});
    add(R"(graph @g(%x: _[3, 2048], %y: _[3, 1], %w: _[2048]) {
      %0 = mul(%x, %y)
      %1 = rms_norm(%0, %w) {eps = 1e-06, num_dims = 1}
      %2 = silu(%1)
      return %2, %0
    })");
    add(R"(graph @g(%x: _[s0, 48], %w: _[48]) where s0 in [1, 99] {
      %0 = layer_norm(%x, %w) {eps = 1e-06, num_dims = 1}
      return %0
    })",
        {}, {{"s0", 11}});
  }
  emulation.Run();
}

}  // namespace
}  // namespace stator::testing
