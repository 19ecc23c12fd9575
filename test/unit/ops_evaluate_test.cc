// The reference evaluator: symbols, constants, bodies, layouts and errors.
#include <cstring>

#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/parse.h"
#include "ops/evaluate.h"

namespace stator {
namespace {

HostTensor MakeFloats(Sizes dims, std::vector<float> values) {
  HostTensor tensor = MakeHostTensor(DType::kFloat32, std::move(dims));
  std::memcpy(tensor.ref.data, values.data(), values.size() * sizeof(float));
  return tensor;
}

std::vector<float> Floats(const TensorRef& tensor) {
  std::vector<float> values;
  ForEachOffset<1>(tensor.dims, {tensor.strides},
                   [&](const auto& at) { values.push_back(Data<float>(tensor)[at[0]]); });
  return values;
}

std::vector<HostTensor> EvaluateText(std::string_view text, const HostTensor& x) {
  return EvaluateGraph(ParseGraph(text), std::span(&x.ref, 1));
}

TEST(Evaluate, BindsSymbolsFromInputs) {
  auto y = EvaluateText(R"(graph @g(%x: f32[s0, 2]) where s0 in [1, 8] {
    %0 = reshape(%x) {dims = [2*s0]}
    %1 = slice(%0) {dim = 0, start = 1, end = 2*s0 - 1, step = 1}
    return %1
  })",
                        MakeFloats({3, 2}, {0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(y[0].ref.dims, Sizes({4}));
  EXPECT_EQ(Floats(y[0].ref), std::vector<float>({1, 2, 3, 4}));
}

TEST(Evaluate, ReadsLiteralsAndReturnsInputsAndConstants) {
  auto y = EvaluateText(R"(graph @g(%x: f32[2]) {
    literal %c0: f32[2] = [10, 20]
    %0 = add(%x, %c0)
    return %0, %x, %c0
  })",
                        MakeFloats({2}, {1, 2}));
  EXPECT_EQ(Floats(y[0].ref), std::vector<float>({11, 22}));
  EXPECT_EQ(Floats(y[1].ref), std::vector<float>({1, 2}));
  EXPECT_EQ(Floats(y[2].ref), std::vector<float>({10, 20}));
}

TEST(Evaluate, RunsBodiesOfKernels) {
  auto y = EvaluateText(R"(graph @g(%x: f32[2]) {
    %0 = kernel(%x) {kind = "pointwise"} : f32[2]
      graph @body(%a: f32[2]) {
        %0 = neg(%a)
        %1 = relu(%0)
        return %1
      }
    return %0
  })",
                        MakeFloats({2}, {1, -2}));
  EXPECT_EQ(Floats(y[0].ref), std::vector<float>({0, 2}));
}

TEST(Evaluate, LaysOutputsOutAsTheirTypesSay) {
  auto y = EvaluateText(R"(graph @g(%x: f32[2, 3]) {
    %0 = neg(%x) : f32[2, 3]@10
    return %0
  })",
                        MakeFloats({2, 3}, {0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(y[0].ref.strides, Sizes({1, 2}));
  EXPECT_EQ(Floats(y[0].ref), std::vector<float>({-0.0f, -1, -2, -3, -4, -5}));
}

TEST(Evaluate, RejectsInputsThatDoNotFit) {
  constexpr std::string_view kText =
      "graph @g(%x: f32[s0, s0, 2]) where s0 in [1, 8] {\n  %0 = neg(%x)\n  return %0\n}";
  EXPECT_THROW(EvaluateText(kText, MakeFloats({2, 3, 2}, std::vector<float>(12))), Error);
  EXPECT_THROW(EvaluateText(kText, MakeFloats({2, 2}, std::vector<float>(4))), Error);
  EXPECT_THROW(EvaluateText(kText, MakeHostTensor(DType::kFloat64, {2, 2, 2})), Error);
  EXPECT_THROW(EvaluateGraph(ParseGraph(kText), {}), Error);
  EXPECT_NO_THROW(EvaluateText(kText, MakeFloats({3, 3, 2}, std::vector<float>(18))));
}

TEST(Evaluate, NamesAWeightWithoutData) {
  try {
    EvaluateText(R"(graph @g(%x: f32[2]) {
      weight %w0: f32[2] = "fc.bias"
      %0 = add(%x, %w0)
      return %0
    })",
                 MakeFloats({2}, {1, 2}));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_NE(error.message().find("fc.bias"), std::string::npos);
  }
}

TEST(Evaluate, RefusesTorchNodes) {
  try {
    EvaluateText(R"(graph @g(%x: f32[2]) {
      %0 = torch(%x) {target = "aten.sort.default", reason = "no op"} : f32[2]
      return %0
    })",
                 MakeFloats({2}, {1, 2}));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
  }
}

TEST(Evaluate, TakesNullDataOfEmptyInputs) {
  TensorRef empty{.data = nullptr, .dtype = DType::kFloat32, .dims = {0, 3}, .strides = {3, 1}};
  Graph graph = ParseGraph(
      "graph @g(%x: f32[0, 3]) {\n  %0 = sum(%x) {axes = [0], keepdim = false}\n  return %0\n}");
  auto y = EvaluateGraph(graph, std::span(&empty, 1));
  EXPECT_EQ(Floats(y[0].ref), std::vector<float>({0, 0, 0}));
}

}  // namespace
}  // namespace stator
