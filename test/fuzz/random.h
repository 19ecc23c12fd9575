// Random choices that a seed decides.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <random>

namespace stator {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed * 0x9e3779b97f4a7c15u + 1) {}
  int Below(int bound) { return static_cast<int>(engine_() % static_cast<uint64_t>(bound)); }
  bool OneIn(int n) { return Below(n) == 0; }
  template <typename T>
  T Among(std::initializer_list<T> items) {
    return items.begin()[Below(static_cast<int>(items.size()))];
  }
  template <typename Items>
  const auto& In(const Items& items) {
    return items[static_cast<size_t>(Below(static_cast<int>(std::size(items))))];
  }
  template <typename Items>
  void Shuffle(Items& items) {
    std::shuffle(items.begin(), items.end(), engine_);
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace stator
