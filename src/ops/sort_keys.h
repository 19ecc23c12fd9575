// Elements as unsigned integers, to be put in order.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ops/scalar.h"

namespace stator {

template <typename T>
using KeyOf =
    std::conditional_t<sizeof(T) == 1, uint8_t,
                       std::conditional_t<sizeof(T) == 2, uint16_t,
                                          std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;

// Keys compare as elements stand in order, NaN as the largest and -0 as 0.
template <typename T>
KeyOf<T> MakeKey(T value) {
  using Key = KeyOf<T>;
  Key bits;
  std::memcpy(&bits, &value, sizeof(T));
  constexpr Key kSign = static_cast<Key>(Key{1} << (8 * sizeof(T) - 1));
  if constexpr (scalar::kIsFloatElement<T>) {
    constexpr Key kInfinity = static_cast<Key>(std::is_same_v<T, Float16>    ? 0x7c00u
                                               : std::is_same_v<T, BFloat16> ? 0x7f80u
                                               : std::is_same_v<T, float>    ? 0x7f800000u
                                                                             : 0x7ff0000000000000u);
    Key magnitude = static_cast<Key>(bits & static_cast<Key>(~kSign));
    Key negative = static_cast<Key>(-(bits >> (8 * sizeof(T) - 1)));      // all ones or none
    Key key = static_cast<Key>((magnitude ^ negative) + (negative & 1));  // -0 as 0
    key = static_cast<Key>(key ^ kSign);
    return magnitude > kInfinity ? static_cast<Key>(~Key{0}) : key;
  } else if constexpr (std::is_signed_v<T>) {
    return static_cast<Key>(bits ^ kSign);
  } else {
    return bits;
  }
}

template <typename T>
bool IsNanKey(KeyOf<T> key) {
  return scalar::kIsFloatElement<T> && key == static_cast<KeyOf<T>>(~KeyOf<T>{0});
}

// A key and the position of its element: one integer, or a pair where they do not fit.
template <typename Key>
struct Item {
  using Packed = std::conditional_t<sizeof(Key) == 8, Item, uint64_t>;
  Key key;
  uint32_t position;

  static Packed Make(Key key, int64_t position) {
    if constexpr (sizeof(Key) == 8) {
      return {key, static_cast<uint32_t>(position)};
    } else {
      return static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(position);
    }
  }
};

template <typename T>
using ItemOf = typename Item<KeyOf<T>>::Packed;

inline uint32_t KeyIn(uint64_t item) { return static_cast<uint32_t>(item >> 32); }
inline uint64_t KeyIn(const Item<uint64_t>& item) { return item.key; }
inline uint32_t PositionIn(uint64_t item) { return static_cast<uint32_t>(item); }
inline uint32_t PositionIn(const Item<uint64_t>& item) { return item.position; }

}  // namespace stator
