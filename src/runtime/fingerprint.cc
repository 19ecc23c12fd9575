#include "runtime/fingerprint.h"

#include <array>
#include <cstring>

#include "base/hash.h"

namespace stator {

void Fingerprint::Watch(std::span<const ConstantData> weights) {
  words_.clear();
  small_.clear();
  for (const ConstantData& weight : weights) {
    if (weight.size < kWord) {
      if (weight.size > 0) small_.push_back(weight);
      continue;
    }
    size_t last = weight.size - kWord;  // where the last word starts
    size_t count = std::min((weight.size - 1) / kWord, kNumInner + 1);  // words before the last
    for (size_t i = 0; i < count; ++i) {
      words_.push_back(weight.bytes + last * i / count / kWord * kWord);
    }
    words_.push_back(weight.bytes + last);
  }
}

uint64_t Fingerprint::Compute() const {
  std::array<uint64_t, 512> block;
  uint64_t hash = 0;
  for (size_t start = 0; start < words_.size(); start += block.size()) {
    size_t count = std::min(block.size(), words_.size() - start);
    // Loads that do not wait for each other: most of them miss the cache.
    for (size_t i = 0; i < count; ++i) std::memcpy(&block[i], words_[start + i], kWord);
    hash = Hash64(block.data(), count * kWord, hash);
  }
  for (const ConstantData& weight : small_) hash = Hash64(weight.bytes, weight.size, hash);
  return hash;
}

}  // namespace stator
