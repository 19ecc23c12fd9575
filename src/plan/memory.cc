// PlanMemory: one arena for all buffers, by the greedy-by-size rule.
//
// Buffers are placed from the largest to the smallest, each into the tightest gap between those
// buffers already placed that are alive at the same time, or behind them.

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "plan/plan.h"

namespace stator {
namespace {

constexpr int64_t kAlignment = 64;

int64_t Align(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct Placed {
  int64_t begin, end;  // bytes in the arena
  int first_step, last_step;
};

// The start of the tightest gap of `size` bytes beside what is alive during the buffer's life.
// `placed` is sorted by begin.
int64_t FindGap(const std::vector<Placed>& placed, const PlanBuffer& buffer, int64_t size) {
  int64_t best = -1, best_gap = 0, end = 0;
  for (const Placed& other : placed) {
    if (other.last_step < buffer.first_step || buffer.last_step < other.first_step) continue;
    int64_t gap = other.begin - end;
    if (gap >= size && (best < 0 || gap < best_gap)) {
      best = end;
      best_gap = gap;
    }
    end = std::max(end, other.end);
  }
  return best >= 0 ? best : end;
}

}  // namespace

std::vector<int64_t> PlanMemory(const std::vector<PlanBuffer>& buffers,
                                const std::vector<int64_t>& bytes) {
  STATOR_CHECK(buffers.size() == bytes.size(), "{} sizes for {} buffers", bytes.size(),
               buffers.size());
  std::vector<size_t> by_size(buffers.size());
  std::iota(by_size.begin(), by_size.end(), size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });

  std::vector<int64_t> offsets(buffers.size() + 1, 0);
  std::vector<Placed> placed;
  for (size_t i : by_size) {
    if (bytes[i] == 0) continue;
    int64_t size = Align(bytes[i]);
    int64_t begin = FindGap(placed, buffers[i], size);
    offsets[i] = begin;
    offsets.back() = std::max(offsets.back(), begin + size);
    Placed entry{begin, begin + size, buffers[i].first_step, buffers[i].last_step};
    auto at = std::upper_bound(placed.begin(), placed.end(), entry,
                               [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
    placed.insert(at, entry);
  }
  return offsets;
}

}  // namespace stator
