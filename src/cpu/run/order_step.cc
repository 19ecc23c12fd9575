// PrepareOrder: sort and topk along one dim.
//
// Elements are compared by their keys (ops/sort_keys.h), the greatest first or last. Sorting is by
// radix, which keeps equal elements in order. What need not keep it leaves equal elements as torch
// does: topk (ATen/native/TopKImpl.h) and sorts that are not stable (ATen/native/cpu/SortingKernel)
// by the standard library's algorithms on keys and positions, which see the same outcome of each
// comparison.
#include <algorithm>
#include <utility>

#include "cpu/run/chosen_lines.h"
#include "ops/sort_keys.h"

namespace stator {
namespace {

// ---- sort: to smaller keys first, equal ones in order
template <typename I>
void InsertionSort(I* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    I item = items[i];
    int64_t at = i;
    for (; at > 0 && KeyIn(items[at - 1]) > KeyIn(item); --at) items[at] = items[at - 1];
    items[at] = item;
  }
}

// Returns `items` or `other`, whichever holds the result.
template <int kBytes, typename I>
I* RadixSort(I* items, I* other, int64_t n) {
  uint32_t counts[kBytes][256] = {};
  for (int64_t i = 0; i < n; ++i) {
    auto key = KeyIn(items[i]);
    for (int b = 0; b < kBytes; ++b) ++counts[b][key >> (8 * b) & 0xff];
  }
  for (int b = 0; b < kBytes; ++b) {
    uint32_t* count = counts[b];
    if (count[KeyIn(items[0]) >> (8 * b) & 0xff] == n) continue;  // all alike
    uint32_t start = 0;
    for (int digit = 0; digit < 256; ++digit) start += std::exchange(count[digit], start);
    for (int64_t i = 0; i < n; ++i) other[count[KeyIn(items[i]) >> (8 * b) & 0xff]++] = items[i];
    std::swap(items, other);
  }
  return items;
}

template <typename T>
const ItemOf<T>* SortLine(const T* line, int64_t step, int64_t n, bool descending, bool stable,
                          ItemOf<T>* items) {
  using Key = KeyOf<T>;
  constexpr int64_t kMaxInsertion = 48;
  Key flip = descending ? static_cast<Key>(~Key{0}) : Key{0};
  for (int64_t i = 0; i < n; ++i) {
    items[i] = Item<Key>::Make(static_cast<Key>(MakeKey(line[i * step]) ^ flip), i);
  }
  if (!stable) {
    std::sort(items, items + n, [](const auto& a, const auto& b) { return KeyIn(a) < KeyIn(b); });
    return items;
  }
  if (n > kMaxInsertion) return RadixSort<sizeof(Key)>(items, items + n, n);
  InsertionSort(items, n);
  return items;
}

// ---- topk: greater keys first
struct Precedes {
  template <typename I>
  bool operator()(const I& a, const I& b) const {
    return KeyIn(a) > KeyIn(b);
  }
};

// std::partial_sort, which keeps the first k of a line in a heap and puts in each later element
// that precedes the heap's top; elements that do not are skipped a block at a time.
template <typename T>
void SelectFew(const T* line, int64_t step, int64_t n, int64_t k, KeyOf<T> flip, ItemOf<T>* heap) {
  using Key = KeyOf<T>;
  constexpr int64_t kBlock = 64;
  auto key_at = [&](int64_t i) { return static_cast<Key>(MakeKey(line[i * step]) ^ flip); };
  for (int64_t i = 0; i < k; ++i) heap[i] = Item<Key>::Make(key_at(i), i);
  std::make_heap(heap, heap + k, Precedes{});
  for (int64_t first = k; first < n; first += kBlock) {
    int64_t last = std::min(first + kBlock, n);
    Key keys[kBlock];
    for (int64_t i = first; i < last; ++i) keys[i - first] = key_at(i);
    Key top = static_cast<Key>(KeyIn(heap[0])), largest = 0;
    for (int64_t i = 0; i < last - first; ++i) largest = std::max(largest, keys[i]);
    if (largest <= top) continue;
    for (int64_t i = first; i < last; ++i) {
      if (keys[i - first] <= KeyIn(heap[0])) continue;
      heap[k] = Item<Key>::Make(keys[i - first], i);
      std::pop_heap(heap, heap + k + 1, Precedes{});  // the top makes room for it
    }
  }
  std::sort_heap(heap, heap + k, Precedes{});
}

template <typename T>
void SelectLine(const T* line, int64_t step, int64_t n, int64_t k, bool largest, bool sorted,
                ItemOf<T>* items) {
  using Key = KeyOf<T>;
  if (k == 0) return;
  Key flip = largest ? Key{0} : static_cast<Key>(~Key{0});
  if (k * 64 <= n) return SelectFew(line, step, n, k, flip, items);
  for (int64_t i = 0; i < n; ++i) {
    items[i] = Item<Key>::Make(static_cast<Key>(MakeKey(line[i * step]) ^ flip), i);
  }
  std::nth_element(items, items + k - 1, items + n, Precedes{});
  if (sorted) std::sort(items, items + k - 1, Precedes{});
}

// ---- the step
class OrderStep final : public PreparedStep {
 public:
  explicit OrderStep(const NodeSite& site)
      : lines_(site, site.node->attrs.GetInt("dim")),
        is_sort_(site.node->op->name == "sort"),
        first_(site.node->attrs.GetBool(is_sort_ ? "descending" : "largest")),
        in_order_(is_sort_ || site.node->attrs.GetBool("sorted")) {
    const Attr* stable = site.node->attrs.Find("stable");
    is_stable_ = stable == nullptr || std::get<bool>(*stable);
    int64_t size = lines_.size();
    if (lines_.num_chosen() > size) {
      Fail(ErrorKind::kInvalidArgument, "k is {} for a dim of {}", lines_.num_chosen(), size);
    }
    int64_t num_items = is_sort_ ? 2 * size : size + 1;
    lines_.SetScratch(num_items * (DTypeSize(lines_.dtype()) == 8 ? 16 : 8));
  }

  int64_t ws_bytes() const override { return lines_.ws_bytes(); }

  void Run(const StepArgs& args) const override {
    lines_.Run(args, [&]<typename T>(const ChosenLine<T>& line) { RunLine(line); });
  }

 private:
  template <typename T>
  void RunLine(const ChosenLine<T>& line) const {
    static_assert(sizeof(ItemOf<T>) == (sizeof(T) == 8 ? 16 : 8));
    auto* items = reinterpret_cast<ItemOf<T>*>(line.ws);
    const ItemOf<T>* order = items;
    int64_t size = lines_.size(), num_kept = lines_.num_chosen();
    if (is_sort_) {
      order = SortLine(line.x, line.step, size, first_, is_stable_, items);
    } else {
      SelectLine(line.x, line.step, size, num_kept, first_, in_order_, items);
    }
    for (int64_t i = 0; i < num_kept; ++i) line.Put(i, PositionIn(order[i]));
  }

  ChosenLines lines_;
  bool is_sort_;
  bool first_;  // whether the largest comes first
  bool in_order_, is_stable_ = true;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareOrder(const NodeSite& site) {
  return std::make_unique<OrderStep>(site);
}

}  // namespace stator
