// The vocabulary of scalar bodies (ops/pointwise.def) for single elements.
//
// In:  elements in their compute type: float for f16, bf16 and f32, double, bool, and Int<T> for
//      integers.
// Out: what torch computes on a CPU for them.
// Invariants: nothing traps and nothing is undefined: integers wrap, and integer division by zero
// gives 0. Bodies are compiled inside this namespace, so that `exp` and its kin are found here.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/dtype.h"

namespace stator::scalar {

using std::acos;
using std::acosh;
using std::asin;
using std::asinh;
using std::atan;
using std::atan2;
using std::atanh;
using std::ceil;
using std::copysign;
using std::cos;
using std::cosh;
using std::erf;
using std::erfc;
using std::exp;
using std::exp2;
using std::expm1;
using std::floor;
using std::fmax;
using std::fmin;
using std::fmod;
using std::hypot;
using std::isinf;
using std::log;
using std::log10;
using std::log1p;
using std::log2;
using std::pow;
using std::sin;
using std::sinh;
using std::sqrt;
using std::tan;
using std::tanh;
using std::trunc;

// ---- floats. The second operand does not take part in deduction, so literals convert.
template <std::floating_point T>
T abs(T a) {
  return std::fabs(a);
}

template <std::floating_point T>
T maximum(T a, std::type_identity_t<T> b) {
  return a != a || a > b ? a : b;
}

template <std::floating_point T>
T minimum(T a, std::type_identity_t<T> b) {
  return a != a || a < b ? a : b;
}

template <std::floating_point T>
T sign(T a) {
  return static_cast<T>((a > 0) - (a < 0));
}

template <std::floating_point T>
T round(T a) {
  return std::nearbyint(a);
}

template <std::floating_point T>
T trunc_div(T a, std::type_identity_t<T> b) {
  return std::trunc(a / b);
}

// Exact where a / b is not: from the remainder, as Python's float.__floordiv__.
template <std::floating_point T>
T floor_div(T a, std::type_identity_t<T> b) {
  if (b == 0) return a / b;
  T rest = std::fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(T(0), a / b);
  T whole = std::floor(quotient);
  return quotient - whole > T(0.5) ? whole + 1 : whole;
}

template <std::floating_point T>
T remainder(T a, std::type_identity_t<T> b) {
  T rest = std::fmod(a, b);
  return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}

template <typename T>
T where(bool mask, T a, T b) {
  return mask ? a : b;
}

// ---- bool: + is or and * is and, by conversion to int and back.
inline bool maximum(bool a, bool b) { return a || b; }
inline bool minimum(bool a, bool b) { return a && b; }
inline bool sign(bool a) { return a; }
inline bool bitwise_not(bool a) { return !a; }
inline bool isinf(bool) { return false; }
inline bool fmax(bool a, bool b) { return a || b; }
inline bool fmin(bool a, bool b) { return a && b; }
inline bool shift_left(bool a, bool) { return a; }
inline bool shift_right(bool a, bool b) { return a && !b; }

// ---- integers: computed modulo 2^64 without sign, then cut to T.
template <std::integral T>
struct Int {
  T value = 0;

  constexpr Int() = default;
  constexpr Int(std::integral auto v) : value(static_cast<T>(v)) {}
  explicit constexpr operator bool() const { return value != 0; }

  friend constexpr Int operator+(Int a, Int b) { return a.bits() + b.bits(); }
  friend constexpr Int operator-(Int a, Int b) { return a.bits() - b.bits(); }
  friend constexpr Int operator*(Int a, Int b) { return a.bits() * b.bits(); }
  friend constexpr Int operator-(Int a) { return uint64_t{0} - a.bits(); }
  friend constexpr Int operator&(Int a, Int b) { return a.bits() & b.bits(); }
  friend constexpr Int operator|(Int a, Int b) { return a.bits() | b.bits(); }
  friend constexpr Int operator^(Int a, Int b) { return a.bits() ^ b.bits(); }
  friend constexpr auto operator<=>(Int a, Int b) = default;

  friend constexpr Int bitwise_not(Int a) { return ~a.bits(); }
  friend constexpr Int abs(Int a) { return a < 0 ? -a : a; }
  friend constexpr Int sign(Int a) { return (a > 0) - (a < 0); }
  friend constexpr Int maximum(Int a, Int b) { return a > b ? a : b; }
  friend constexpr Int minimum(Int a, Int b) { return a < b ? a : b; }
  friend constexpr Int fmax(Int a, Int b) { return maximum(a, b); }
  friend constexpr Int fmin(Int a, Int b) { return minimum(a, b); }
  friend constexpr bool isinf(Int) { return false; }

  friend constexpr Int shift_left(Int a, Int b) {
    return b < 0 || b >= kBits ? Int(0) : Int(a.bits() << b.bits());
  }
  friend constexpr Int shift_right(Int a, Int b) {
    if (b >= 0 && b < kBits) return a.value >> b.value;
    return a < 0 ? -1 : 0;
  }

  friend constexpr Int trunc_div(Int a, Int b) {
    if (b == 0) return 0;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return -a;  // the smallest integer divided by -1 would trap
    }
    return a.value / b.value;
  }
  friend constexpr Int fmod(Int a, Int b) { return b == 0 ? Int(0) : a - trunc_div(a, b) * b; }
  friend constexpr Int floor_div(Int a, Int b) {
    Int rest = fmod(a, b);
    return trunc_div(a, b) - Int(rest != 0 && (rest < 0) != (b < 0));
  }
  friend constexpr Int remainder(Int a, Int b) {
    Int rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  }
  friend constexpr Int pow(Int a, Int b) {
    if (b < 0) {  // 1 / a^-b, rounded to zero
      if (a == 1) return 1;
      if (a == -1) return (b.bits() & 1) ? -1 : 1;
      return 0;
    }
    Int power = 1;
    for (uint64_t exponent = b.bits(); exponent != 0; exponent >>= 1) {
      if (exponent & 1) power = power * a;
      a = a * a;
    }
    return power;
  }

 private:
  static constexpr int kBits = 8 * sizeof(T);
  constexpr uint64_t bits() const { return static_cast<uint64_t>(value); }
};

// ---- between elements in memory and their compute type
template <typename T>
struct ComputeOf {
  using Type = Int<T>;
};
template <>
struct ComputeOf<bool> {
  using Type = bool;
};
template <>
struct ComputeOf<Float16> {
  using Type = float;
};
template <>
struct ComputeOf<BFloat16> {
  using Type = float;
};
template <>
struct ComputeOf<float> {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};
template <typename T>
using Compute = typename ComputeOf<T>::Type;

template <typename T>
inline constexpr bool kIsFloatElement = std::is_floating_point_v<Compute<T>>;

// A float cut to an integer as x86 does it: NaN and what does not fit give the smallest integer.
template <std::signed_integral T>
T TruncateTo(double value) {
  constexpr double kLimit = -static_cast<double>(std::numeric_limits<T>::min());
  return value > -kLimit - 1 && value < kLimit ? static_cast<T>(value)
                                               : std::numeric_limits<T>::min();
}

// `value` (an element, a compute type or a plain number) as an element of type T, with torch's
// CPU semantics: floats are cut to integers (u8 by way of i64, narrower ones by way of i32) and
// wrap.
template <typename T, typename From>
T CastTo(From value) {
  if constexpr (std::is_same_v<T, From>) {
    return value;
  } else if constexpr (requires { value.value; }) {
    return CastTo<T>(value.value);
  } else if constexpr (requires { value.bits; }) {
    return CastTo<T>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
    return T(static_cast<float>(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<From>) {
    if constexpr (sizeof(T) == 8 || std::is_unsigned_v<T>) {
      return static_cast<T>(TruncateTo<int64_t>(value));
    } else {
      return static_cast<T>(TruncateTo<int32_t>(value));
    }
  } else {
    return static_cast<T>(value);
  }
}

// A number that a body names, in its compute type; only bodies over floats use one.
template <typename T>
constexpr T Constant(double value) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    return T{};
  }
}

// A float attribute in the compute type: cut to an integer that fits, as torch cuts a Scalar.
template <typename T>
T ToParameter(double value) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else {
    using Limits = std::numeric_limits<decltype(T::value)>;
    if (value <= static_cast<double>(Limits::min())) return Limits::min();
    if (value >= static_cast<double>(Limits::max())) return Limits::max();
    return CastTo<decltype(T::value)>(value);
  }
}

template <typename T>
Compute<T> ToCompute(T value) {
  if constexpr (std::is_same_v<Compute<T>, T>) {
    return value;
  } else {
    return Compute<T>(value);
  }
}

}  // namespace stator::scalar
