// PlanMemory: buffers alive together never overlap, and the arena is no larger than their sum.
#include <random>

#include <gtest/gtest.h>

#include "plan/plan.h"

namespace stator {
namespace {

int64_t Align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

TEST(PlanMemory, ReusesWhatIsDead) {
  std::vector<PlanBuffer> chain = {{.first_step = 0, .last_step = 1},
                                   {.first_step = 1, .last_step = 2},
                                   {.first_step = 2, .last_step = 3}};
  EXPECT_EQ(PlanMemory(chain, {100, 100, 100}), (std::vector<int64_t>{0, 128, 0, 256}));
}

TEST(PlanMemory, FillsTheTightestGap) {
  // Buffers 0 to 3 stand in a row, 1 and 3 die at step 0; 4 then fits the gap of 3, not that of 1.
  std::vector<PlanBuffer> buffers = {
      {.first_step = 0, .last_step = 1}, {.first_step = 0, .last_step = 0},
      {.first_step = 0, .last_step = 1}, {.first_step = 0, .last_step = 0},
      {.first_step = 0, .last_step = 1}, {.first_step = 1, .last_step = 1}};
  EXPECT_EQ(PlanMemory(buffers, {640, 512, 448, 192, 128, 64}),
            (std::vector<int64_t>{0, 640, 1152, 1600, 1792, 1600, 1920}));
}

TEST(PlanMemory, HandlesEmptyPlansAndBuffers) {
  EXPECT_EQ(PlanMemory(std::vector<PlanBuffer>(), {}), (std::vector<int64_t>{0}));
  EXPECT_EQ(PlanMemory({{}, {}}, {0, 1}), (std::vector<int64_t>{0, 0, 64}));
}

TEST(PlanMemory, NeverOverlapsWhatIsAliveTogether) {
  std::mt19937 rng(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<PlanBuffer> buffers(rng() % 30);
    std::vector<int64_t> bytes;
    int64_t sum = 0, largest = 0;
    for (PlanBuffer& buffer : buffers) {
      buffer.first_step = static_cast<int>(rng() % 20);
      buffer.last_step = buffer.first_step + static_cast<int>(rng() % 6);
      bytes.push_back(rng() % 8 == 0 ? 0 : static_cast<int64_t>(rng() % 1000));
      sum += Align(bytes.back());
      largest = std::max(largest, Align(bytes.back()));
    }
    std::vector<int64_t> offsets = PlanMemory(buffers, bytes);
    ASSERT_EQ(offsets.size(), buffers.size() + 1);
    EXPECT_LE(offsets.back(), sum);
    EXPECT_GE(offsets.back(), largest);
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(offsets[i] % 64, 0);
      EXPECT_LE(offsets[i] + bytes[i], offsets.back());
      for (size_t k = 0; k < i; ++k) {
        bool together = buffers[i].first_step <= buffers[k].last_step &&
                        buffers[k].first_step <= buffers[i].last_step;
        bool apart = offsets[i] + bytes[i] <= offsets[k] || offsets[k] + bytes[k] <= offsets[i];
        EXPECT_TRUE(!together || apart) << "round " << round << ": buffers " << k << " and " << i;
      }
    }
  }
}

}  // namespace
}  // namespace stator
