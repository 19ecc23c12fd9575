// Rows that run along one dim and give something for each element: sums, products and extrema of
// the elements up to it.
//
// Floats are accumulated in double, integers wrap.
#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

std::vector<TensorType> InferScan(const InferContext& context) {
  RequireNumber(context.input(0), "x");
  GetAxis(context.attrs, "dim", context.input(0).rank());
  return OneOutput(context.input(0).dtype, context.input(0).dims);
}

std::vector<TensorType> InferFloatScan(const InferContext& context) {
  RequireFloat(context.input(0), "x");
  return InferScan(context);
}

std::vector<TensorType> InferPlacedScan(const InferContext& context) {
  std::vector<TensorType> types = InferScan(context);
  types.push_back({.dtype = DType::kInt64, .dims = types[0].dims, .order = {}});
  return types;
}

// Calls fn(element, offset of output k) along each line; start() comes before each.
template <typename T, size_t N, typename Start, typename Fn>
void ForEachInLines(const Attrs& attrs, const TensorRef& x, std::span<TensorRef> outputs,
                    Start&& start, Fn&& fn) {
  const int64_t axes[] = {attrs.GetInt("dim")};
  Sizes outer = Drop(x.dims, axes), x_strides = Drop(x.strides, axes);
  std::array<Sizes, N> strides;
  std::array<std::span<const int64_t>, N + 1> all{x_strides};
  for (size_t k = 0; k < N; ++k) {
    strides[k] = Drop(outputs[k].strides, axes);
    all[k + 1] = strides[k];
  }
  ForEachOffset<N + 1>(outer, all, [&](const auto& base) {
    start();
    std::array<int64_t, N> at;
    for (int64_t i = 0; i < x.dims[axes[0]]; ++i) {
      for (size_t k = 0; k < N; ++k) at[k] = base[k + 1] + i * outputs[k].strides[axes[0]];
      fn(i, Data<T>(x)[base[0] + i * x.strides[axes[0]]], at);
    }
  });
}

template <bool product>
void ReferenceScan(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using Sum = Accumulator<T>;
    Sum sum = 0;
    ForEachInLines<T, 1>(
        attrs, inputs[0], outputs, [&] { sum = product ? Sum(1) : Sum(0); },
        [&](int64_t, T element, const auto& at) {
          Sum value = ToAccumulator(element);
          sum = product ? Sum(sum * value) : Sum(sum + value);
          Data<T>(outputs[0])[at[0]] = scalar::CastTo<T>(sum);
        });
  });
}

template <typename T>
bool IsNan(T value) {
  if constexpr (std::is_floating_point_v<T>) return std::isnan(value);
  return false;
}

// As torch: of equal elements the last, and NaN from the first one on, at its last place so far.
template <bool largest>
void ReferenceExtremumScan(const Attrs& attrs, std::span<const TensorRef> inputs,
                           std::span<TensorRef> outputs) {
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    T best{};
    int64_t place = 0;
    ForEachInLines<T, 2>(
        attrs, inputs[0], outputs, [] {},
        [&](int64_t i, T element, const auto& at) {
          auto value = scalar::ToCompute(element), held = scalar::ToCompute(best);
          bool beats = IsNan(value) || (!IsNan(held) && (largest ? value >= held : value <= held));
          if (i == 0 || beats) {
            best = element;
            place = i;
          }
          Data<T>(outputs[0])[at[0]] = best;
          Data<int64_t>(outputs[1])[at[1]] = place;
        });
  });
}

void ReferenceLogSumExpScan(const Attrs& attrs, std::span<const TensorRef> inputs,
                            std::span<TensorRef> outputs) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    double sum = 0;
    ForEachInLines<T, 1>(
        attrs, inputs[0], outputs, [&] { sum = -kInfinity; },
        [&](int64_t, T element, const auto& at) {
          double value = ToAccumulator(element);
          double low = std::min(sum, value), high = std::max(sum, value);
          if (value != value || sum != sum) {
            sum = std::numeric_limits<double>::quiet_NaN();
          } else if (low != high || std::isfinite(low)) {
            sum = high + std::log1p(std::exp(low - high));
          }
          Data<T>(outputs[0])[at[0]] = scalar::CastTo<T>(sum);
        });
  });
}

// ---- rows
constexpr AttrDef kScanAttrs[] = {{"dim", AttrDef::kInt, true, "the dim to run along"}};
constexpr OpSample kScanSamples[] = {
    {"_[4, 5]", "{dim = 1}"}, {"_[4, 5]", "{dim = 0}"}, {"_[2, 3, 7]", "{dim = 1}"},
    {"_[1, 1]", "{dim = 0}"}, {"_[0, 3]", "{dim = 1}"}, {"_[3, 0]", "{dim = 1}"},
    {"_[67]", "{dim = 0}"},
};

OpDef MakeScan(int id, std::string_view name, TypeRule infer, ReferenceFn reference,
               std::string_view torch, std::string_view doc) {
  return {.id = id,
          .name = name,
          .min_inputs = 1,
          .max_inputs = 1,
          .attrs = kScanAttrs,
          .infer = infer,
          .reference = reference,
          .samples = kScanSamples,
          .torch = torch,
          .doc = doc};
}

const OpDef kRows[] = {
    MakeScan(410, "cumsum", InferScan, ReferenceScan<false>,
             "torch.cumsum(x[0], a['dim'], dtype=x[0].dtype)", "sums of the elements up to each"),
    MakeScan(411, "cumprod", InferScan, ReferenceScan<true>,
             "torch.cumprod(x[0], a['dim'], dtype=x[0].dtype)",
             "products of the elements up to each"),
    MakeScan(412, "cummax", InferPlacedScan, ReferenceExtremumScan<true>,
             "torch.cummax(x[0], a['dim'])",
             "the largest of the elements up to each, and where it is; of equal ones the last"),
    MakeScan(413, "cummin", InferPlacedScan, ReferenceExtremumScan<false>,
             "torch.cummin(x[0], a['dim'])",
             "the smallest of the elements up to each, and where it is; of equal ones the last"),
    MakeScan(414, "logcumsumexp", InferFloatScan, ReferenceLogSumExpScan,
             "torch.logcumsumexp(x[0], a['dim'])",
             "log of the sum of the exponentials of the elements up to each"),
};

}  // namespace

std::span<const OpDef> ScanRows() { return kRows; }

}  // namespace stator
