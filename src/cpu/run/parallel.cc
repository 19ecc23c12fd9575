// One OpenMP runtime per process, and why there is no second one.
//
// torch ships its own copy of GNU OpenMP under the name libgomp.so.1, the name that libstator and
// oneDNN (onednn-cpu-gomp) ask for. The loader keeps one library per name, so whoever comes first
// decides the copy for all. A copy under another name (older torch wheels hash it) is shared
// too when torch is imported first, as torch_stator does: torch loads it with RTLD_GLOBAL
// (libtorch_global_deps.so), and global symbols come before a library's own dependencies. What
// remains outside are runtimes of other compilers (libiomp5, libomp): their pools would be apart.
#include "cpu/run/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include <omp.h>

namespace stator {
namespace {

// The threads of RunInOneRegion: the caller's loops, one at a time, in ranges that any takes.
class Team {
 public:
  explicit Team(int size) : size_(size) {}

  int size() const { return size_; }

  void Run(int64_t num_tasks, RangeFn fn, void* context) {
    {
      std::lock_guard lock(mutex_);
      loop_ = {.fn = fn,
               .context = context,
               .num_tasks = num_tasks,
               .num_ranges = std::min(num_tasks, kRangesPerThread * size_)};
      is_open_ = true;
    }
    while (RunRange()) {
    }
    while (num_running_ > 0) std::this_thread::yield();
    if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  // What the other threads do until the caller calls End.
  void Help() {
    while (!has_ended_) {
      if (!is_open_ || !RunRange()) std::this_thread::yield();
    }
  }
  void End() { has_ended_ = true; }

 private:
  // So a thread that stands still holds up little of a loop.
  static constexpr int64_t kRangesPerThread = 4;

  struct Loop {
    RangeFn fn = nullptr;
    void* context = nullptr;
    int64_t num_tasks = 0, num_ranges = 0, next = 0;
  };

  // False when no range of the loop is left to take.
  bool RunRange() {
    Loop loop;
    {
      std::lock_guard lock(mutex_);
      if (!is_open_) return false;
      loop = loop_;
      is_open_ = ++loop_.next < loop_.num_ranges;
      ++num_running_;
    }
    try {
      loop.fn(loop.context, loop.num_tasks * loop.next / loop.num_ranges,
              loop.num_tasks * (loop.next + 1) / loop.num_ranges);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (error_ == nullptr) error_ = std::current_exception();
    }
    --num_running_;
    return true;
  }

  const int size_;
  std::mutex mutex_;
  Loop loop_;
  std::atomic<bool> is_open_ = false, has_ended_ = false;
  std::atomic<int> num_running_ = 0;
  std::exception_ptr error_;
};

thread_local Team* team = nullptr;  // that serves the loops of this thread

}  // namespace

int NumThreads() {
  if (team != nullptr) return team->size();
  return omp_in_parallel() ? 1 : omp_get_max_threads();
}

void UseOneThread() { omp_set_num_threads(1); }

void RunParallel(int64_t num_tasks, RangeFn fn, void* context) {
  if (num_tasks <= 0) return;
  int num_threads = num_tasks == 1 ? 1 : NumThreads();
  if (num_threads == 1) {
    fn(context, 0, num_tasks);
    return;
  }
  if (Team* own = std::exchange(team, nullptr)) {  // a loop in a loop runs on its thread
    try {
      own->Run(num_tasks, fn, context);
    } catch (...) {
      team = own;
      throw;
    }
    team = own;
    return;
  }
  std::exception_ptr error;
#pragma omp parallel num_threads(num_threads)
  {
    int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
    int64_t begin = num_tasks * thread / team, end = num_tasks * (thread + 1) / team;
    try {
      if (begin < end) fn(context, begin, end);
    } catch (...) {
#pragma omp critical
      if (error == nullptr) error = std::current_exception();
    }
  }
  if (error != nullptr) std::rethrow_exception(error);
}

void RunInOneRegion(void (*work)(void* context), void* context) {
  int num_threads = NumThreads();
  if (num_threads == 1 || team != nullptr) {
    work(context);
    return;
  }
  Team threads(num_threads);
  std::exception_ptr error;
#pragma omp parallel num_threads(num_threads)
  {
    if (omp_get_thread_num() == 0) {
      team = &threads;
      try {
        work(context);
      } catch (...) {
        error = std::current_exception();
      }
      team = nullptr;
      threads.End();
    } else {
      threads.Help();
    }
  }
  if (error != nullptr) std::rethrow_exception(error);
}

}  // namespace stator
