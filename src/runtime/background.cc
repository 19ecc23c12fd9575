#include "runtime/background.h"

#include <cstdlib>
#include <mutex>
#include <new>

#include <pthread.h>

#include "runtime/forks.h"

namespace stator {
namespace {

// What a piece holds, and whoever comes between pieces.
struct Gate {
  std::mutex mutex;
  std::atomic<int> num_waiting = 0;  // ahead of the threads: a mutex is not fair
  std::atomic<bool> is_exiting = false;

  void Enter() {
    ++num_waiting;
    mutex.lock();
    --num_waiting;
  }
};

Gate& GetGate();

void BeforeFork() { GetGate().Enter(); }
void InParent() { GetGate().mutex.unlock(); }
void InChild() {
  Gate& gate = GetGate();
  new (&gate.mutex) std::mutex;  // others may have waited for it, who are gone
  gate.num_waiting = 0;
}
// Libraries that pieces use are about to be torn down.
void AtExit() {
  Gate& gate = GetGate();
  gate.is_exiting = true;
  gate.Enter();
  gate.mutex.unlock();
}

Gate& GetGate() {
  static Gate* const gate = [] {  // never destroyed: threads may outlive static objects
    pthread_atfork(BeforeFork, InParent, InChild);
    std::atexit(AtExit);
    return new Gate;
  }();
  return *gate;
}

}  // namespace

BackgroundThread::BackgroundThread(std::function<bool()> piece)
    : piece_(std::move(piece)), num_forks_(NumForks()) {
  GetGate();  // from now on a fork waits, also for a thread that has only just started
  thread_ = std::make_unique<std::thread>([this] { Run(); });
}

BackgroundThread::~BackgroundThread() {
  stop_ = true;
  if (NumForks() == num_forks_) {
    thread_->join();
  } else {
    thread_.release();  // a forked child: there is none to wait for
  }
}

void BackgroundThread::Run() {
  Gate& gate = GetGate();
  while (true) {
    while (gate.num_waiting > 0) std::this_thread::yield();
    std::lock_guard lock(gate.mutex);
    if (stop_ || gate.is_exiting || !piece_()) return;
  }
}

}  // namespace stator
