// Tape instructions on doubles and integers, element by element through src/ops/scalar.h, and the
// conversions between classes.
#include <type_traits>

#include "cpu/simd/tape_kernels.h"
#include "ops/scalar.h"

namespace stator {

namespace scalar {
namespace {

enum Rule { kSameType, kNumberType, kFloatType, kIntType, kCompare, kWhere };

// The bodies, compiled where their vocabulary is found. Comparisons return bool.
#define SCALAR(expression) expression
#define STATOR_POINTWISE(id, name, arity, rule, traits, body, ...)                     \
  template <typename T>                                                                \
  struct Op_##name {                                                                   \
    static constexpr Rule kRule = rule;                                                \
    static auto Call([[maybe_unused]] T a, [[maybe_unused]] T b, [[maybe_unused]] T c, \
                     [[maybe_unused]] T p0, [[maybe_unused]] T p1) {                   \
      [[maybe_unused]] constexpr T p_half = Constant<T>(0.5);                          \
      [[maybe_unused]] constexpr T p_rsqrt2 = Constant<T>(0.70710678118654752440);     \
      [[maybe_unused]] constexpr T p_sqrt_2_pi = Constant<T>(0.79788456080286535588);  \
      [[maybe_unused]] constexpr T p_gelu_cubic = Constant<T>(0.044715);               \
      [[maybe_unused]] constexpr T p_sixth = Constant<T>(1.0 / 6.0);                   \
      return body;                                                                     \
    }                                                                                  \
  };
#include "ops/pointwise.def"
#undef STATOR_POINTWISE
#undef SCALAR

}  // namespace
}  // namespace scalar

namespace {

using scalar::Compute;

template <template <typename> class Op, typename T>
void Loop(void* out, const void* a, const void* b, const void* c, const double* params, int64_t n) {
  using C = Compute<T>;
  constexpr bool kToMask = Op<C>::kRule == scalar::kCompare;
  using Out = std::conditional_t<kToMask, float, T>;
  auto* to = static_cast<Out*>(out);
  auto *x = static_cast<const T*>(a), *y = static_cast<const T*>(b), *z = static_cast<const T*>(c);
  C p0 = scalar::ToParameter<C>(params[0]), p1 = scalar::ToParameter<C>(params[1]);
  for (int64_t i = 0; i < n; ++i) {
    auto result = Op<C>::Call(C(x[i]), y ? C(y[i]) : C(), z ? C(z[i]) : C(), p0, p1);
    to[i] = scalar::CastTo<Out>(result);
  }
}

// where: the mask is in the f32 class.
template <typename T>
void Where(void* out, const void* a, const void* b, const void* c, const double*, int64_t n) {
  auto* to = static_cast<T*>(out);
  auto* mask = static_cast<const float*>(a);
  auto *x = static_cast<const T*>(b), *y = static_cast<const T*>(c);
  for (int64_t i = 0; i < n; ++i) to[i] = mask[i] != 0 ? x[i] : y[i];
}

template <typename T>
void Fill(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  T value = *static_cast<const T*>(a);
  for (int64_t i = 0; i < n; ++i) static_cast<T*>(out)[i] = value;
}

template <template <typename> class Op, typename T>
TapeKernel Select() {
  constexpr scalar::Rule kRule = Op<Compute<T>>::kRule;
  if constexpr (kRule == scalar::kWhere) {
    return Where<T>;
  } else if constexpr (kRule == scalar::kFloatType && std::is_integral_v<T>) {
    return nullptr;
  } else if constexpr (kRule == scalar::kIntType && !std::is_integral_v<T>) {
    return nullptr;
  } else {
    return Loop<Op, T>;
  }
}

template <typename T>
TapeKernel FindForType(int op_id) {
  switch (op_id) {
#define STATOR_POINTWISE(id, name, ...) \
  case id:                              \
    return Select<scalar::Op_##name, T>();
#include "ops/pointwise.def"
#undef STATOR_POINTWISE
    case kFillOp: return Fill<T>;
    default: return nullptr;
  }
}

template <typename Fn>
auto DispatchClass(TapeClass tape_class, Fn&& fn) {
  switch (tape_class) {
    case TapeClass::kF32: return fn(float{});
    case TapeClass::kF64: return fn(double{});
    case TapeClass::kU8: return fn(uint8_t{});
    case TapeClass::kI8: return fn(int8_t{});
    case TapeClass::kI16: return fn(int16_t{});
    case TapeClass::kI32: return fn(int32_t{});
    case TapeClass::kI64: return fn(int64_t{});
  }
  __builtin_unreachable();
}

template <typename To, typename From>
void Cast(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  auto* from = static_cast<const From*>(a);
  for (int64_t i = 0; i < n; ++i) static_cast<To*>(out)[i] = scalar::CastTo<To>(from[i]);
}

template <typename From>
void CastToBool(void* out, const void* a, const void*, const void*, const double*, int64_t n) {
  auto* from = static_cast<const From*>(a);
  for (int64_t i = 0; i < n; ++i) static_cast<float*>(out)[i] = from[i] != 0 ? 1.0f : 0.0f;
}

}  // namespace

TapeClass ClassOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return TapeClass::kF64;
    case DType::kUInt8: return TapeClass::kU8;
    case DType::kInt8: return TapeClass::kI8;
    case DType::kInt16: return TapeClass::kI16;
    case DType::kInt32: return TapeClass::kI32;
    case DType::kInt64: return TapeClass::kI64;
    default: return TapeClass::kF32;
  }
}

size_t ClassSize(TapeClass tape_class) {
  return DispatchClass(tape_class, [](auto zero) { return sizeof(zero); });
}

TapeKernel FindElementKernel(int op_id, TapeClass tape_class) {
  switch (tape_class) {
    case TapeClass::kF32: return nullptr;  // FindF32Kernel's
    case TapeClass::kF64: return FindForType<double>(op_id);
    case TapeClass::kU8: return FindForType<uint8_t>(op_id);
    case TapeClass::kI8: return FindForType<int8_t>(op_id);
    case TapeClass::kI16: return FindForType<int16_t>(op_id);
    case TapeClass::kI32: return FindForType<int32_t>(op_id);
    case TapeClass::kI64: return FindForType<int64_t>(op_id);
  }
  __builtin_unreachable();
}

TapeKernel FindCastKernel(TapeClass from, TapeClass to, bool to_bool) {
  return DispatchClass(from, [&](auto source) -> TapeKernel {
    using From = decltype(source);
    if (to_bool) return CastToBool<From>;
    return DispatchClass(to, [](auto zero) -> TapeKernel { return Cast<decltype(zero), From>; });
  });
}

}  // namespace stator
