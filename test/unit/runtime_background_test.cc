// BackgroundThread: pieces run to the end or until it is destroyed, and fork comes between two.
#include <chrono>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/background.h"

namespace stator {
namespace {

using namespace std::chrono_literals;

void Await(const std::atomic<int>& count, int wanted) {
  while (count < wanted) std::this_thread::sleep_for(100us);
}

TEST(Background, CallsUntilThereIsNoMore) {
  std::atomic<int> count = 0;
  BackgroundThread thread([&] { return ++count < 5; });
  Await(count, 5);
  std::this_thread::sleep_for(2ms);
  EXPECT_EQ(count, 5);
}

TEST(Background, StopsBetweenPieces) {
  std::atomic<int> count = 0, done = 0;
  {
    BackgroundThread thread([&] {
      ++count;
      std::this_thread::sleep_for(1ms);
      ++done;
      return true;
    });
    Await(count, 3);
  }
  EXPECT_EQ(count, done);
}

TEST(Background, ForksBetweenPieces) {
  std::atomic<int> count = 0, done = 0;
  auto thread = std::make_unique<BackgroundThread>([&] {
    ++count;
    std::this_thread::sleep_for(200us);
    ++done;
    return true;
  });
  for (int i = 0; i < 5; ++i) {
    Await(count, done + 1);
    pid_t child = fork();
    if (child == 0) {
      bool whole = count == done;
      thread.reset();  // does not wait for a thread that is not there
      BackgroundThread own([&] { return ++count < 0; });
      Await(count, done + 1);
      _exit(whole ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace stator
