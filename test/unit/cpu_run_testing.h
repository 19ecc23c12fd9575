// What the tests of CPU steps share: inputs in any layout, a run of a prepared step, and the
// comparison with the reference evaluator.
//
// Outputs are written into tensors with a margin, which must stay untouched.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "cpu/run/step.h"
#include "cpu/simd/simd_target.h"
#include "ops/evaluate.h"

// After simd_target.h, which says which targets there are.
#include <hwy/highway.h>

namespace stator::testing {

// Calls fn with each instruction set that the machine has, kernels found in it using that one.
inline void ForEachSimdTarget(const std::function<void()>& fn) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    fn();
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

// How a tensor's elements lie: row-major; in reverse order of dims; with gaps; or, for rank 4,
// channels last.
enum class Layout { kDense, kReversed, kGaps, kChannelsLast };
inline constexpr Layout kLayouts[] = {Layout::kDense, Layout::kReversed, Layout::kGaps,
                                      Layout::kChannelsLast};

constexpr int64_t kMargin = 64;  // elements before and after a tensor
constexpr std::byte kUntouched{0xa5};

inline HostTensor MakeInLayout(DType dtype, const Sizes& dims, Layout layout) {
  std::vector<int> order;  // innermost first
  int rank = static_cast<int>(dims.size());
  for (int i = rank; i-- > 0;) order.push_back(i);
  if (layout == Layout::kReversed) std::reverse(order.begin(), order.end());
  if (layout == Layout::kChannelsLast && rank == 4) order = {1, 3, 2, 0};
  Sizes strides(dims.size());
  int64_t stride = layout == Layout::kGaps ? 2 : 1;
  for (int dim : order) {
    strides[dim] = stride;
    stride *= dims[dim] + (layout == Layout::kGaps ? 1 : 0);
  }
  HostTensor tensor = MakeHostTensor(dtype, {stride + 2 * kMargin});
  std::fill(tensor.storage.begin(), tensor.storage.end(), kUntouched);
  tensor.ref.data += kMargin * static_cast<int64_t>(DTypeSize(dtype));
  tensor.ref.dims = dims;
  tensor.ref.strides = strides;
  return tensor;
}

// Floats are normal, with a special value here and there; integers in [-20, 20].
inline void FillRandom(const TensorRef& tensor, std::mt19937& random, bool special) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kSpecial[] = {0.0f, -0.0f, kInf, -kInf, NAN, 1e-40f, -1e-40f, 88.0f, -104.0f};
  std::normal_distribution<float> normal(0.0f, 2.0f);
  DispatchDType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
      float value = normal(random);
      if constexpr (std::is_same_v<T, bool>) {
        value = random() % 2;
      } else if constexpr (!scalar::kIsFloatElement<T>) {
        value = static_cast<float>(static_cast<int>(random() % 41) - 20);
      } else if (special && random() % 4 == 0) {
        value = kSpecial[random() % std::size(kSpecial)];
      }
      Data<T>(tensor)[at[0]] = scalar::CastTo<T>(value);
    });
  });
}

inline double ElementAt(const TensorRef& tensor, int64_t offset) {
  double value = 0;
  DispatchDType(tensor.dtype, [&](auto zero) {
    value = scalar::CastTo<double>(Data<decltype(zero)>(tensor)[offset]);
  });
  return value;
}

// torch.testing.assert_close's defaults by dtype; integers are equal.
inline void ExpectClose(const TensorRef& found, const TensorRef& expected) {
  double rtol = 0, atol = 0;
  switch (expected.dtype) {
    case DType::kFloat16: rtol = 1e-3, atol = 1e-5; break;
    case DType::kBFloat16: rtol = 1.6e-2, atol = 1e-5; break;
    case DType::kFloat32: rtol = 1.3e-6, atol = 1e-5; break;
    case DType::kFloat64: rtol = 1e-7, atol = 1e-7; break;
    default: break;
  }
  int64_t num_wrong = 0;
  ForEachOffset<2>(expected.dims, {found.strides, expected.strides}, [&](const auto& at) {
    double a = ElementAt(found, at[0]), b = ElementAt(expected, at[1]);
    if (a == b || (std::isnan(a) && std::isnan(b))) return;
    if (std::abs(a - b) <= atol + rtol * std::abs(b)) return;
    if (num_wrong++ < 3) ADD_FAILURE() << "at offset " << at[1] << ": " << a << ", not " << b;
  });
  EXPECT_EQ(num_wrong, 0);
}

inline void ExpectMarginUntouched(const HostTensor& tensor) {
  int64_t bytes = kMargin * static_cast<int64_t>(DTypeSize(tensor.ref.dtype));
  auto untouched = [](std::byte byte) { return byte == kUntouched; };
  EXPECT_TRUE(std::all_of(tensor.storage.begin(), tensor.storage.begin() + bytes, untouched));
  EXPECT_TRUE(std::all_of(tensor.storage.end() - bytes, tensor.storage.end(), untouched));
}

using PrepareFn = std::unique_ptr<PreparedStep> (*)(const StepSite& site);

// Runs a prepared step on tensors that carry their data.
inline void RunStep(const PreparedStep& prepared, const std::vector<TensorRef>& inputs,
                    const std::vector<TensorRef>& outputs) {
  std::vector<std::byte*> in, out;
  for (const TensorRef& input : inputs) in.push_back(input.data);
  for (const TensorRef& output : outputs) out.push_back(output.data);
  std::vector<std::byte> ws(prepared.ws_bytes() + 64);
  auto address = reinterpret_cast<uintptr_t>(ws.data());
  std::byte* aligned = ws.data() + (64 - address % 64) % 64;
  prepared.Run({.inputs = in.data(), .outputs = out.data(), .ws = aligned});
}

// Prepares and runs `body` and compares with the reference evaluator. Returns whether the step is
// the reference one, which has no workspace.
inline bool CheckStep(PrepareFn prepare, const Graph& body, const std::vector<TensorRef>& inputs,
                      Layout output_layout) {
  std::vector<HostTensor> expected = EvaluateGraph(body, inputs);
  std::vector<HostTensor> found;
  std::vector<TensorRef> outputs;
  for (const HostTensor& tensor : expected) {
    found.push_back(MakeInLayout(tensor.ref.dtype, tensor.ref.dims, output_layout));
    outputs.push_back(found.back().ref);
  }
  Step step;
  StepSite site{.step = &step, .body = body, .inputs = inputs, .outputs = outputs};
  for (TensorRef& tensor : site.inputs) tensor.data = nullptr;
  for (TensorRef& tensor : site.outputs) tensor.data = nullptr;
  std::unique_ptr<PreparedStep> prepared = prepare(site);
  RunStep(*prepared, inputs, outputs);
  for (size_t i = 0; i < expected.size(); ++i) {
    ExpectClose(outputs[i], expected[i].ref);
    ExpectMarginUntouched(found[i]);
  }
  return prepared->ws_bytes() == 0;
}

}  // namespace stator::testing
