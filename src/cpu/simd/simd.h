// Vectors of floats with the vocabulary of the scalar bodies (ops/pointwise.def).
//
// Included once per SIMD target, inside Highway's foreach_target. The bodies compile with F (a
// vector of floats) for their operands and M (a mask) for comparisons.
// Accuracy: within 4 ULP of the true value for exp, log, tanh, erf and their kin where the result
// is a normal float (the unit test states each bound); NaN, infinities and values out of range as
// in C. Functions without a vector form here run lane by lane through src/ops/scalar.h.

#if defined(STATOR_CPU_RUN_SIMD_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STATOR_CPU_RUN_SIMD_H_
#undef STATOR_CPU_RUN_SIMD_H_
#else
#define STATOR_CPU_RUN_SIMD_H_
#endif

#include <limits>

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "ops/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<D>;
using VF = hn::Vec<D>;
using MF = hn::Mask<D>;
inline constexpr D kD;
inline constexpr DI kDI;
inline constexpr size_t kLanes = HWY_LANES(float);

struct M {
  MF m;
};

struct F {
  VF v;
  HWY_INLINE F() = default;
  HWY_INLINE F(VF x) : v(x) {}
  HWY_INLINE F(float x) : v(hn::Set(kD, x)) {}
  HWY_INLINE F(double x) : F(static_cast<float>(x)) {}
  HWY_INLINE F(int x) : F(static_cast<float>(x)) {}
  HWY_INLINE F(M x) : v(hn::IfThenElseZero(x.m, hn::Set(kD, 1.0f))) {}
};

HWY_INLINE F operator+(F a, F b) { return hn::Add(a.v, b.v); }
HWY_INLINE F operator-(F a, F b) { return hn::Sub(a.v, b.v); }
HWY_INLINE F operator*(F a, F b) { return hn::Mul(a.v, b.v); }
HWY_INLINE F operator/(F a, F b) { return hn::Div(a.v, b.v); }
HWY_INLINE F operator-(F a) { return hn::Neg(a.v); }
HWY_INLINE M operator==(F a, F b) { return {hn::Eq(a.v, b.v)}; }
// Highway's Ne is false for NaN.
HWY_INLINE M operator!=(F a, F b) { return {hn::Not(hn::Eq(a.v, b.v))}; }
HWY_INLINE M operator<(F a, F b) { return {hn::Lt(a.v, b.v)}; }
HWY_INLINE M operator<=(F a, F b) { return {hn::Le(a.v, b.v)}; }
HWY_INLINE M operator>(F a, F b) { return {hn::Gt(a.v, b.v)}; }
HWY_INLINE M operator>=(F a, F b) { return {hn::Ge(a.v, b.v)}; }
HWY_INLINE M operator&(M a, M b) { return {hn::And(a.m, b.m)}; }
HWY_INLINE M operator|(M a, M b) { return {hn::Or(a.m, b.m)}; }
HWY_INLINE M operator^(M a, M b) { return {hn::Xor(a.m, b.m)}; }
// Bools are 0.0 and 1.0, for which bitwise logic on the patterns is logic.
HWY_INLINE F operator&(F a, F b) { return hn::And(a.v, b.v); }
HWY_INLINE F operator|(F a, F b) { return hn::Or(a.v, b.v); }
HWY_INLINE F operator^(F a, F b) { return hn::Xor(a.v, b.v); }
HWY_INLINE F bitwise_not(F a) { return F(1) - a; }
HWY_INLINE F shift_left(F a, F) { return a; }
HWY_INLINE F shift_right(F a, F b) { return a * bitwise_not(b); }

HWY_INLINE F mul_add(F a, F b, F c) { return hn::MulAdd(a.v, b.v, c.v); }
HWY_INLINE F where(M m, F a, F b) { return hn::IfThenElse(m.m, a.v, b.v); }
HWY_INLINE F abs(F a) { return hn::Abs(a.v); }
HWY_INLINE F sqrt(F a) { return hn::Sqrt(a.v); }
HWY_INLINE F floor(F a) { return hn::Floor(a.v); }
HWY_INLINE F ceil(F a) { return hn::Ceil(a.v); }
HWY_INLINE F trunc(F a) { return hn::Trunc(a.v); }
HWY_INLINE F round(F a) { return hn::Round(a.v); }
HWY_INLINE M isinf(F a) { return abs(a) == F(std::numeric_limits<float>::infinity()); }
HWY_INLINE F sign(F a) { return F(a > 0) - F(a < 0); }
HWY_INLINE F copysign(F a, F b) { return hn::CopySign(a.v, b.v); }
HWY_INLINE F trunc_div(F a, F b) { return trunc(a / b); }

// The larger (smaller) of two; NaN if the second is NaN. Of two operands, one NaN, Highway's Max
// gives the second on x86, NaN on Arm, and the first in its portable form.
HWY_INLINE F MaxOrSecond(F a, F b) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  return where(a > b, a, b);
#else
  return hn::Max(a.v, b.v);
#endif
}
HWY_INLINE F MinOrSecond(F a, F b) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  return where(a < b, a, b);
#else
  return hn::Min(a.v, b.v);
#endif
}

HWY_INLINE F maximum(F a, F b) { return where(a != a, a, MaxOrSecond(a, b)); }
HWY_INLINE F minimum(F a, F b) { return where(a != a, a, MinOrSecond(a, b)); }
HWY_INLINE F fmax(F a, F b) { return where(b != b, a, where(a != a, b, MaxOrSecond(a, b))); }
HWY_INLINE F fmin(F a, F b) { return where(b != b, a, where(a != a, b, MinOrSecond(a, b))); }
HWY_INLINE F maximum(F a, int b) { return MaxOrSecond(F(b), a); }
HWY_INLINE F minimum(F a, int b) { return MinOrSecond(F(b), a); }

// ---- lane by lane
template <typename Fn, typename... Fs>
HWY_INLINE F ForEachLane(Fn fn, Fs... args) {
  HWY_ALIGN float lanes[sizeof...(args)][kLanes];
  int row = 0;
  (hn::Store(args.v, kD, lanes[row++]), ...);
  for (size_t i = 0; i < kLanes; ++i) {
    if constexpr (sizeof...(args) == 1) {
      lanes[0][i] = fn(lanes[0][i]);
    } else {
      lanes[0][i] = fn(lanes[0][i], lanes[1][i]);
    }
  }
  return hn::Load(kD, lanes[0]);
}

#define STATOR_LANEWISE_1(name)                                              \
  HWY_INLINE F name(F a) {                                                   \
    return ForEachLane([](float x) -> float { return scalar::name(x); }, a); \
  }
#define STATOR_LANEWISE_2(name)                                                             \
  HWY_INLINE F name(F a, F b) {                                                             \
    return ForEachLane([](float x, float y) -> float { return scalar::name(x, y); }, a, b); \
  }
STATOR_LANEWISE_1(tan)
STATOR_LANEWISE_1(asinh)
STATOR_LANEWISE_1(acosh)
STATOR_LANEWISE_1(atanh)
STATOR_LANEWISE_1(erfc)
STATOR_LANEWISE_1(asin)
STATOR_LANEWISE_1(acos)
STATOR_LANEWISE_1(atan)
STATOR_LANEWISE_1(sinh)
STATOR_LANEWISE_1(cosh)
STATOR_LANEWISE_2(atan2)
STATOR_LANEWISE_2(hypot)
STATOR_LANEWISE_2(pow)
STATOR_LANEWISE_2(fmod)
STATOR_LANEWISE_2(remainder)
STATOR_LANEWISE_2(floor_div)
#undef STATOR_LANEWISE_1
#undef STATOR_LANEWISE_2

// ---- exponentials
// Adding it rounds to an integer n, which then stands in the low bits of the sum's significand.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

// p * 2^n for t = n + kRound, where the result is a normal number: n is added to the exponent.
HWY_INLINE F ScaleByExponent(F p, F t) {
  auto bits = hn::Add(hn::BitCast(kDI, p.v), hn::ShiftLeft<23>(hn::BitCast(kDI, t.v)));
  return hn::BitCast(kD, bits);
}

// The same for |n| <= 160 and p near 1: rounded once where it is below 2^-126, infinity above.
HWY_INLINE F TimesPowerOfTwo(F p, F t) {
#if HWY_TARGET == HWY_AVX3
  return VF{_mm512_scalef_ps(p.v.raw, (t - F(kRound)).v.raw)};
#else
  auto n = hn::Sub(hn::BitCast(kDI, t.v), hn::BitCast(kDI, F(kRound).v));
  auto half = hn::ShiftRight<1>(n);
  auto power = [](auto k) HWY_ATTR -> F {
    return hn::BitCast(kD, hn::ShiftLeft<23>(hn::Add(k, hn::Set(kDI, 127))));
  };
  return p * power(half) * power(hn::Sub(n, half));
#endif
}

// x within [low, high], NaN kept.
HWY_INLINE F Clamp(F x, float low, float high) {
  return MinOrSecond(F(high), MaxOrSecond(F(low), x));
}

// e^r for |r| <= ln(2) / 2: the polynomial of Cephes' expf (Moshier 1992).
HWY_INLINE F ExpPolynomial(F r) {
  F p = mul_add(r, 1.9875691500e-4f, 1.3981999507e-3f);
  p = mul_add(p, r, 8.3334519073e-3f);
  p = mul_add(p, r, 4.1665795894e-2f);
  p = mul_add(p, r, 1.6666665459e-1f);
  p = mul_add(p, r, 5.0000001201e-1f);
  return mul_add(p, r * r, r) + F(1);
}

// e^x = 2^n * e^r with ln(2) in two parts (Cody & Waite 1980); beyond the clamp it is 0 or
// infinity.
HWY_INLINE F exp(F x) {
  x = Clamp(x, -105.0f, 89.0f);
  F t = mul_add(x, 1.44269504088896341f, kRound);
  F n = t - F(kRound);
  F r = mul_add(n, 2.12194440e-4f, mul_add(n, -0.693359375f, x));
  return TimesPowerOfTwo(ExpPolynomial(r), t);
}

HWY_INLINE F exp2(F x) {
  x = Clamp(x, -151.0f, 129.0f);
  F t = x + F(kRound);
  return TimesPowerOfTwo(ExpPolynomial((x - (t - F(kRound))) * F(0.693147180559945309f)), t);
}

HWY_INLINE F expm1(F x) {
  F y = hn::Expm1(kD, x.v);
  return where(x <= F(88.7228317f), y, x + F(std::numeric_limits<float>::infinity()));
}

// ---- logarithms: Highway's (musl's log) on positive finite numbers, the rest here.
HWY_INLINE F FinishLog(F x, F y) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  y = where(x == 0, -kInf, y);
  y = where(x < 0, std::numeric_limits<float>::quiet_NaN(), y);
  return where(x < F(kInf), y, x);  // +inf and NaN stay
}
HWY_INLINE F log(F x) { return FinishLog(x, hn::Log(kD, x.v)); }
HWY_INLINE F log2(F x) { return FinishLog(x, hn::Log2(kD, x.v)); }
HWY_INLINE F log10(F x) { return FinishLog(x, hn::Log10(kD, x.v)); }
HWY_INLINE F log1p(F x) {
  F y = FinishLog(x + F(1), hn::Log1p(kD, x.v));
  return where(abs(x) < F(1e-8f), x, y);
}

// ---- sine and cosine: Highway's within its range, else lane by lane.
HWY_INLINE F sin(F x) {
  if (HWY_LIKELY(hn::AllTrue(kD, (abs(x) < F(39000.0f)).m))) return hn::Sin(kD, x.v);
  return ForEachLane([](float a) -> float { return std::sin(a); }, x);
}
HWY_INLINE F cos(F x) {
  if (HWY_LIKELY(hn::AllTrue(kD, (abs(x) < F(39000.0f)).m))) return hn::Cos(kD, x.v);
  return ForEachLane([](float a) -> float { return std::cos(a); }, x);
}

// ---- odd functions that saturate at 1: x * P(x^2) / Q(x^2) with `limit` where they reach 1.
// Divisor in a modest range: one Newton step on the 14-bit estimate beats AVX-512's division.
HWY_INLINE F DivideModest(F a, F b) {
#if HWY_TARGET == HWY_AVX3
  F estimate = hn::ApproximateReciprocal(b.v);
  return a * (estimate * F(hn::NegMulAdd(b.v, estimate.v, F(2).v)));
#else
  return a / b;
#endif
}

template <size_t kP, size_t kQ>
HWY_INLINE F OddRational(F x, const float (&p)[kP], const float (&q)[kQ], float limit) {
  F a = hn::Min(hn::Max(x.v, F(-limit).v), F(limit).v);
  F u = a * a;
  F top = p[kP - 1], bottom = q[kQ - 1];
  for (size_t i = kP - 1; i-- > 0;) top = mul_add(top, u, p[i]);
  for (size_t i = kQ - 1; i-- > 0;) bottom = mul_add(bottom, u, q[i]);
  F y = DivideModest(a * top, bottom);
  y = hn::Min(hn::Max(y.v, F(-1).v), F(1).v);
  F saturated = copysign(MinOrSecond(F(1), abs(x)), x);  // NaN for NaN
  return where(abs(x) < F(limit), y, saturated);
}

// Coefficients: our own minimax fits of the relative error (reweighted least squares), 2e-8 before
// rounding.
HWY_INLINE F erf(F x) {
  static constexpr float kP[] = {1.1283791065216064f,   0.1907830536365509f,
                                 0.05279017239809036f,  0.0037795735988765955f,
                                 0.000284807407297194f, 2.0419713564479025e-06f};
  static constexpr float kQ[] = {1.0f,
                                 0.502409815788269f,
                                 0.11425719410181046f,
                                 0.01499736588448286f,
                                 0.001165203400887549f,
                                 3.800401827902533e-05f};
  return OddRational(x, kP, kQ, 3.93f);
}

HWY_INLINE F tanh(F x) {
  static constexpr float kP[] = {1.0f, 0.13379713892936707f, 0.0034940296318382025f,
                                 2.0583402147167362e-05f, 1.3318965486064371e-08f};
  static constexpr float kQ[] = {1.0f, 0.46713030338287354f, 0.02587105520069599f,
                                 0.0003283084952272475f, 7.761975098219409e-07f};
  return OddRational(x, kP, kQ, 9.02f);
}

// ---- memory: the first n <= kLanes floats at p; other lanes read as zero and are not written.
HWY_INLINE F LoadFirst(const float* p, size_t n) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(kD, n), kD, p);
#else
  HWY_ALIGN float lanes[kLanes] = {};
  for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
  return hn::Load(kD, lanes);
#endif
}
HWY_INLINE void StoreFirst(F a, float* p, size_t n) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  hn::BlendedStore(a.v, hn::FirstN(kD, n), kD, p);
#else
  HWY_ALIGN float lanes[kLanes];
  hn::Store(a.v, kD, lanes);
  for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
#endif
}
HWY_INLINE F Load(const float* p) { return hn::LoadU(kD, p); }
HWY_INLINE void Store(F a, float* p) { hn::StoreU(a.v, kD, p); }

}  // namespace simd
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
