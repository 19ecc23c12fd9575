// One element of a line: the k-th smallest, the median, the most frequent.
//
// Which of equal elements it is is torch's choice (2.15, ATen/native/Sorting.cpp and
// cpu/TensorCompareKernel.cpp), which follows from its algorithms: for k-th values its own quick
// select, for the mode std::sort by values alone, for the median the place in a stable sort.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "ir/graph.h"
#include "ops/scalar.h"
#include "ops/sort_keys.h"

namespace stator {

enum class Choice { kKth, kMedian, kNanMedian, kMode };

struct ChosenElement {
  Choice choice = Choice::kKth;
  int64_t k = 0;  // from 0 on; of kKth

  // Raises InvalidArgument when a line of n has no such element.
  void Check(int64_t n) const;
};

// What a node of the rows of choose.cc chooses.
ChosenElement FindChoice(const Node& node);
ChosenElement FindChoice(std::string_view op, const Attrs& attrs);

inline constexpr int64_t kChoiceBytes = 16;  // of a buffer, for each element

// Brings the item of rank k to items[k] (Sedgewick 1978; the pivot is the median of three).
template <typename I>
void QuickSelect(I* items, int64_t n, int64_t k) {
  auto greater = [](const I& a, const I& b) { return KeyIn(a) > KeyIn(b); };
  int64_t left = 0, right = n - 1;
  while (left < right) {
    if (right == left + 1) {
      if (greater(items[left], items[right])) std::swap(items[left], items[right]);
      return;
    }
    std::swap(items[left + (right - left) / 2], items[left + 1]);
    if (greater(items[left + 1], items[right])) std::swap(items[left + 1], items[right]);
    if (greater(items[left], items[right])) std::swap(items[left], items[right]);
    if (greater(items[left + 1], items[left])) std::swap(items[left + 1], items[left]);
    int64_t i = left + 1, j = right;
    const I pivot = items[left];
    while (true) {
      do ++i;
      while (greater(pivot, items[i]));
      do --j;
      while (greater(items[j], pivot));
      if (j < i) break;
      std::swap(items[i], items[j]);
    }
    std::swap(items[left], items[j]);
    if (j <= k) left = i;
    if (j >= k) right = j - 1;
  }
}

// A NaN equals nothing, and takes part in the sort as torch's does.
template <typename T>
int64_t FindMode(const T* line, int64_t step, int64_t n, std::byte* buffer) {
  using Pair = std::pair<scalar::Compute<T>, int64_t>;
  static_assert(sizeof(Pair) <= kChoiceBytes);
  Pair* pairs = reinterpret_cast<Pair*>(buffer);
  for (int64_t i = 0; i < n; ++i) pairs[i] = {scalar::ToCompute(line[i * step]), i};
  std::sort(pairs, pairs + n, [](const Pair& a, const Pair& b) { return a.first < b.first; });
  int64_t mode = 0, most = 0, count = 0;
  for (int64_t i = 0; i < n; ++i) {
    ++count;
    if (i + 1 < n && !(pairs[i].first != pairs[i + 1].first)) continue;
    if (count > most) {
      most = count;
      mode = pairs[i].second;
    }
    count = 0;
  }
  return mode;
}

// The position of the chosen element of a line of n > 0, `step` apart; `k` from 0 on, of kKth.
template <typename T>
int64_t ChooseInLine(Choice choice, const T* line, int64_t step, int64_t n, int64_t k,
                     std::byte* buffer) {
  using Key = KeyOf<T>;
  using I = ItemOf<T>;
  static_assert(sizeof(I) <= kChoiceBytes);
  if (choice == Choice::kMode) return FindMode(line, step, n, buffer);
  I* items = reinterpret_cast<I*>(buffer);
  int64_t num_nans = 0;
  for (int64_t i = 0; i < n; ++i) {
    Key key = MakeKey(line[i * step]);
    if (IsNanKey<T>(key)) {
      if (choice == Choice::kMedian) return i;
      ++num_nans;
    }
    items[i] = Item<Key>::Make(key, i);
  }
  if (choice == Choice::kKth) {
    QuickSelect(items, n, k);
    return PositionIn(items[k]);
  }
  int64_t middle = choice == Choice::kNanMedian ? n - num_nans : n;
  middle = std::max<int64_t>(middle - 1, 0) / 2;
  // One NaN does not precede another: a line of them alone keeps what nth_element makes of it.
  std::nth_element(items, items + middle, items + n, [](const I& a, const I& b) {
    if (KeyIn(a) != KeyIn(b)) return KeyIn(a) < KeyIn(b);
    return PositionIn(a) < PositionIn(b) && !IsNanKey<T>(static_cast<Key>(KeyIn(a)));
  });
  return PositionIn(items[middle]);
}

}  // namespace stator
