#include "cpu/simd/accumulate.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "ops/scalar.h"

namespace stator {
namespace {

using scalar::Compute;

struct Sum {
  template <typename A>
  static constexpr A Neutral() {
    return A{0};
  }
  template <typename C>
  static C Call(C a, C b) {
    return a + b;
  }
};
struct Prod {
  template <typename A>
  static constexpr A Neutral() {
    return A{1};
  }
  template <typename C>
  static C Call(C a, C b) {
    return a * b;
  }
};
struct Max {
  template <typename A>
  static constexpr A Neutral() {
    using Limits = std::numeric_limits<A>;
    return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
  }
  template <typename C>
  static C Call(C a, C b) {
    using scalar::maximum;
    return maximum(a, b);
  }
};
struct Min {
  template <typename A>
  static constexpr A Neutral() {
    using Limits = std::numeric_limits<A>;
    return Limits::has_infinity ? Limits::infinity() : Limits::max();
  }
  template <typename C>
  static C Call(C a, C b) {
    using scalar::minimum;
    return minimum(a, b);
  }
};

template <typename Op, typename A>
void Reset(void* acc, int64_t n) {
  std::fill_n(static_cast<A*>(acc), n, Op::template Neutral<A>());
}

template <typename Op, typename A, typename T>
void Fold(void* acc, const void* partial, int64_t n) {
  using C = Compute<A>;
  auto* to = static_cast<A*>(acc);
  auto* from = static_cast<const T*>(partial);
  for (int64_t i = 0; i < n; ++i) {
    to[i] = scalar::CastTo<A>(Op::Call(C(to[i]), C(static_cast<A>(from[i]))));
  }
}

template <typename A, typename Out>
void Finish(const void* acc, std::byte* out, int64_t stride, int64_t n, double divisor) {
  auto* to = reinterpret_cast<Out*>(out);
  for (int64_t i = 0; i < n; ++i) {
    A value = static_cast<const A*>(acc)[i];
    if constexpr (std::is_same_v<A, double>) value /= divisor;
    to[i * stride] = scalar::CastTo<Out>(value);
  }
}

template <typename Op, typename T>
Accumulate MakeAccumulate(DType out) {
  using A = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
  Accumulate accumulate{.reset = Reset<Op, A>, .fold = Fold<Op, A, T>, .merge = Fold<Op, A, A>};
  DispatchDType(out, [&](auto zero) { accumulate.finish = Finish<A, decltype(zero)>; });
  return accumulate;
}

template <typename T>
Accumulate FindForType(std::string_view op, DType out) {
  if (op == "sum") return MakeAccumulate<Sum, T>(out);
  if (op == "prod") return MakeAccumulate<Prod, T>(out);
  if (op == "amax") return MakeAccumulate<Max, T>(out);
  if (op == "amin") return MakeAccumulate<Min, T>(out);
  return {};
}

}  // namespace

Accumulate FindAccumulate(std::string_view op, TapeClass tape_class, DType out) {
  switch (tape_class) {
    case TapeClass::kF32: return FindForType<float>(op, out);
    case TapeClass::kF64: return FindForType<double>(op, out);
    case TapeClass::kU8: return FindForType<uint8_t>(op, out);
    case TapeClass::kI8: return FindForType<int8_t>(op, out);
    case TapeClass::kI16: return FindForType<int16_t>(op, out);
    case TapeClass::kI32: return FindForType<int32_t>(op, out);
    case TapeClass::kI64: return FindForType<int64_t>(op, out);
  }
  __builtin_unreachable();
}

}  // namespace stator
