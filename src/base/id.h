// Typed 4-byte ids: positions in a vector that cannot be mixed up with those of another vector.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace stator {

template <typename Tag>
struct Id {
  int32_t index = -1;

  constexpr bool valid() const { return index >= 0; }
  constexpr auto operator<=>(const Id&) const = default;
};

}  // namespace stator

template <typename Tag>
struct std::hash<stator::Id<Tag>> {
  size_t operator()(stator::Id<Tag> id) const noexcept { return static_cast<size_t>(id.index); }
};
