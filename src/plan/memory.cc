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
  size_t buffer;
};

// The start of the tightest gap of `size` bytes beside what is alive during the buffer's life.
// `placed` is sorted by begin.
int64_t FindGap(const std::vector<Placed>& placed, size_t buffer, int64_t size,
                const std::function<bool(size_t, size_t)>& meet) {
  int64_t best = -1, best_gap = 0, end = 0;
  for (const Placed& other : placed) {
    if (!meet(other.buffer, buffer)) continue;
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
  return PlanMemory(bytes, [&](size_t a, size_t b) {
    return buffers[a].first_step <= buffers[b].last_step &&
           buffers[b].first_step <= buffers[a].last_step;
  });
}

std::vector<int64_t> PlanMemory(const std::vector<int64_t>& bytes,
                                const std::function<bool(size_t, size_t)>& meet) {
  std::vector<size_t> by_size(bytes.size());
  std::iota(by_size.begin(), by_size.end(), size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });

  std::vector<int64_t> offsets(bytes.size() + 1, 0);
  std::vector<Placed> placed;
  for (size_t i : by_size) {
    if (bytes[i] == 0) continue;
    int64_t size = Align(bytes[i]);
    int64_t begin = FindGap(placed, i, size, meet);
    offsets[i] = begin;
    offsets.back() = std::max(offsets.back(), begin + size);
    Placed entry{begin, begin + size, i};
    auto at = std::upper_bound(placed.begin(), placed.end(), entry,
                               [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
    placed.insert(at, entry);
  }
  return offsets;
}

}  // namespace stator
