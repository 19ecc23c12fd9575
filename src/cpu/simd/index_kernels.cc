// Loops over indices, compiled per SIMD target. Indices are looked at a block before they are used,
// without a branch each.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/index_kernels.cc"
#include <algorithm>
#include <type_traits>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/index_kernels.h"
#include "cpu/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace indexed {

constexpr int64_t kBlock = 512;

template <typename T>
using SumOf =
    std::conditional_t<std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>, float, T>;

template <typename Index>
bool AreWithin(const Index* HWY_RESTRICT index, int64_t n, int64_t size) {
  using Unsigned = std::make_unsigned_t<Index>;
  constexpr uint64_t kEnd = uint64_t{1} << (8 * sizeof(Index) - 1);
  Unsigned end = static_cast<Unsigned>(std::min(static_cast<uint64_t>(size), kEnd)), is_out = 0;
  for (int64_t i = 0; i < n; ++i) {
    is_out |= static_cast<Unsigned>(static_cast<Unsigned>(index[i]) >= end);
  }
  return is_out == 0;
}

// Calls visit(far's offset, position in near) for all elements, if their indices are in range.
template <typename Index, typename Visit>
HWY_INLINE bool ForEach(const std::byte* indices, int64_t step, int64_t size, int64_t n,
                        Visit visit) {
  const Index* index = reinterpret_cast<const Index*>(indices);
  for (int64_t first = 0; first < n; first += kBlock) {
    int64_t num = std::min(kBlock, n - first);
    if (!AreWithin(index + first, num, size)) return false;
    if (step == 1) {
      for (int64_t i = first; i < first + num; ++i) visit(index[i], i);
    } else {
      for (int64_t i = first; i < first + num; ++i) visit(index[i] * step, i);
    }
  }
  return true;
}

template <typename T, typename Index>
bool Gather(std::byte* far, int64_t step, int64_t size, const std::byte* index, std::byte* near,
            int64_t n) {
  const T* HWY_RESTRICT from = reinterpret_cast<const T*>(far);
  T* HWY_RESTRICT to = reinterpret_cast<T*>(near);
  return ForEach<Index>(index, step, size, n,
                        [=](int64_t at, int64_t i) HWY_ATTR { to[i] = from[at]; });
}

template <typename T, typename Index>
bool Scatter(std::byte* far, int64_t step, int64_t size, const std::byte* index, std::byte* near,
             int64_t n) {
  T* HWY_RESTRICT to = reinterpret_cast<T*>(far);
  const T* HWY_RESTRICT from = reinterpret_cast<const T*>(near);
  return ForEach<Index>(index, step, size, n,
                        [=](int64_t at, int64_t i) HWY_ATTR { to[at] = from[i]; });
}

template <Reduce reduce, typename T, typename Index>
bool JoinLine(std::byte* far, int64_t step, int64_t size, const std::byte* index, std::byte* near,
              int64_t n) {
  using Sum = SumOf<T>;
  Sum* HWY_RESTRICT to = reinterpret_cast<Sum*>(far);
  const T* HWY_RESTRICT from = reinterpret_cast<const T*>(near);
  return ForEach<Index>(index, step, size, n, [=](int64_t at, int64_t i) HWY_ATTR {
    to[at] = Joined<reduce>(to[at], static_cast<Sum>(from[i]));
  });
}

template <Reduce reduce, typename T>
void Join(std::byte* to_bytes, const std::byte* from_bytes, int64_t n) {
  using Sum = SumOf<T>;
  Sum* HWY_RESTRICT to = reinterpret_cast<Sum*>(to_bytes);
  const T* HWY_RESTRICT from = reinterpret_cast<const T*>(from_bytes);
  for (int64_t i = 0; i < n; ++i) to[i] = Joined<reduce>(to[i], static_cast<Sum>(from[i]));
}

template <typename Fn>
auto DispatchReduce(Reduce reduce, Fn&& fn) {
  switch (reduce) {
    case Reduce::kProd: return fn(std::integral_constant<Reduce, Reduce::kProd>{});
    case Reduce::kMax: return fn(std::integral_constant<Reduce, Reduce::kMax>{});
    case Reduce::kMin: return fn(std::integral_constant<Reduce, Reduce::kMin>{});
    default: return fn(std::integral_constant<Reduce, Reduce::kSum>{});
  }
}

// ---- sums of rows: a block of columns stays in registers
template <int kVectors, typename Index>
HWY_INLINE void SumBlock(const float* rows, int64_t row_step, const Index* index,
                         const float* scales, int64_t n, float* sum) {
  using namespace simd;  // NOLINT
  constexpr int64_t kStep = kLanes;
  F sums[kVectors];
  for (int k = 0; k < kVectors; ++k) sums[k] = F(0);
  for (int64_t i = 0; i < n; ++i) {
    const float* row = rows + index[i] * row_step;
    if (scales == nullptr) {
      for (int k = 0; k < kVectors; ++k) sums[k] = sums[k] + Load(row + k * kStep);
    } else {
      F scale(scales[i]);
      for (int k = 0; k < kVectors; ++k) sums[k] = mul_add(scale, Load(row + k * kStep), sums[k]);
    }
  }
  for (int k = 0; k < kVectors; ++k) Store(sums[k], sum + k * kStep);
}

template <typename Index>
bool SumRowsAt(const float* rows, int64_t row_step, int64_t num_rows, const std::byte* indices,
               const float* scales, int64_t n, float* sum, int64_t size) {
  constexpr int64_t kStep = simd::kLanes;
  const Index* index = reinterpret_cast<const Index*>(indices);
  if (!AreWithin(index, n, num_rows)) return false;
  int64_t j = 0;
  for (; j + 8 * kStep <= size; j += 8 * kStep) {
    SumBlock<8>(rows + j, row_step, index, scales, n, sum + j);
  }
  for (; j + 4 * kStep <= size; j += 4 * kStep) {
    SumBlock<4>(rows + j, row_step, index, scales, n, sum + j);
  }
  for (; j + kStep <= size; j += kStep) {
    SumBlock<1>(rows + j, row_step, index, scales, n, sum + j);
  }
  for (; j < size; ++j) {
    float total = 0;
    for (int64_t i = 0; i < n; ++i) {
      float value = rows[index[i] * row_step + j];
      total += scales == nullptr ? value : scales[i] * value;
    }
    sum[j] = total;
  }
  return true;
}

}  // namespace indexed

template <typename Index>
IndexedLine FindLineOf(size_t element_size, bool is_gather) {
  using namespace indexed;  // NOLINT
  switch (element_size) {
    case 1: return is_gather ? Gather<uint8_t, Index> : Scatter<uint8_t, Index>;
    case 2: return is_gather ? Gather<uint16_t, Index> : Scatter<uint16_t, Index>;
    case 4: return is_gather ? Gather<uint32_t, Index> : Scatter<uint32_t, Index>;
    default: return is_gather ? Gather<uint64_t, Index> : Scatter<uint64_t, Index>;
  }
}

IndexedLine FindMovingLine(size_t element_size, bool is_i32, bool is_gather) {
  return is_i32 ? FindLineOf<int32_t>(element_size, is_gather)
                : FindLineOf<int64_t>(element_size, is_gather);
}

IndexedLine FindJoiningLine(Reduce reduce, DType dtype, bool is_i32) {
  return indexed::DispatchReduce(reduce, [&](auto how) {
    return DispatchDType(dtype, [&](auto zero) -> IndexedLine {
      using T = decltype(zero);
      return is_i32 ? indexed::JoinLine<how.value, T, int32_t>
                    : indexed::JoinLine<how.value, T, int64_t>;
    });
  });
}

JoinRun FindJoiningRun(Reduce reduce, DType dtype) {
  return indexed::DispatchReduce(reduce, [&](auto how) {
    return DispatchDType(
        dtype, [&](auto zero) -> JoinRun { return indexed::Join<how.value, decltype(zero)>; });
  });
}

SumRows FindSummingRows(bool is_i32) {
  return is_i32 ? indexed::SumRowsAt<int32_t> : indexed::SumRowsAt<int64_t>;
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(FindMovingLine);
HWY_EXPORT(FindJoiningLine);
HWY_EXPORT(FindJoiningRun);
HWY_EXPORT(FindSummingRows);

IndexedLine FindGatherLine(size_t element_size, bool is_i32) {
  return HWY_DYNAMIC_DISPATCH(FindMovingLine)(element_size, is_i32, true);
}
IndexedLine FindScatterLine(size_t element_size, bool is_i32) {
  return HWY_DYNAMIC_DISPATCH(FindMovingLine)(element_size, is_i32, false);
}
IndexedLine FindJoinLine(Reduce reduce, DType dtype, bool is_i32) {
  return HWY_DYNAMIC_DISPATCH(FindJoiningLine)(reduce, dtype, is_i32);
}
JoinRun FindJoinRun(Reduce reduce, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(FindJoiningRun)(reduce, dtype);
}
SumRows FindSumRows(bool is_i32) { return HWY_DYNAMIC_DISPATCH(FindSummingRows)(is_i32); }

}  // namespace stator
#endif
