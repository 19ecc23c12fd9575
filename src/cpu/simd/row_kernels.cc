// Tape instructions on rows: softmax, norms and reductions of floats, compiled per SIMD target, and
// their plain forms for doubles and integers.
//
// Sums of floats run in sixteen or more interleaved partial sums, which bounds their error as
// pairwise summation does for rows of a tile's length; statistics take two passes over the row.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/row_kernels.cc"
#include <algorithm>
#include <cmath>
#include <limits>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/half_folds.h"
#include "cpu/simd/row_folds.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {

// ---- maps
void Softmax(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  auto* x = static_cast<const float*>(a);
  auto* y = static_cast<float*>(out);
  F top(FoldRow<TopFold>(x, n, [](F v) HWY_ATTR { return v; }));
  F sums[2] = {0, 0};
  constexpr int64_t kStep = kLanes;
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    for (int k = 0; k < 2; ++k) {
      F e = exp(Load(x + i + k * kStep) - top);
      Store(e, y + i + k * kStep);
      sums[k] = sums[k] + e;
    }
  }
  for (; i < n; i += kStep) {
    size_t count = static_cast<size_t>(std::min(kStep, n - i));
    F e = KeepFirst<SumFold>(exp(LoadFirst(x + i, count) - top), count);
    StoreFirst(e, y + i, count);
    sums[0] = sums[0] + e;
  }
  F scale(1.0f / SumFold::Finish(sums[0] + sums[1]));
  MapRow(y, y, n, [scale](F v, auto&&) HWY_ATTR { return v * scale; });
}

void LogSoftmax(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  auto* x = static_cast<const float*>(a);
  F top(FoldRow<TopFold>(x, n, [](F v) HWY_ATTR { return v; }));
  float sum = FoldRow<SumFold>(x, n, [top](F v) HWY_ATTR { return exp(v - top); });
  F shift(std::log(sum));
  MapRow(static_cast<float*>(out), x, n,
         [top, shift](F v, auto&&) HWY_ATTR { return v - top - shift; });
}

float MeanOf(const float* x, int64_t n) {
  return FoldRow<SumFold>(x, n, [](F v) HWY_ATTR { return v; }) / static_cast<float>(n);
}

float SquaresAround(const float* x, int64_t n, float mean) {
  F centre(mean);
  return FoldRow<SumFold>(x, n, [centre](F v) HWY_ATTR { return (v - centre) * (v - centre); });
}

void Normalise(float* y, const float* x, const float* weight, const float* bias, float mean,
               float square, double eps, int64_t n) {
  F centre(mean), scale(static_cast<float>(1.0 / std::sqrt(static_cast<double>(square) + eps)));
  if (weight != nullptr && bias != nullptr) {
    MapRow(y, x, n, [=](F v, auto&& get) HWY_ATTR {
      return mul_add((v - centre) * scale, get(weight), get(bias));
    });
  } else if (weight != nullptr) {
    MapRow(y, x, n, [=](F v, auto&& get) HWY_ATTR { return (v - centre) * scale * get(weight); });
  } else if (bias != nullptr) {
    MapRow(y, x, n,
           [=](F v, auto&& get) HWY_ATTR { return mul_add(v - centre, scale, get(bias)); });
  } else {
    MapRow(y, x, n, [=](F v, auto&&) HWY_ATTR { return (v - centre) * scale; });
  }
}

void LayerNorm(void* out, const void* a, const void* weight, const void* bias, const double* params,
               int64_t n) {
  auto* x = static_cast<const float*>(a);
  float mean = MeanOf(x, n);
  float square = SquaresAround(x, n, mean) / static_cast<float>(n);
  Normalise(static_cast<float*>(out), x, static_cast<const float*>(weight),
            static_cast<const float*>(bias), mean, square, params[0], n);
}

void RmsNorm(void* out, const void* a, const void* weight, const void*, const double* params,
             int64_t n) {
  auto* x = static_cast<const float*>(a);
  float square = SquaresAround(x, n, 0) / static_cast<float>(n);
  Normalise(static_cast<float*>(out), x, static_cast<const float*>(weight), nullptr, 0, square,
            params[0], n);
}

TapeKernel FindMap(std::string_view op) {
  if (op == "softmax") return Softmax;
  if (op == "log_softmax") return LogSoftmax;
  if (op == "layer_norm") return LayerNorm;
  if (op == "rms_norm") return RmsNorm;
  return nullptr;
}

// ---- reductions
template <typename Fold, typename T = float>
void Reduce(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  *static_cast<float*>(out) =
      FoldRow<Fold>(static_cast<const T*>(a), n, [](F v) HWY_ATTR { return v; });
}

void Mean(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  *static_cast<float*>(out) = MeanOf(static_cast<const float*>(a), n);
}

void Var(void* out, const void* a, const void*, const void*, const double* params, int64_t n) {
  auto* x = static_cast<const float*>(a);
  double divisor = std::max(0.0, static_cast<double>(n) - params[0]);
  *static_cast<float*>(out) = static_cast<float>(SquaresAround(x, n, MeanOf(x, n)) / divisor);
}

TapeKernel FindReduce(std::string_view op) {
  if (op == "sum") return Reduce<SumFold>;
  if (op == "prod") return Reduce<ProdFold>;
  if (op == "amax") return Reduce<MaxFold>;
  if (op == "amin") return Reduce<MinFold>;
  if (op == "mean") return Mean;
  if (op == "var") return Var;
  return nullptr;
}

template <typename Fold, typename T = float>
void FoldColumns(void* out, const void* a, int64_t pitch, int64_t num_rows, int64_t n) {
  auto* x = static_cast<const T*>(a);
  auto* y = static_cast<float*>(out);
  constexpr int64_t kStep = kLanes;
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    F folds[4] = {Fold::kNeutral, Fold::kNeutral, Fold::kNeutral, Fold::kNeutral};
    for (int64_t row = 0; row < num_rows; ++row) {
      const T* from = x + row * pitch + i;
      for (int k = 0; k < 4; ++k) folds[k] = Fold::Call(folds[k], Load(from + k * kStep));
    }
    for (int k = 0; k < 4; ++k) Store(folds[k], y + i + k * kStep);
  }
  for (; i < n; i += kStep) {
    size_t count = static_cast<size_t>(std::min(kStep, n - i));
    F fold(Fold::kNeutral);
    for (int64_t row = 0; row < num_rows; ++row) {
      fold = Fold::Call(fold, LoadFirst(x + row * pitch + i, count));
    }
    StoreFirst(fold, y + i, count);
  }
}

ColumnKernel FindColumns(std::string_view op) {
  if (op == "sum") return FoldColumns<SumFold>;
  if (op == "prod") return FoldColumns<ProdFold>;
  if (op == "amax") return FoldColumns<MaxFold>;
  if (op == "amin") return FoldColumns<MinFold>;
  return nullptr;
}

template <typename T>
HalfFolds FindFoldsOf(std::string_view op) {
  if (op == "sum") return {Reduce<SumFold, T>, FoldColumns<SumFold, T>};
  if (op == "prod") return {Reduce<ProdFold, T>, FoldColumns<ProdFold, T>};
  if (op == "amax") return {Reduce<MaxFold, T>, FoldColumns<MaxFold, T>};
  if (op == "amin") return {Reduce<MinFold, T>, FoldColumns<MinFold, T>};
  return {};
}

HalfFolds FindFolds(std::string_view op, DType dtype) {
  if (dtype == DType::kBFloat16) return FindFoldsOf<BFloat16>(op);
  if constexpr (kConvertsVectors<Float16>) {
    if (dtype == DType::kFloat16) return FindFoldsOf<Float16>(op);
  }
  return {};
}

}  // namespace simd
using simd::FindColumns;
using simd::FindFolds;
using simd::FindMap;
using simd::FindReduce;
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {
namespace {

using scalar::Compute;

// ---- the same on doubles and integers, one element after the other
enum class Fold { kSum, kProd, kMax, kMin };

template <Fold fold, typename C>
C Combine(C a, C b) {
  using scalar::maximum;
  using scalar::minimum;
  switch (fold) {
    case Fold::kSum: return a + b;
    case Fold::kProd: return a * b;
    case Fold::kMax: return maximum(a, b);
    case Fold::kMin: return minimum(a, b);
  }
}

template <Fold fold, typename T>
T Neutral() {
  using Limits = std::numeric_limits<T>;
  switch (fold) {
    case Fold::kSum: return T{0};
    case Fold::kProd: return T{1};
    case Fold::kMax: return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    case Fold::kMin: return Limits::has_infinity ? Limits::infinity() : Limits::max();
  }
}

template <Fold fold, typename T>
void PlainReduce(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  using C = Compute<T>;
  C result(Neutral<fold, T>());
  for (int64_t i = 0; i < n; ++i) result = Combine<fold, C>(result, C(static_cast<const T*>(a)[i]));
  *static_cast<T*>(out) = scalar::CastTo<T>(result);
}

template <Fold fold, typename T>
void PlainColumns(void* out, const void* a, int64_t pitch, int64_t num_rows, int64_t n) {
  using C = Compute<T>;
  auto* to = static_cast<T*>(out);
  std::fill(to, to + n, Neutral<fold, T>());
  for (int64_t row = 0; row < num_rows; ++row) {
    auto* from = static_cast<const T*>(a) + row * pitch;
    for (int64_t i = 0; i < n; ++i) {
      to[i] = scalar::CastTo<T>(Combine<fold, C>(C(to[i]), C(from[i])));
    }
  }
}

double MeanOf(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum / static_cast<double>(n);
}

double SquaresAround(const double* x, int64_t n, double mean) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

template <bool logarithm>
void PlainSoftmax(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  auto* x = static_cast<const double*>(a);
  auto* y = static_cast<double*>(out);
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i) top = scalar::maximum(top, x[i]);
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
  for (int64_t i = 0; i < n; ++i) {
    y[i] = logarithm ? x[i] - top - std::log(sum) : std::exp(x[i] - top) / sum;
  }
}

template <bool centred>
void PlainNorm(void* out, const void* a, const void* weight, const void* bias, const double* params,
               int64_t n) {
  auto* x = static_cast<const double*>(a);
  auto *w = static_cast<const double*>(weight), *b = static_cast<const double*>(bias);
  double mean = centred ? MeanOf(x, n) : 0;
  double scale = 1 / std::sqrt(SquaresAround(x, n, mean) / static_cast<double>(n) + params[0]);
  for (int64_t i = 0; i < n; ++i) {
    double value = (x[i] - mean) * scale * (w != nullptr ? w[i] : 1) + (b != nullptr ? b[i] : 0);
    static_cast<double*>(out)[i] = value;
  }
}

void PlainMean(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  *static_cast<double*>(out) = MeanOf(static_cast<const double*>(a), n);
}

void PlainVar(void* out, const void* a, const void*, const void*, const double* params, int64_t n) {
  auto* x = static_cast<const double*>(a);
  double divisor = std::max(0.0, static_cast<double>(n) - params[0]);
  *static_cast<double*>(out) = SquaresAround(x, n, MeanOf(x, n)) / divisor;
}

// Calls fn with a zero of the type in a register of the class, f32 apart.
template <typename Fn>
auto DispatchPlainClass(TapeClass tape_class, Fn&& fn) {
  switch (tape_class) {
    case TapeClass::kF64: return fn(double{});
    case TapeClass::kU8: return fn(uint8_t{});
    case TapeClass::kI8: return fn(int8_t{});
    case TapeClass::kI16: return fn(int16_t{});
    case TapeClass::kI32: return fn(int32_t{});
    default: return fn(int64_t{});
  }
}

template <typename T>
TapeKernel FindPlainReduce(std::string_view op) {
  if (op == "sum") return PlainReduce<Fold::kSum, T>;
  if (op == "prod") return PlainReduce<Fold::kProd, T>;
  if (op == "amax") return PlainReduce<Fold::kMax, T>;
  if (op == "amin") return PlainReduce<Fold::kMin, T>;
  if (std::is_same_v<T, double> && op == "mean") return PlainMean;
  if (std::is_same_v<T, double> && op == "var") return PlainVar;
  return nullptr;
}

template <typename T>
ColumnKernel FindPlainColumns(std::string_view op) {
  if (op == "sum") return PlainColumns<Fold::kSum, T>;
  if (op == "prod") return PlainColumns<Fold::kProd, T>;
  if (op == "amax") return PlainColumns<Fold::kMax, T>;
  if (op == "amin") return PlainColumns<Fold::kMin, T>;
  return nullptr;
}

TapeKernel FindPlainMap(std::string_view op) {
  if (op == "softmax") return PlainSoftmax<false>;
  if (op == "log_softmax") return PlainSoftmax<true>;
  if (op == "layer_norm") return PlainNorm<true>;
  if (op == "rms_norm") return PlainNorm<false>;
  return nullptr;
}

}  // namespace

HWY_EXPORT(FindMap);
HWY_EXPORT(FindReduce);
HWY_EXPORT(FindColumns);
HWY_EXPORT(FindFolds);

TapeKernel FindRowMapKernel(std::string_view op, TapeClass tape_class) {
  if (tape_class == TapeClass::kF32) return HWY_DYNAMIC_DISPATCH(FindMap)(op);
  return tape_class == TapeClass::kF64 ? FindPlainMap(op) : nullptr;
}

TapeKernel FindRowReduceKernel(std::string_view op, TapeClass tape_class) {
  if (tape_class == TapeClass::kF32) return HWY_DYNAMIC_DISPATCH(FindReduce)(op);
  return DispatchPlainClass(tape_class,
                            [&](auto zero) { return FindPlainReduce<decltype(zero)>(op); });
}

ColumnKernel FindColumnKernel(std::string_view op, TapeClass tape_class) {
  if (tape_class == TapeClass::kF32) return HWY_DYNAMIC_DISPATCH(FindColumns)(op);
  return DispatchPlainClass(tape_class,
                            [&](auto zero) { return FindPlainColumns<decltype(zero)>(op); });
}

HalfFolds FindHalfFolds(std::string_view op, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(FindFolds)(op, dtype);
}

}  // namespace stator
#endif
