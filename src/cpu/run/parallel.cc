// One OpenMP runtime per process, and why there is no second one.
//
// torch ships its own copy of GNU OpenMP under the name libgomp.so.1, the name that libstator and
// oneDNN (onednn-cpu-gomp) ask for. The loader keeps one library per name, so whoever comes first
// decides the copy for all. A copy under another name (older torch wheels hash it) is shared
// too when torch is imported first, as torch_stator does: torch loads it with RTLD_GLOBAL
// (libtorch_global_deps.so), and global symbols come before a library's own dependencies. What
// remains outside are runtimes of other compilers (libiomp5, libomp): their pools would be apart.
#include "cpu/run/parallel.h"

#include <exception>

#include <omp.h>

namespace stator {

int NumThreads() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

void UseOneThread() { omp_set_num_threads(1); }

void RunParallel(int64_t num_tasks, RangeFn fn, void* context) {
  if (num_tasks <= 0) return;
  int num_threads = num_tasks == 1 ? 1 : NumThreads();
  if (num_threads == 1) {
    fn(context, 0, num_tasks);
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

}  // namespace stator
