// ParallelFor: ranges, thread counts, nesting, exceptions, and callers on several threads.
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <omp.h>

#include "cpu/run/parallel.h"

namespace stator {
namespace {

// How often each task of [0, num_tasks) was run.
std::vector<int> CountTasks(int64_t num_tasks) {
  std::vector<std::atomic<int>> counts(num_tasks);
  ParallelFor(num_tasks, [&](int64_t begin, int64_t end) {
    EXPECT_LT(begin, end);
    for (int64_t i = begin; i < end; ++i) ++counts[i];
  });
  return {counts.begin(), counts.end()};
}

TEST(Parallel, RunsEachTaskOnce) {
  for (int threads : {1, 2, 3, 7}) {
    omp_set_num_threads(threads);
    EXPECT_EQ(NumThreads(), threads);
    for (int64_t num_tasks : {0, 1, 2, 3, 6, 7, 8, 1000}) {
      EXPECT_EQ(CountTasks(num_tasks), std::vector<int>(num_tasks, 1));
    }
  }
  omp_set_num_threads(omp_get_num_procs());
}

TEST(Parallel, OneTaskRunsOnTheCaller) {
  std::thread::id caller = std::this_thread::get_id();
  ParallelFor(1, [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST(Parallel, ANestedLoopRunsOnItsThread) {
  omp_set_num_threads(2);
  std::atomic<int> sum = 0;
  ParallelFor(2, [&](int64_t, int64_t) {
    std::thread::id outer = std::this_thread::get_id();
    EXPECT_EQ(NumThreads(), 1);
    ParallelFor(10, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      sum += static_cast<int>(end - begin);
    });
  });
  EXPECT_EQ(sum, 20);
}

TEST(Parallel, AnExceptionReachesTheCaller) {
  omp_set_num_threads(2);
  for (int64_t bad : {0, 1}) {
    EXPECT_THROW(ParallelFor(2,
                             [&](int64_t begin, int64_t end) {
                               if (begin <= bad && bad < end) throw std::runtime_error("bad task");
                             }),
                 std::runtime_error);
  }
  EXPECT_EQ(CountTasks(5), std::vector<int>(5, 1));
}

TEST(Parallel, ServesSeveralCallersAtOnce) {
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([] {
      for (int i = 0; i < 50; ++i) EXPECT_EQ(CountTasks(9), std::vector<int>(9, 1));
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(Parallel, LoopsInOneRegionRunEachTaskOnce) {
  for (int threads : {1, 2, 7}) {
    omp_set_num_threads(threads);
    std::thread::id caller = std::this_thread::get_id();
    InOneRegion([&] {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      EXPECT_EQ(NumThreads(), threads);
      for (int64_t num_tasks : {0, 1, 2, 7, 8, 100, 1000}) {
        EXPECT_EQ(CountTasks(num_tasks), std::vector<int>(num_tasks, 1));
      }
      InOneRegion([&] { EXPECT_EQ(CountTasks(9), std::vector<int>(9, 1)); });
    });
    EXPECT_EQ(NumThreads(), threads);
    EXPECT_EQ(CountTasks(9), std::vector<int>(9, 1));
  }
  omp_set_num_threads(omp_get_num_procs());
}

TEST(Parallel, ANestedLoopInOneRegionRunsOnItsThread) {
  omp_set_num_threads(2);
  std::atomic<int> sum = 0;
  InOneRegion([&] {
    ParallelFor(20, [&](int64_t first, int64_t last) {
      std::thread::id outer = std::this_thread::get_id();
      EXPECT_EQ(NumThreads(), 1);
      ParallelFor(10, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(std::this_thread::get_id(), outer);
        sum += static_cast<int>((end - begin) * (last - first));
      });
    });
  });
  EXPECT_EQ(sum, 200);
}

TEST(Parallel, AnExceptionInOneRegionReachesTheCaller) {
  omp_set_num_threads(2);
  auto fail = [](int64_t bad) {
    ParallelFor(20, [&](int64_t begin, int64_t end) {
      if (begin <= bad && bad < end) throw std::runtime_error("bad task");
    });
  };
  InOneRegion([&] {
    for (int64_t bad : {0, 19}) EXPECT_THROW(fail(bad), std::runtime_error);
    EXPECT_EQ(CountTasks(50), std::vector<int>(50, 1));
  });
  EXPECT_THROW(InOneRegion([&] { fail(7); }), std::runtime_error);
  EXPECT_EQ(CountTasks(5), std::vector<int>(5, 1));
}

}  // namespace
}  // namespace stator
