// BackgroundThread: work in pieces on a thread of its own.
//
// Invariant: between two pieces the thread holds nothing, and fork() and the end of the process
// come between two pieces. A forked child has no such thread; what it left undone is for others.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

namespace stator {

class BackgroundThread {
 public:
  // Calls `piece` until it returns false. It must not raise.
  explicit BackgroundThread(std::function<bool()> piece);
  // Returns when a piece that runs is done; no other follows.
  ~BackgroundThread();

  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

 private:
  void Run();

  const std::function<bool()> piece_;
  const int64_t num_forks_;  // of the process, when the thread was started
  std::atomic<bool> stop_ = false;
  std::unique_ptr<std::thread> thread_;
};

}  // namespace stator
