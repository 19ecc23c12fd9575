// Loads and stores of the tape: between elements in memory and registers of their class.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/convert_kernels.cc"
#include <cstring>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {

using DU = hn::RebindToUnsigned<D>;
using DU16 = hn::Rebind<uint16_t, D>;
using DF16 = hn::Rebind<hwy::float16_t, D>;
using DU8 = hn::Rebind<uint8_t, D>;

// Highway's own conversion of f16 in software turns NaN into a number.
constexpr bool kHasVectorF16 = HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128;
template <typename T>
constexpr bool kConvertsVectors = kHasVectorF16 || !std::is_same_v<T, Float16>;

HWY_INLINE F FromMemory(const Float16* p) {
  auto bits = hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(p));
  return hn::PromoteTo(kD, hn::BitCast(DF16(), bits));
}
HWY_INLINE F FromMemory(const BFloat16* p) {
  auto bits = hn::PromoteTo(DU(), hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(p)));
  return hn::BitCast(kD, hn::ShiftLeft<16>(bits));
}
HWY_INLINE F FromMemory(const bool* p) {
  auto bytes = hn::PromoteTo(kDI, hn::LoadU(DU8(), reinterpret_cast<const uint8_t*>(p)));
  return F(F(hn::ConvertTo(kD, bytes)) != 0);
}

HWY_INLINE void ToMemory(F a, Float16* p) {
  auto half = hn::BitCast(DU16(), hn::DemoteTo(DF16(), a.v));
  hn::StoreU(half, DU16(), reinterpret_cast<uint16_t*>(p));
}
HWY_INLINE void ToMemory(F a, BFloat16* p) {  // round to nearest even; NaN stays NaN
  auto bits = hn::BitCast(DU(), a.v);
  auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(DU(), 1));
  auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(DU(), 0x7fff)));
  auto quiet = hn::Or(bits, hn::Set(DU(), 0x400000));
  F result = where(a == a, F(hn::BitCast(kD, rounded)), F(hn::BitCast(kD, quiet)));
  auto half = hn::ShiftRight<16>(hn::BitCast(DU(), result.v));
  hn::StoreU(hn::DemoteTo(DU16(), hn::BitCast(kDI, half)), DU16(), reinterpret_cast<uint16_t*>(p));
}
HWY_INLINE void ToMemory(F a, bool* p) {
  auto one = hn::ConvertTo(kDI, F(a != 0).v);
  hn::StoreU(hn::DemoteTo(DU8(), one), DU8(), reinterpret_cast<uint8_t*>(p));
}

template <typename T>
float ToFloat(T value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? 1.0f : 0.0f;
  } else {
    return static_cast<float>(value);
  }
}
template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else {
    return T(value);
  }
}

template <typename T>
void LoadAs(void* reg, const std::byte* memory, int64_t stride, int64_t n) {
  auto* to = static_cast<float*>(reg);
  auto* from = reinterpret_cast<const T*>(memory);
  int64_t i = 0;
  if (kConvertsVectors<T> && stride == 1) {
    for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) Store(FromMemory(from + i), to + i);
  }
  for (; i < n; ++i) to[i] = ToFloat(from[i * stride]);
}

template <typename T>
void StoreAs(std::byte* memory, const void* reg, int64_t stride, int64_t n) {
  auto* to = reinterpret_cast<T*>(memory);
  auto* from = static_cast<const float*>(reg);
  int64_t i = 0;
  if (kConvertsVectors<T> && stride == 1) {
    for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) ToMemory(Load(from + i), to + i);
  }
  for (; i < n; ++i) to[i * stride] = FromFloat<T>(from[i]);
}

TapeLoad FindConvertingLoad(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return LoadAs<Float16>;
    case DType::kBFloat16: return LoadAs<BFloat16>;
    case DType::kBool: return LoadAs<bool>;
    default: return nullptr;
  }
}

TapeStore FindConvertingStore(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return StoreAs<Float16>;
    case DType::kBFloat16: return StoreAs<BFloat16>;
    case DType::kBool: return StoreAs<bool>;
    default: return nullptr;
  }
}

}  // namespace simd
using simd::FindConvertingLoad;
using simd::FindConvertingStore;
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {
namespace {

template <typename T>
void CopyIn(void* reg, const std::byte* memory, int64_t stride, int64_t n) {
  if (stride == 1) {
    std::memcpy(reg, memory, n * sizeof(T));
    return;
  }
  auto* from = reinterpret_cast<const T*>(memory);
  for (int64_t i = 0; i < n; ++i) static_cast<T*>(reg)[i] = from[i * stride];
}

template <typename T>
void CopyOut(std::byte* memory, const void* reg, int64_t stride, int64_t n) {
  if (stride == 1) {
    std::memcpy(memory, reg, n * sizeof(T));
    return;
  }
  auto* from = static_cast<const T*>(reg);
  for (int64_t i = 0; i < n; ++i) reinterpret_cast<T*>(memory)[i * stride] = from[i];
}

}  // namespace

HWY_EXPORT(FindConvertingLoad);
HWY_EXPORT(FindConvertingStore);

TapeLoad FindLoad(DType dtype) {
  if (TapeLoad load = HWY_DYNAMIC_DISPATCH(FindConvertingLoad)(dtype)) return load;
  switch (DTypeSize(dtype)) {
    case 1: return CopyIn<uint8_t>;
    case 2: return CopyIn<uint16_t>;
    case 4: return CopyIn<uint32_t>;
    default: return CopyIn<uint64_t>;
  }
}

TapeStore FindStore(DType dtype) {
  if (TapeStore store = HWY_DYNAMIC_DISPATCH(FindConvertingStore)(dtype)) return store;
  switch (DTypeSize(dtype)) {
    case 1: return CopyOut<uint8_t>;
    case 2: return CopyOut<uint16_t>;
    case 4: return CopyOut<uint32_t>;
    default: return CopyOut<uint64_t>;
  }
}

}  // namespace stator
#endif
