// Loops that the compiler vectorises, compiled per SIMD target. Sums along a line depend on each
// other: what runs side by side is lines.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/scan_kernels.cc"
#include <algorithm>
#include <type_traits>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/scan_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace scan {

template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

template <typename T>
using Sum = std::conditional_t<kIsHalf<T>, float,
                               std::conditional_t<std::is_integral_v<T>, uint64_t, double>>;

template <typename T>
Sum<T> Widen(T value) {
  if constexpr (kIsHalf<T>) {
    return static_cast<float>(value);
  } else {
    return static_cast<Sum<T>>(value);
  }
}

template <bool is_product, typename T>
HWY_INLINE T Step(Sum<T>& sum, T value) {
  sum = is_product ? sum * Widen(value) : sum + Widen(value);
  return static_cast<T>(sum);
}

template <bool is_product, typename T>
void ScanColumns(const ScanShape& shape, const T* HWY_RESTRICT x, T* y, int64_t num) {
  Sum<T> sums[kScanColumns];
  std::fill_n(sums, num, Sum<T>(is_product ? 1 : 0));
  for (int64_t i = 0; i < shape.size; ++i, x += shape.x_step, y += shape.y_step) {
    T* HWY_RESTRICT to = y;
    for (int64_t j = 0; j < num; ++j) to[j] = Step<is_product>(sums[j], x[j]);
  }
}

template <bool is_product, typename T>
void ScanLines(const ScanShape& shape, const T* x, T* y, const int64_t* x_offsets,
               const int64_t* y_offsets, int64_t num) {
  // Sums of floats wait for each other: lines side by side fill the time. Integers do not.
  if (num < kScanLines || std::is_integral_v<T>) {
    for (int64_t j = 0; j < num; ++j) {
      Sum<T> sum(is_product ? 1 : 0);
      const T* from = x + x_offsets[j];
      T* to = y + y_offsets[j];
      if (shape.x_step == 1 && shape.y_step == 1) {
        for (int64_t i = 0; i < shape.size; ++i) to[i] = Step<is_product>(sum, from[i]);
        continue;
      }
      for (int64_t i = 0; i < shape.size; ++i) {
        to[i * shape.y_step] = Step<is_product>(sum, from[i * shape.x_step]);
      }
    }
    return;
  }
  const T* from[kScanLines];
  T* to[kScanLines];
  Sum<T> sums[kScanLines];
  for (int64_t j = 0; j < kScanLines; ++j) {
    from[j] = x + x_offsets[j];
    to[j] = y + y_offsets[j];
    sums[j] = Sum<T>(is_product ? 1 : 0);
  }
  for (int64_t i = 0; i < shape.size; ++i) {
    for (int64_t j = 0; j < kScanLines; ++j) {
      to[j][i * shape.y_step] = Step<is_product>(sums[j], from[j][i * shape.x_step]);
    }
  }
}

template <typename T>
void Columns(const ScanShape& shape, const std::byte* x, std::byte* y, int64_t num) {
  auto scan = shape.is_product ? ScanColumns<true, T> : ScanColumns<false, T>;
  scan(shape, reinterpret_cast<const T*>(x), reinterpret_cast<T*>(y), num);
}

template <typename T>
void Lines(const ScanShape& shape, const std::byte* x, std::byte* y, const int64_t* x_offsets,
           const int64_t* y_offsets, int64_t num) {
  auto scan = shape.is_product ? ScanLines<true, T> : ScanLines<false, T>;
  scan(shape, reinterpret_cast<const T*>(x), reinterpret_cast<T*>(y), x_offsets, y_offsets, num);
}

}  // namespace scan

ScanKernel FindScanKernel(DType dtype) {
  return DispatchDType(dtype, [](auto zero) {
    using T = decltype(zero);
    return ScanKernel{.columns = scan::Columns<T>, .lines = scan::Lines<T>};
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(FindScanKernel);

ScanKernel GetScanKernel(DType dtype) { return HWY_DYNAMIC_DISPATCH(FindScanKernel)(dtype); }

}  // namespace stator
#endif
