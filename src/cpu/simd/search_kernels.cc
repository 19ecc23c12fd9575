// Loops that the compiler vectorises, compiled per SIMD target.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/search_kernels.cc"
#include <algorithm>
#include <type_traits>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/search_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace search {

template <typename T>
using Wide =
    std::conditional_t<std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>, float, T>;

template <bool largest, typename W>
HWY_INLINE bool Beats(W value, W best) {
  return largest ? value > best : value < best;
}

template <bool largest, typename T>
void Columns(int64_t size, int64_t step, const T* x, int32_t* HWY_RESTRICT places, int64_t num) {
  using W = Wide<T>;
  W best[kSearchColumns];
  for (int64_t j = 0; j < num; ++j) {
    best[j] = static_cast<W>(x[j]);
    places[j] = 0;
  }
  for (int64_t i = 1; i < size; ++i) {
    const T* HWY_RESTRICT row = x + i * step;
    int32_t place = static_cast<int32_t>(i);
    for (int64_t j = 0; j < num; ++j) {
      W value = static_cast<W>(row[j]), held = best[j];
      bool beats = (held == held) & ((value != value) | Beats<largest>(value, held));
      best[j] = beats ? value : held;
      places[j] = beats ? place : places[j];
    }
  }
}

// Block by block: only one with a better element, or NaN, is looked through.
template <bool largest, typename T>
int32_t Line(int64_t size, int64_t step, const T* x) {
  using W = Wide<T>;
  constexpr int64_t kBlock = 64;
  auto at = [&](int64_t i) { return static_cast<W>(x[i * step]); };
  W best = at(0);
  if (best != best) return 0;
  int64_t place = 0;
  for (int64_t first = 1; first < size; first += kBlock) {
    int64_t last = std::min(first + kBlock, size);
    W found = best;
    bool has_nan = false;
    if (step == 1) {
      for (int64_t i = first; i < last; ++i) {
        W value = static_cast<W>(x[i]);
        found = Beats<largest>(value, found) ? value : found;
        has_nan |= value != value;
      }
    } else {
      for (int64_t i = first; i < last; ++i) {
        W value = at(i);
        found = Beats<largest>(value, found) ? value : found;
        has_nan |= value != value;
      }
    }
    if (!has_nan && !Beats<largest>(found, best)) continue;
    for (int64_t i = first; i < last; ++i) {
      W value = at(i);
      if (value != value) return static_cast<int32_t>(i);
      if (Beats<largest>(value, best)) {
        best = value;
        place = i;
      }
    }
  }
  return static_cast<int32_t>(place);
}

template <typename T>
void FindInColumns(const SearchShape& shape, const std::byte* x, int32_t* places, int64_t num) {
  auto find = shape.is_largest ? Columns<true, T> : Columns<false, T>;
  find(shape.size, shape.step, reinterpret_cast<const T*>(x), places, num);
}

template <typename T>
int32_t FindInLine(const SearchShape& shape, const std::byte* x) {
  auto find = shape.is_largest ? Line<true, T> : Line<false, T>;
  return find(shape.size, shape.step, reinterpret_cast<const T*>(x));
}

}  // namespace search

SearchKernel FindSearchKernel(DType dtype) {
  return DispatchDType(dtype, [](auto zero) {
    using T = decltype(zero);
    return SearchKernel{.columns = search::FindInColumns<T>, .line = search::FindInLine<T>};
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(FindSearchKernel);

SearchKernel GetSearchKernel(DType dtype) { return HWY_DYNAMIC_DISPATCH(FindSearchKernel)(dtype); }

}  // namespace stator
#endif
