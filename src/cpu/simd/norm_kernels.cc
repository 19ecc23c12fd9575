// Softmax of columns and group norms on floats, compiled per SIMD target, and their plain forms for
// doubles.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/norm_kernels.cc"
#include <algorithm>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/norm_kernels.h"
#include "cpu/simd/row_folds.h"
#include "cpu/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {
namespace norm {

constexpr int64_t kStep = kLanes;

// ---- softmax: kVectors of columns stay in registers; sums run over blocks of rows, which bounds
// their error
template <bool logarithm, int kVectors, typename Get, typename Put>
HWY_INLINE void SoftmaxBlock(const float* x, int64_t x_pitch, float* y, int64_t y_pitch,
                             int64_t num_rows, Get get, Put put) {
  constexpr int64_t kBlock = 64;
  F tops[kVectors], sums[kVectors];
  for (int k = 0; k < kVectors; ++k) {
    tops[k] = F(-kInfinity);
    sums[k] = F(0);
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    const float* from = x + r * x_pitch;
    for (int k = 0; k < kVectors; ++k) tops[k] = MaxOrSecond(tops[k], get(from + k * kStep));
  }
  for (int64_t first = 0; first < num_rows; first += kBlock) {
    F parts[kVectors];
    for (int k = 0; k < kVectors; ++k) parts[k] = F(0);
    for (int64_t r = first; r < std::min(num_rows, first + kBlock); ++r) {
      const float* from = x + r * x_pitch;
      float* to = y + r * y_pitch;
      for (int k = 0; k < kVectors; ++k) {
        F e = exp(get(from + k * kStep) - tops[k]);
        parts[k] = parts[k] + e;
        if (!logarithm) put(e, to + k * kStep);
      }
    }
    for (int k = 0; k < kVectors; ++k) sums[k] = sums[k] + parts[k];
  }
  for (int k = 0; k < kVectors; ++k) sums[k] = logarithm ? log(sums[k]) : F(1) / sums[k];
  for (int64_t r = 0; r < num_rows; ++r) {
    const float* from = x + r * x_pitch;
    float* to = y + r * y_pitch;
    for (int k = 0; k < kVectors; ++k) {
      F value =
          logarithm ? get(from + k * kStep) - tops[k] - sums[k] : get(to + k * kStep) * sums[k];
      put(value, to + k * kStep);
    }
  }
}

template <bool logarithm>
void Softmax(const float* x, int64_t x_pitch, float* y, int64_t y_pitch, int64_t num_rows,
             int64_t n) {
  auto get = [](const float* p) HWY_ATTR { return Load(p); };
  auto put = [](F v, float* p) HWY_ATTR { Store(v, p); };
  int64_t j = 0;
  for (; j + 4 * kStep <= n; j += 4 * kStep) {
    SoftmaxBlock<logarithm, 4>(x + j, x_pitch, y + j, y_pitch, num_rows, get, put);
  }
  for (; j + kStep <= n; j += kStep) {
    SoftmaxBlock<logarithm, 1>(x + j, x_pitch, y + j, y_pitch, num_rows, get, put);
  }
  if (j == n) return;
  size_t rest = static_cast<size_t>(n - j);
  SoftmaxBlock<logarithm, 1>(
      x + j, x_pitch, y + j, y_pitch, num_rows,
      [rest](const float* p) HWY_ATTR { return LoadFirst(p, rest); },
      [rest](F v, float* p) HWY_ATTR { StoreFirst(v, p, rest); });
}

// ---- group norm
float Sum(const float* x, int64_t n) {
  return FoldRow<SumFold>(x, n, [](F v) HWY_ATTR { return v; });
}

float Squares(const float* x, int64_t n, float centre) {
  F c(centre);
  return FoldRow<SumFold>(x, n, [c](F v) HWY_ATTR { return (v - c) * (v - c); });
}

// sums[j] += the sum of map(j, x[r * pitch + j]) over the rows.
template <typename Map>
HWY_INLINE void AddMapped(double* sums, const float* x, int64_t pitch, int64_t num_rows, int64_t n,
                          Map map) {
  HWY_ALIGN float lanes[kLanes];
  for (int64_t j = 0; j < n; j += kStep) {
    size_t count = static_cast<size_t>(std::min(kStep, n - j));
    F sum(0);
    auto add = [&](auto get) HWY_ATTR {
      for (int64_t r = 0; r < num_rows; ++r) sum = sum + map(j, get(x + r * pitch + j), get);
    };
    if (count == kLanes) {
      add([](const float* p) HWY_ATTR { return Load(p); });
    } else {
      add([count](const float* p) HWY_ATTR { return LoadFirst(p, count); });
    }
    hn::Store(sum.v, kD, lanes);
    for (size_t i = 0; i < count; ++i) sums[j + static_cast<int64_t>(i)] += lanes[i];
  }
}

void AddColumns(double* sums, const float* x, int64_t pitch, int64_t num_rows, int64_t n) {
  AddMapped(sums, x, pitch, num_rows, n, [](int64_t, F v, auto&&) HWY_ATTR { return v; });
}

void AddSquares(double* sums, const float* x, int64_t pitch, int64_t num_rows, int64_t n,
                const float* centre) {
  AddMapped(sums, x, pitch, num_rows, n, [centre](int64_t j, F v, auto&& get) HWY_ATTR {
    F distance = v - get(centre + j);
    return distance * distance;
  });
}

void Affine(float* y, const float* x, int64_t n, float centre, float scale, float shift) {
  F c(centre), s(scale), t(shift);
  MapRow(y, x, n, [=](F v, auto&&) HWY_ATTR { return mul_add(v - c, s, t); });
}

void AffineColumns(float* y, const float* x, int64_t n, const float* centre, const float* scale,
                   const float* shift) {
  MapRow(y, x, n, [=](F v, auto&& get) HWY_ATTR {
    return mul_add(v - get(centre), get(scale), get(shift));
  });
}

}  // namespace norm
}  // namespace simd

NormKernels<float> FindNormKernels() {
  using namespace simd::norm;  // NOLINT
  return {.sum = Sum,
          .squares = Squares,
          .add_columns = AddColumns,
          .add_squares = AddSquares,
          .affine = Affine,
          .affine_columns = AffineColumns};
}

SoftmaxColumns FindSoftmaxColumns(bool logarithm) {
  return logarithm ? simd::norm::Softmax<true> : simd::norm::Softmax<false>;
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {
namespace {

double PlainSum(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

double PlainSquares(const double* x, int64_t n, double centre) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - centre) * (x[i] - centre);
  return sum;
}

void PlainAddColumns(double* sums, const double* x, int64_t pitch, int64_t num_rows, int64_t n) {
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t j = 0; j < n; ++j) sums[j] += x[r * pitch + j];
  }
}

void PlainAddSquares(double* sums, const double* x, int64_t pitch, int64_t num_rows, int64_t n,
                     const double* centre) {
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t j = 0; j < n; ++j) {
      double distance = x[r * pitch + j] - centre[j];
      sums[j] += distance * distance;
    }
  }
}

void PlainAffine(double* y, const double* x, int64_t n, double centre, double scale, double shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - centre) * scale + shift;
}

void PlainAffineColumns(double* y, const double* x, int64_t n, const double* centre,
                        const double* scale, const double* shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - centre[i]) * scale[i] + shift[i];
}

}  // namespace

HWY_EXPORT(FindNormKernels);
HWY_EXPORT(FindSoftmaxColumns);

template <>
NormKernels<float> GetNormKernels<float>() {
  return HWY_DYNAMIC_DISPATCH(FindNormKernels)();
}

template <>
NormKernels<double> GetNormKernels<double>() {
  return {.sum = PlainSum,
          .squares = PlainSquares,
          .add_columns = PlainAddColumns,
          .add_squares = PlainAddSquares,
          .affine = PlainAffine,
          .affine_columns = PlainAffineColumns};
}

SoftmaxColumns GetSoftmaxColumns(bool logarithm) {
  return HWY_DYNAMIC_DISPATCH(FindSoftmaxColumns)(logarithm);
}

}  // namespace stator
#endif
