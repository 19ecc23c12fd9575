#include "runtime/forks.h"

#include <atomic>

#include <pthread.h>

namespace stator {
namespace {

std::atomic<int64_t> num_forks = 0;

}  // namespace

int64_t NumForks() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { num_forks.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);
  return num_forks.load(std::memory_order_relaxed);
}

}  // namespace stator
