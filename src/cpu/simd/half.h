// Vectors of floats from and to memory of f16, bf16 and bool.
//
// Included once per SIMD target, inside Highway's foreach_target.

#if defined(STATOR_CPU_SIMD_HALF_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STATOR_CPU_SIMD_HALF_H_
#undef STATOR_CPU_SIMD_HALF_H_
#else
#define STATOR_CPU_SIMD_HALF_H_
#endif

#include <algorithm>

#include "cpu/simd/simd.h"

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

template <typename T>
HWY_INLINE F Load(const T* p) {
  return FromMemory(p);
}
// Zero in the other lanes.
template <typename T>
HWY_INLINE F LoadFirst(const T* p, size_t n) {
  T lanes[kLanes] = {};
  std::copy(p, p + n, lanes);
  return FromMemory(lanes);
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

}  // namespace simd
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#endif
