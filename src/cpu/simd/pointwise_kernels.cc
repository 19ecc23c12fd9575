// Tape instructions on floats: every pointwise row of the op table, compiled per SIMD target.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/pointwise_kernels.cc"
#include <algorithm>
#include <type_traits>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/half.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {

// The bodies, one class per op. Constants are those of ops/pointwise.cc.
#define SCALAR(...) (__VA_ARGS__)
#define STATOR_POINTWISE(id, name, arity, rule, traits, body, ...)                             \
  struct Op_##name {                                                                           \
    static HWY_INLINE F Call([[maybe_unused]] F a, [[maybe_unused]] F b, [[maybe_unused]] F c, \
                             [[maybe_unused]] F p0, [[maybe_unused]] F p1) {                   \
      [[maybe_unused]] constexpr float p_half = 0.5f;                                          \
      [[maybe_unused]] constexpr float p_rsqrt2 = 0.70710678118654752f;                        \
      [[maybe_unused]] constexpr float p_sqrt_2_pi = 0.79788456080286536f;                     \
      [[maybe_unused]] constexpr float p_gelu_cubic = 0.044715f;                               \
      [[maybe_unused]] constexpr float p_sixth = 1.0f / 6.0f;                                  \
      return F(body);                                                                          \
    }                                                                                          \
  };
#include "ops/pointwise.def"
#undef STATOR_POINTWISE

struct MulAddOp {
  static HWY_INLINE F Call(F a, F b, F c, F, F) { return mul_add(a, b, c); }
};
struct FillOp {
  static HWY_INLINE F Call(F a, F, F, F, F) { return a; }
};
// Round to nearest even at bit 13 for f16: adding and subtracting a power of two 2^13 times larger
// cuts the significand; below f16's smallest normal number that power is fixed. 65520 and above
// become infinite.
struct RoundF16Op {
  static HWY_INLINE F Call(F a, F, F, F, F) {
    F size = abs(a);
    auto exponent = hn::And(hn::BitCast(kDI, size.v), hn::Set(kDI, 0x7f800000));
    F power = hn::BitCast(kD, hn::Add(exponent, hn::Set(kDI, 13 << 23)));
    F shift = hn::Max(power.v, F(0.5f).v);
    F rounded = (size + shift) - shift;
    rounded = where(size >= F(65520.0f), size * F(std::numeric_limits<float>::infinity()), rounded);
    return where(a == a, copysign(rounded, a), a);
  }
};
struct RoundBF16Op {
  static HWY_INLINE F Call(F a, F, F, F, F) {
    auto bits = hn::BitCast(kDI, a.v);
    auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(kDI, 1));
    auto rounded = hn::And(hn::Add(bits, hn::Add(odd, hn::Set(kDI, 0x7fff))),
                           hn::Set(kDI, static_cast<int32_t>(0xffff0000u)));
    return where(a == a, F(hn::BitCast(kD, rounded)), a);
  }
};

template <class Op, int kArity, unsigned kScalars>
void Loop(void* out, const void* a, const void* b, const void* c, const double* params, int64_t n) {
  const float* operands[3] = {static_cast<const float*>(a), static_cast<const float*>(b),
                              static_cast<const float*>(c)};
  float* to = static_cast<float*>(out);
  F p0(params[0]), p1(params[1]);
  F fixed[3] = {0, 0, 0};
  for (int i = 0; i < kArity; ++i) {
    if (kScalars & (1u << i)) fixed[i] = F(operands[i][0]);
  }
  auto get = [&](int i, int64_t at) HWY_ATTR -> F {
    return i >= kArity || (kScalars & (1u << i)) ? fixed[i] : Load(operands[i] + at);
  };
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) {
    Store(Op::Call(get(0, i), get(1, i), get(2, i), p0, p1), to + i);
  }
  if (i == n) return;
  auto get_rest = [&](int k) HWY_ATTR -> F {
    return k >= kArity || (kScalars & (1u << k)) ? fixed[k] : LoadFirst(operands[k] + i, n - i);
  };
  StoreFirst(Op::Call(get_rest(0), get_rest(1), get_rest(2), p0, p1), to + i, n - i);
}

template <class Op, int kArity>
TapeKernel Select(unsigned scalars) {
  if constexpr (kArity == 2) {
    if (scalars == 1) return Loop<Op, 2, 1>;
    if (scalars == 2) return Loop<Op, 2, 2>;
  }
  if constexpr (kArity == 3) {
    if (scalars == 2) return Loop<Op, 3, 2>;
    if (scalars == 4) return Loop<Op, 3, 4>;
    if (scalars == 6) return Loop<Op, 3, 6>;
  }
  return scalars == 0 ? TapeKernel{Loop<Op, kArity, 0>} : nullptr;
}

TapeKernel FindKernel(int op_id, unsigned scalars) {
  switch (op_id) {
#define STATOR_POINTWISE(id, name, arity, ...) \
  case id:                                     \
    return Select<Op_##name, arity>(scalars);
#include "ops/pointwise.def"
#undef STATOR_POINTWISE
    case kMulAddOp: return Select<MulAddOp, 3>(scalars);
    case kFillOp: return Loop<FillOp, 1, 1>;
    case kRoundF16Op: return Select<RoundF16Op, 1>(scalars);
    case kRoundBF16Op: return Select<RoundBF16Op, 1>(scalars);
    default: return nullptr;
  }
}
#undef SCALAR

// ---- halves
template <class Op, int kArity, typename T>
void HalfLoop(void* out, const void* a, const void* b, const void*, const double* params,
              int64_t n) {
  const T* operands[2] = {static_cast<const T*>(a), static_cast<const T*>(b)};
  T* to = static_cast<T*>(out);
  F p0(params[0]), p1(params[1]);
  auto compute = [&](const T* x, const T* y) HWY_ATTR {
    return Op::Call(FromMemory(x), kArity == 2 ? FromMemory(y) : F(0), F(0), p0, p1);
  };
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) {
    ToMemory(compute(operands[0] + i, kArity == 2 ? operands[1] + i : nullptr), to + i);
  }
  if (i == n) return;
  T rest[3][kLanes] = {};
  for (int k = 0; k < kArity; ++k) std::copy(operands[k] + i, operands[k] + n, rest[k]);
  ToMemory(compute(rest[0], rest[1]), rest[2]);
  std::copy(rest[2], rest[2] + (n - i), to + i);
}

// The ops that compute too little to hide passes for conversions.
template <class Op, class... Ops>
constexpr bool kIsOneOf = (std::is_same_v<Op, Ops> || ...);
template <class Op>
constexpr bool kHasHalves = kIsOneOf<Op, Op_add, Op_sub, Op_mul, Op_div, Op_maximum, Op_minimum,
                                     Op_neg, Op_abs, Op_square, Op_relu>;

template <class Op, int kArity>
TapeKernel SelectHalf(DType dtype) {
  if constexpr (kHasHalves<Op>) {
    if (dtype == DType::kBFloat16) return HalfLoop<Op, kArity, BFloat16>;
    if constexpr (kConvertsVectors<Float16>) {
      if (dtype == DType::kFloat16) return HalfLoop<Op, kArity, Float16>;
    }
  }
  return nullptr;
}

TapeKernel FindKernelOfHalves(int op_id, DType dtype) {
  switch (op_id) {
#define STATOR_POINTWISE(id, name, arity, ...) \
  case id:                                     \
    return SelectHalf<Op_##name, arity>(dtype);
#include "ops/pointwise.def"
#undef STATOR_POINTWISE
    default: return nullptr;
  }
}

}  // namespace simd
using simd::FindKernel;
using simd::FindKernelOfHalves;
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(FindKernel);
HWY_EXPORT(FindKernelOfHalves);

TapeKernel FindF32Kernel(int op_id, unsigned scalar_operands) {
  return HWY_DYNAMIC_DISPATCH(FindKernel)(op_id, scalar_operands);
}

TapeKernel FindHalfKernel(int op_id, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(FindKernelOfHalves)(op_id, dtype);
}

}  // namespace stator
#endif
