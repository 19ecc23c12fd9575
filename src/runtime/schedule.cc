#include "runtime/schedule.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "runtime/bind.h"

namespace stator {
namespace {

// Microseconds, by what kernels of models at batch 1 take on an H100: a launch, or a product, and
// what an edge between streams costs beside one on the same.
constexpr double kLaunch = 2, kProduct = 4, kWait = 2;
constexpr double kBytesPerMicrosecond = 2e6;

double GuessTime(const BoundPlan& bound, const Step& step) {
  bool is_product = step.kind == StepKind::kGemm || step.kind == StepKind::kConv ||
                    step.kind == StepKind::kAttention;
  double bytes = 0;
  for (const auto* tensors : {&step.inputs, &step.outputs}) {
    for (int tensor : *tensors) {
      const TensorRef& ref = bound.tensors[tensor];
      bytes += static_cast<double>(ref.num_elements()) * DTypeSize(ref.dtype);
    }
  }
  return (is_product ? kProduct : kLaunch) + bytes / kBytesPerMicrosecond;
}

// What steps did to one storage so far.
struct Access {
  int step = 0, tensor = 0;
  bool writes = false;
};

// The earlier steps that each step must come after, ascending.
std::vector<std::vector<int>> FindDependencies(const BoundPlan& bound) {
  const Plan& plan = *bound.plan;
  std::map<std::pair<StorageKind, int>, std::vector<Access>> storages;
  std::vector<std::vector<int>> result(plan.steps.size());
  auto touch = [&](int step, int tensor, bool writes) {
    const PlanTensor& placed = plan.tensors[tensor];
    bool constant = placed.storage == StorageKind::kWeight ||
                    placed.storage == StorageKind::kLiteral ||
                    placed.storage == StorageKind::kDerived;
    if (constant) return;
    std::vector<Access>& accesses = storages[{placed.storage, placed.index}];
    for (const Access& other : accesses) {
      if (other.step == step || !(writes || other.writes)) continue;
      if (MayOverlap(bound.tensors[tensor], bound.tensor_offsets[tensor],
                     bound.tensors[other.tensor], bound.tensor_offsets[other.tensor])) {
        result[step].push_back(other.step);
      }
    }
    accesses.push_back({.step = step, .tensor = tensor, .writes = writes});
  };
  for (int i = 0; i < static_cast<int>(plan.steps.size()); ++i) {
    for (int tensor : plan.steps[i].inputs) touch(i, tensor, false);
    for (int tensor : plan.steps[i].outputs) touch(i, tensor, true);
    std::ranges::sort(result[i]);
    result[i].erase(std::ranges::unique(result[i]).begin(), result[i].end());
  }
  return result;
}

// Gives each step its stream.
class Scheduler {
 public:
  Scheduler(const BoundPlan& bound, int aux_streams)
      : bound_(bound), free_at_(aux_streams + 1, 0) {}

  std::vector<int> Run(const std::vector<std::vector<int>>& dependencies) {
    for (size_t i = 0; i < dependencies.size(); ++i) {
      int best = 0;
      for (int stream = 1; stream < static_cast<int>(free_at_.size()); ++stream) {
        if (StartOn(stream, dependencies[i]) < StartOn(best, dependencies[i])) best = stream;
      }
      double end = StartOn(best, dependencies[i]) + GuessTime(bound_, bound_.plan->steps[i]);
      streams_.push_back(best);
      ends_.push_back(end);
      free_at_[best] = end;
    }
    return std::move(streams_);
  }

 private:
  double StartOn(int stream, const std::vector<int>& dependencies) const {
    double start = std::max(free_at_[stream], stream > 0 ? kWait : 0);
    for (int step : dependencies) {
      start = std::max(start, ends_[step] + (streams_[step] != stream ? kWait : 0));
    }
    return start;
  }

  const BoundPlan& bound_;
  std::vector<double> free_at_;
  std::vector<int> streams_;  // of the steps so far
  std::vector<double> ends_;
};

// Numbers the streams in the order of their first steps; the caller's stays 0.
int Renumber(std::vector<int>& streams) {
  std::map<int, int> numbers = {{0, 0}};
  for (int& stream : streams) {
    stream = numbers.try_emplace(stream, static_cast<int>(numbers.size())).first->second;
  }
  return static_cast<int>(numbers.size());
}

struct Level {  // dims of a stride or less, between two strides of a window
  int64_t stride = 0, size = 0;
};

// The dims of more than one element, the innermost last.
std::vector<Level> LevelsOf(const TensorRef& tensor) {
  std::vector<Level> levels;
  for (int d = 0; d < tensor.rank(); ++d) {
    if (tensor.dims[d] > 1) levels.push_back({tensor.strides[d], tensor.dims[d]});
  }
  std::ranges::stable_sort(levels,
                           [](const Level& a, const Level& b) { return a.stride > b.stride; });
  return levels;
}

// Elements from the first to the last one of the dims with strides below `period`, and one; none
// where a larger stride is no multiple of it.
std::optional<int64_t> SpanBelow(const std::vector<Level>& levels, int64_t period) {
  int64_t span = 1;
  for (const Level& level : levels) {
    if (level.stride < 0) return std::nullopt;
    if (level.stride < period) {
      span += level.stride * (level.size - 1);
    } else if (level.stride % period != 0) {
      return std::nullopt;
    }
  }
  return span;
}

}  // namespace

StepOrder::StepOrder(size_t num_steps)
    : num_words_((num_steps + 63) / 64), bits_(num_steps * num_words_) {}

void StepOrder::Add(int earlier, int later) {
  uint64_t* row = &bits_[later * num_words_];
  row[earlier / 64] |= uint64_t{1} << (earlier % 64);
  const uint64_t* other = Row(earlier);
  for (size_t i = 0; i < num_words_; ++i) row[i] |= other[i];
}

// Two windows are apart when they lie in different parts of each period of a stride that divides
// all larger ones: parts of rows, of planes.
bool MayOverlap(const TensorRef& a, int64_t offset_a, const TensorRef& b, int64_t offset_b) {
  if (a.num_elements() == 0 || b.num_elements() == 0) return false;
  int64_t size_a = static_cast<int64_t>(DTypeSize(a.dtype));
  int64_t size_b = static_cast<int64_t>(DTypeSize(b.dtype));
  if (offset_a + Extent(a) <= offset_b || offset_b + Extent(b) <= offset_a) return false;
  if (size_a != size_b || offset_a % size_a != 0 || offset_b % size_a != 0) return true;
  std::vector<Level> levels_a = LevelsOf(a), levels_b = LevelsOf(b);
  for (const std::vector<Level>* levels : {&levels_a, &levels_b}) {
    for (const Level& level : *levels) {
      int64_t period = level.stride;
      if (period <= 0) return true;
      std::optional<int64_t> span_a = SpanBelow(levels_a, period);
      std::optional<int64_t> span_b = SpanBelow(levels_b, period);
      if (!span_a || !span_b) continue;
      int64_t at_a = offset_a / size_a % period, at_b = offset_b / size_a % period;
      bool whole = at_a + *span_a <= period && at_b + *span_b <= period;
      if (whole && (at_a + *span_a <= at_b || at_b + *span_b <= at_a)) return false;
    }
  }
  return true;
}

StepSchedule MakeSchedule(const BoundPlan& bound, int aux_streams) {
  std::vector<std::vector<int>> dependencies = FindDependencies(bound);
  StepSchedule schedule;
  schedule.streams = Scheduler(bound, aux_streams).Run(dependencies);
  schedule.num_streams = Renumber(schedule.streams);
  if (schedule.num_streams == 1) return {};
  StepOrder order(dependencies.size());
  std::vector<int> last(schedule.num_streams, -1);
  for (int i = 0; i < static_cast<int>(dependencies.size()); ++i) {
    int& before = last[schedule.streams[i]];
    if (before >= 0) order.Add(before, i);
    before = i;
    std::vector<int>& waits = schedule.waits.emplace_back();
    // The latest first: it often stands for earlier ones.
    for (auto it = dependencies[i].rbegin(); it != dependencies[i].rend(); ++it) {
      if (order.IsBefore(*it, i)) continue;
      order.Add(*it, i);
      waits.push_back(*it);
    }
    std::ranges::sort(waits);
  }
  return schedule;
}

StepOrder FindOrder(const StepSchedule& schedule) {
  StepOrder order(schedule.streams.size());
  std::vector<int> last(schedule.num_streams, -1);
  for (int i = 0; i < static_cast<int>(schedule.streams.size()); ++i) {
    int& before = last[schedule.streams[i]];
    if (before >= 0) order.Add(before, i);
    before = i;
    for (int step : schedule.waits[i]) order.Add(step, i);
  }
  return order;
}

std::vector<int64_t> PlanConcurrentMemory(const BoundPlan& bound, std::span<const int64_t> bytes) {
  const Plan& plan = *bound.plan;
  StepOrder order = FindOrder(bound.schedule);
  std::vector<std::vector<int>> users(plan.arena.size());
  for (int i = 0; i < static_cast<int>(plan.steps.size()); ++i) {
    for (const auto* tensors : {&plan.steps[i].inputs, &plan.steps[i].outputs}) {
      for (int tensor : *tensors) {
        const PlanTensor& placed = plan.tensors[tensor];
        if (placed.storage != StorageKind::kArena) continue;
        std::vector<int>& steps = users[placed.index];
        if (steps.empty() || steps.back() != i) steps.push_back(i);
      }
    }
  }
  auto all_before = [&](const std::vector<int>& earlier, const std::vector<int>& later) {
    if (earlier.empty() || later.empty()) return true;
    if (earlier.front() >= later.front()) return false;  // the order is one of those of the steps
    return std::ranges::all_of(earlier, [&](int a) {
      return std::ranges::all_of(later, [&](int b) { return order.IsBefore(a, b); });
    });
  };
  return PlanMemory(std::vector(bytes.begin(), bytes.end()), [&](size_t a, size_t b) {
    return !all_before(users[a], users[b]) && !all_before(users[b], users[a]);
  });
}

}  // namespace stator
