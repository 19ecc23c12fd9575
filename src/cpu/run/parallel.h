// Threads of the CPU engine: OpenMP regions, each split into one range of tasks per thread.
//
// We compute on no threads of our own. libstator, oneDNN and torch all use GNU OpenMP, and one copy
// of it serves a process (parallel.cc says why), so all three run on the same pool: as many threads
// as torch.get_num_threads() says, none of them spinning against another pool. Invariant: a region
// uses either one thread or all of NumThreads(). GNU OpenMP ends the threads that a smaller team
// does not need and creates them again for the next one.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace stator {

// Threads that a parallel region opened by the calling thread gets; 1 inside a region. OpenMP keeps
// this number per thread: torch.set_num_threads reaches other threads when they first ask torch.
int NumThreads();
// From now on the calling thread's parallel regions have one thread.
void UseOneThread();

using RangeFn = void (*)(void* context, int64_t begin, int64_t end);
// ParallelFor without its template.
void RunParallel(int64_t num_tasks, RangeFn fn, void* context);

// Calls fn(begin, end) on each thread that has tasks, for disjoint ranges that cover [0, num_tasks)
// and differ in length by one at most; on the calling thread alone for one task or one thread. In
// RunInOneRegion a thread may get several ranges, or none. An exception of `fn` reaches the caller,
// the first when there are several.
template <typename Fn>
void ParallelFor(int64_t num_tasks, Fn&& fn) {
  using Body = std::remove_reference_t<Fn>;
  RunParallel(
      num_tasks,
      [](void* context, int64_t begin, int64_t end) { (*static_cast<Body*>(context))(begin, end); },
      const_cast<std::remove_const_t<Body>*>(std::addressof(fn)));
}

// Calls work(context) in one region, where its loops on this thread (ParallelFor) open none of
// their own: the other threads take what tasks they come to, and the caller waits only for tasks
// that have begun. For many short loops in a row: threads that share a core with each other or with
// another process reach the end of a region a time slice late, 3 ms for each of them. oneDNN's
// primitives run on the calling thread alone.
void RunInOneRegion(void (*work)(void* context), void* context);

template <typename Fn>
void InOneRegion(Fn&& work) {
  using Body = std::remove_reference_t<Fn>;
  RunInOneRegion([](void* context) { (*static_cast<Body*>(context))(); },
                 const_cast<std::remove_const_t<Body>*>(std::addressof(work)));
}

}  // namespace stator
