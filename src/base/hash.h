// Content hashes (XXH3, xxhash.com): for cache keys, checksums and fingerprints; not cryptographic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace stator {

struct Hash128Value {
  uint64_t high = 0, low = 0;
  std::string ToString() const;  // 32 hex digits
  friend bool operator==(const Hash128Value&, const Hash128Value&) = default;
};

uint64_t Hash64(const void* data, size_t size, uint64_t seed = 0);
Hash128Value Hash128(const void* data, size_t size);
inline Hash128Value Hash128(std::string_view text) { return Hash128(text.data(), text.size()); }

}  // namespace stator
