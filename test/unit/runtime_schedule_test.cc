// MakeSchedule: which steps go to which stream, what they wait for, and that memory is safe.
#include <numeric>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/bind.h"
#include "runtime/schedule.h"

namespace stator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A plan whose steps read and write windows of `columns` of buffers of 64 rows of 8 floats.
struct Window {
  int buffer = 0, column = 0, columns = 8;
};
struct Sketch {
  std::vector<Window> reads, writes;
};

Plan MakePlan(const std::vector<Sketch>& steps, int num_buffers, int aux_streams) {
  Plan plan;
  plan.target = "cuda sm_90a";
  plan.aux_streams = aux_streams;
  plan.inputs.push_back({.name = "x", .dims = {64, 8}, .strides = {8, 1}});
  plan.arena.resize(num_buffers, {.bytes = 2048});
  auto add = [&](const Window& window) {
    bool input = window.buffer < 0;
    plan.tensors.push_back({.storage = input ? StorageKind::kInput : StorageKind::kArena,
                            .index = input ? 0 : window.buffer,
                            .offset = window.column,
                            .dtype = DType::kFloat32,
                            .dims = {64, window.columns},
                            .strides = {8, 1}});
    return static_cast<int>(plan.tensors.size()) - 1;
  };
  for (const Sketch& sketch : steps) {
    Step& step = plan.steps.emplace_back();
    step.kind = StepKind::kGemm;
    for (const Window& window : sketch.reads) step.inputs.push_back(add(window));
    for (const Window& window : sketch.writes) step.outputs.push_back(add(window));
  }
  std::vector<bool> seen(num_buffers, false);
  for (size_t i = 0; i < steps.size(); ++i) {
    for (const auto* windows : {&steps[i].reads, &steps[i].writes}) {
      for (const Window& window : *windows) {
        if (window.buffer < 0) continue;
        PlanBuffer& buffer = plan.arena[window.buffer];
        if (!seen[window.buffer]) buffer.first_step = static_cast<int>(i);
        seen[window.buffer] = true;
        buffer.last_step = static_cast<int>(i);
      }
    }
  }
  return plan;
}

BoundPlan Bind(const Plan& plan) { return BindPlan(plan, {}, {}); }

constexpr Window kInput = {.buffer = -1};

// Two chains from the input, and a step that reads both.
std::vector<Sketch> Diamond() {
  return {
      {{kInput}, {{0}}}, {{{0}}, {{1}}}, {{kInput}, {{2}}}, {{{2}}, {{3}}}, {{{1}, {3}}, {{4}}}};
}

TEST(Schedule, PutsBranchesOnStreams) {
  Plan plan = MakePlan(Diamond(), 5, 1);
  BoundPlan bound = Bind(plan);
  EXPECT_EQ(bound.schedule.num_streams, 2);
  EXPECT_THAT(bound.schedule.streams, ElementsAre(0, 0, 1, 1, 1));
  EXPECT_THAT(bound.schedule.waits,
              ElementsAre(IsEmpty(), IsEmpty(), IsEmpty(), IsEmpty(), ElementsAre(1)));
}

TEST(Schedule, KeepsAChainAndAPlanWithoutStreamsOnTheCallers) {
  std::vector<Sketch> chain = {{{kInput}, {{0}}}, {{{0}}, {{1}}}, {{{1}}, {{0}}}};
  EXPECT_EQ(Bind(MakePlan(chain, 2, 3)).schedule.num_streams, 1);
  Plan plan = MakePlan(Diamond(), 5, 0);
  BoundPlan bound = Bind(plan);
  EXPECT_EQ(bound.schedule.num_streams, 1);
  EXPECT_THAT(bound.schedule.streams, IsEmpty());
  std::vector<int64_t> bytes(5, 2048);
  std::vector<int64_t> offsets = PlanMemory(plan.arena, bytes);
  offsets.pop_back();
  EXPECT_EQ(bound.arena_offsets, offsets);
}

// The parts of a concatenation are written side by side.
TEST(Schedule, PartsOfRowsAreApart) {
  std::vector<Sketch> steps;
  for (int i = 0; i < 4; ++i) steps.push_back({{kInput}, {{0, 2 * i, 2}}});
  steps.push_back({{{0}}, {{1}}});
  Plan plan = MakePlan(steps, 2, 3);
  BoundPlan bound = Bind(plan);
  EXPECT_THAT(bound.schedule.streams, ElementsAre(0, 1, 2, 3, 0));
  EXPECT_THAT(bound.schedule.waits.back(), ElementsAre(1, 2, 3));
}

TEST(Schedule, NeverUsesMoreStreamsThanAskedFor) {
  std::vector<Sketch> steps;
  for (int i = 0; i < 12; ++i) steps.push_back({{kInput}, {{i}}});
  for (int aux = 0; aux < 5; ++aux) {
    EXPECT_EQ(Bind(MakePlan(steps, 12, aux)).schedule.num_streams, aux + 1);
  }
}

TEST(Schedule, TellsWindowsApart) {
  auto window = [](Dims dims, Dims strides) {
    return TensorRef{
        .dtype = DType::kFloat16, .dims = EvalDims(dims, {}), .strides = EvalDims(strides, {})};
  };
  TensorRef row = window({8}, {1}), rows = window({4, 8}, {32, 1});
  EXPECT_FALSE(MayOverlap(row, 0, row, 16));
  EXPECT_TRUE(MayOverlap(row, 0, row, 14));
  EXPECT_FALSE(MayOverlap(rows, 0, rows, 16));
  EXPECT_TRUE(MayOverlap(rows, 0, rows, 14));
  EXPECT_TRUE(MayOverlap(rows, 0, window({4, 33}, {32, 1}), 16));
  EXPECT_FALSE(MayOverlap(rows, 0, window({2, 2, 8}, {64, 32, 1}), 32));
  EXPECT_FALSE(MayOverlap(rows, 0, window({0, 8}, {32, 1}), 0));
  EXPECT_TRUE(MayOverlap(rows, 0, window({4, 8}, {24, 1}), 16));  // not told
}

// Compared with the elements themselves.
TEST(Schedule, WindowsThatShareAnElementMayOverlap) {
  std::mt19937 rng(1);
  auto draw = [&] {
    TensorRef ref{.dtype = DType::kFloat32};
    for (int d = static_cast<int>(rng() % 3); d >= 0; --d) {
      ref.dims.push_back(static_cast<int64_t>(1 + rng() % 3));
      ref.strides.push_back(static_cast<int64_t>(1 + rng() % 12));
    }
    return ref;
  };
  auto elements = [](const TensorRef& ref, int64_t at) {
    std::set<int64_t> all = {at};
    for (int d = 0; d < ref.rank(); ++d) {
      std::set<int64_t> more;
      for (int64_t i = 0; i < ref.dims[d]; ++i) {
        for (int64_t e : all) more.insert(e + i * ref.strides[d]);
      }
      all = more;
    }
    return all;
  };
  int num_apart = 0;
  for (int round = 0; round < 20000; ++round) {
    TensorRef a = draw(), b = draw();
    int64_t at_a = rng() % 10, at_b = rng() % 10;
    std::set<int64_t> in_a = elements(a, at_a), in_b = elements(b, at_b);
    bool share = std::ranges::any_of(in_a, [&](int64_t e) { return in_b.contains(e); });
    bool may = MayOverlap(a, 4 * at_a, b, 4 * at_b);
    EXPECT_LE(share, may);
    num_apart += !may;
  }
  EXPECT_GT(num_apart, 1000);
}

// Whatever order of the steps the streams and waits allow, each step reads and writes the same
// bytes of the arena after the same others.
TEST(Schedule, KeepsMemorySafeOnRandomPlans) {
  std::mt19937 rng(2);
  int num_concurrent = 0;
  for (int round = 0; round < 500; ++round) {
    int num_buffers = 2 + static_cast<int>(rng() % 12);
    std::vector<Sketch> steps(1 + rng() % 25);
    auto draw = [&]() -> Window {
      int column = static_cast<int>(rng() % 2) * 4;
      bool whole = rng() % 2 == 0;
      return {.buffer = static_cast<int>(rng() % num_buffers),
              .column = whole ? 0 : column,
              .columns = whole ? 8 : 4};
    };
    for (Sketch& step : steps) {
      for (unsigned i = rng() % 3; i > 0; --i) step.reads.push_back(draw());
      if (rng() % 4 == 0) step.reads.push_back(kInput);
      step.writes.push_back(draw());
    }
    Plan plan = MakePlan(steps, num_buffers, static_cast<int>(rng() % 4));
    BoundPlan bound = Bind(plan);
    if (bound.schedule.num_streams == 1) continue;
    ++num_concurrent;
    StepOrder order = FindOrder(bound.schedule);
    auto conflict = [&](int a, int b) {
      for (bool write_a : {false, true}) {
        for (bool write_b : {false, true}) {
          if (!write_a && !write_b) continue;
          const Step &step_a = plan.steps[a], &step_b = plan.steps[b];
          for (int i : write_a ? step_a.outputs : step_a.inputs) {
            for (int j : write_b ? step_b.outputs : step_b.inputs) {
              const PlanTensor &of_a = plan.tensors[i], &of_b = plan.tensors[j];
              if (of_a.storage != StorageKind::kArena || of_b.storage != StorageKind::kArena) {
                continue;
              }
              if (MayOverlap(bound.tensors[i],
                             bound.arena_offsets[of_a.index] + bound.tensor_offsets[i],
                             bound.tensors[j],
                             bound.arena_offsets[of_b.index] + bound.tensor_offsets[j])) {
                return true;
              }
            }
          }
        }
      }
      return false;
    };
    for (int b = 0; b < static_cast<int>(steps.size()); ++b) {
      for (int a = 0; a < b; ++a) {
        EXPECT_FALSE(order.IsBefore(b, a));
        if (!conflict(a, b)) continue;
        EXPECT_TRUE(order.IsBefore(a, b)) << round << ": " << a << ", " << b;
      }
      for (int step : bound.schedule.waits[b]) {
        EXPECT_LT(step, b);
        EXPECT_NE(bound.schedule.streams[step], bound.schedule.streams[b]);
      }
    }
  }
  EXPECT_GT(num_concurrent, 200);
}

}  // namespace
}  // namespace stator
