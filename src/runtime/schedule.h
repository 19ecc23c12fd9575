// Which steps of a plan may run side by side, and on which stream each runs.
//
// In:  a bound plan (the arena not yet planned) and how many streams it may use beside the
// caller's. Out: a stream for each step, and what the step waits for on the others. Invariant: of
// two steps that touch the same bytes, one of which writes them, the later one comes after the
// earlier one: on its stream, or through waits. Deterministic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/device.h"

namespace stator {

// Sets of steps that come before each step.
class StepOrder {
 public:
  explicit StepOrder(size_t num_steps);
  bool IsBefore(int earlier, int later) const {
    return (Row(later)[earlier / 64] >> (earlier % 64) & 1) != 0;
  }
  // `earlier`, and all before it, come before `later`.
  void Add(int earlier, int later);

 private:
  const uint64_t* Row(int step) const { return &bits_[step * num_words_]; }

  size_t num_words_ = 0;
  std::vector<uint64_t> bits_;
};

// A schedule for at most `1 + aux_streams` streams, made in the order of the steps: each
// starts where it can start first by a rough guess of what steps take, on the caller's stream if
// that is as good. Steps go to other streams only for longer than a wait costs.
StepSchedule MakeSchedule(const BoundPlan& bound, int aux_streams);

// The order that a schedule keeps.
StepOrder FindOrder(const StepSchedule& schedule);

// Whether two windows on one storage may have an element in common. `offset`: bytes from the
// storage's start.
bool MayOverlap(const TensorRef& a, int64_t offset_a, const TensorRef& b, int64_t offset_b);

// PlanMemory (plan/plan.h) for steps that run side by side: two buffers share memory only if all
// steps that touch one come before all that touch the other.
std::vector<int64_t> PlanConcurrentMemory(const BoundPlan& bound, std::span<const int64_t> bytes);

}  // namespace stator
