// Element types of tensors: names, sizes, and conversion of single elements.
//
// Names follow the textual IR ("f32", "bf16", "i64", "bool"). float16 and bfloat16 are stored as
// their 16-bit patterns and computed in float.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace stator {

// Values are part of the plan format: append only.
enum class DType : uint8_t {
  kBool = 0,
  kUInt8 = 1,
  kInt8 = 2,
  kInt16 = 3,
  kInt32 = 4,
  kInt64 = 5,
  kFloat16 = 6,
  kBFloat16 = 7,
  kFloat32 = 8,
  kFloat64 = 9,
};
inline constexpr int kNumDTypes = 10;

// Bytes of one element.
size_t DTypeSize(DType dtype);
// The name used in text: "bool", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64".
std::string_view DTypeName(DType dtype);
std::optional<DType> FindDType(std::string_view name);

constexpr bool IsFloat(DType dtype) { return dtype >= DType::kFloat16; }
constexpr bool IsInteger(DType dtype) { return dtype >= DType::kUInt8 && dtype <= DType::kInt64; }

// IEEE 754 binary16, round to nearest even on conversion from float.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value);
  operator float() const;
};

// The upper half of a binary32, round to nearest even on conversion from float.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    uint32_t u = std::bit_cast<uint32_t>(value);
    bits = (u & 0x7fffffffu) > 0x7f800000u
               ? static_cast<uint16_t>((u >> 16) | 0x40u)  // NaN stays NaN, made quiet
               : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// Calls `fn` with a value-initialised object of the C++ storage type of `dtype`.
template <typename Fn>
decltype(auto) DispatchDType(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kBool: return fn(bool{});
    case DType::kUInt8: return fn(uint8_t{});
    case DType::kInt8: return fn(int8_t{});
    case DType::kInt16: return fn(int16_t{});
    case DType::kInt32: return fn(int32_t{});
    case DType::kInt64: return fn(int64_t{});
    case DType::kFloat16: return fn(Float16{});
    case DType::kBFloat16: return fn(BFloat16{});
    case DType::kFloat32: return fn(float{});
    case DType::kFloat64: return fn(double{});
  }
  __builtin_unreachable();
}

}  // namespace stator
