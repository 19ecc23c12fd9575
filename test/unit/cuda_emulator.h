// CUDA's words for the host compiler: kernel texts run as ordinary C++, a block's threads as
// fibers.
//
// In:  included before src/codegen/prelude.cuh by a source that holds kernel texts.
// Out: emulator::Launch runs a kernel over a grid, each block's threads in a given order.
// What it finds beside wrong results: a barrier that not all threads reach, a vector access that is
// not aligned, a read of shared memory never written (filled with NaN patterns for each block),
// and, by results that depend on the threads' order, most data races between two barriers.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define STATOR_EMULATED
#define __global__
#define __launch_bounds__(...)
// EMULATED_SECTION names a section of the kernel's own, so that its shared memory can be found.
#define __shared__ static __attribute__((section(EMULATED_SECTION)))

namespace emulator {

struct Index3 {
  unsigned x, y, z;
};
inline Index3 thread_index, block_index, block_dim, grid_dim;

enum class Wait { kNone, kBlock, kWarp, kDone };

struct Fiber {
  jmp_buf place;
  ucontext_t start;
  bool started = false;
  Wait wait = Wait::kNone;
};

inline constexpr size_t kStackBytes = 64 << 10;
inline std::vector<Fiber> fibers;
inline std::vector<char> stacks;
inline jmp_buf scheduler;
inline ucontext_t scheduler_context;
inline size_t current;
inline void (*body)(void*);
inline void* body_argument;
inline std::vector<unsigned char> dynamic_shared;
inline uint64_t warp_slots[64][32];

[[noreturn]] inline void Fail(const char* what) {
  fprintf(stderr, "emulator: %s (block %u, thread %u)\n", what, block_index.x, thread_index.x);
  abort();
}

inline void Yield(Wait wait) {
  Fiber& fiber = fibers[current];
  fiber.wait = wait;
  if (_setjmp(fiber.place) == 0) _longjmp(scheduler, 1);
}

inline void RunFiber() {
  body(body_argument);
  fibers[current].wait = Wait::kDone;
  _longjmp(scheduler, 1);
}

inline void Resume(size_t index) {
  current = index;
  thread_index = {static_cast<unsigned>(index), 0, 0};
  Fiber& fiber = fibers[index];
  fiber.wait = Wait::kNone;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack = {.ss_sp = stacks.data() + index * kStackBytes, .ss_size = kStackBytes};
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, RunFiber, 0);
  setcontext(&fiber.start);
}

// Lets waiting threads go on: a warp whose lanes all wait, or the block when all its threads do.
inline bool Release() {
  size_t count = fibers.size();
  bool released = false;
  for (size_t first = 0; first < count; first += 32) {
    size_t waiting = 0;
    for (size_t i = first; i < first + 32; ++i) waiting += fibers[i].wait == Wait::kWarp;
    if (waiting == 0) continue;
    if (waiting != 32) Fail("a warp's lanes do not all reach a shuffle");
    for (size_t i = first; i < first + 32; ++i) fibers[i].wait = Wait::kNone;
    released = true;
  }
  if (released) return true;
  size_t waiting = 0;
  for (Fiber& fiber : fibers) waiting += fiber.wait == Wait::kBlock;
  if (waiting == 0) return false;
  if (waiting != count) Fail("a block's threads do not all reach a barrier");
  for (Fiber& fiber : fibers) fiber.wait = Wait::kNone;
  return true;
}

// order 0: ascending; 1: descending; else shuffled by that seed, anew at each barrier.
inline void RunBlock(size_t num_threads, int order) {
  if (fibers.size() != num_threads) fibers = std::vector<Fiber>(num_threads);
  if (stacks.size() < num_threads * kStackBytes) stacks.resize(num_threads * kStackBytes);
  for (Fiber& fiber : fibers) fiber.started = false, fiber.wait = Wait::kNone;
  std::vector<size_t> turns(num_threads);
  for (size_t i = 0; i < num_threads; ++i) turns[i] = order == 1 ? num_threads - 1 - i : i;
  std::mt19937 random(order);
  do {
    if (order > 1) std::shuffle(turns.begin(), turns.end(), random);
    for (size_t i : turns) {
      if (fibers[i].wait == Wait::kNone) Resume(i);
    }
  } while (Release());
}

struct LaunchArguments {
  Index3 grid;
  unsigned block = 0, smem = 0;
  int order = 0;
  unsigned char *shared_begin = nullptr, *shared_end = nullptr;
};

template <typename... Parameters, size_t... kPositions>
void LaunchWith(void (*kernel)(Parameters...), void** parameters, const LaunchArguments& launch,
                std::index_sequence<kPositions...>) {
  static void (*running)(Parameters...);
  static void** values;
  running = kernel;
  values = parameters;
  body = [](void*) { running(*static_cast<Parameters*>(values[kPositions])...); };
  if (launch.block % 32 != 0) Fail("a block is no whole number of warps");
  block_dim = {launch.block, 1, 1};
  grid_dim = launch.grid;
  for (unsigned z = 0; z < launch.grid.z; ++z) {
    for (unsigned y = 0; y < launch.grid.y; ++y) {
      for (unsigned x = 0; x < launch.grid.x; ++x) {
        block_index = {x, y, z};
        std::fill(launch.shared_begin, launch.shared_end, 0xff);
        dynamic_shared.assign(launch.smem + 128, 0xff);
        RunBlock(launch.block, launch.order);
      }
    }
  }
}

template <typename... Parameters>
void Launch(void (*kernel)(Parameters...), void** parameters, const LaunchArguments& launch) {
  LaunchWith(kernel, parameters, launch, std::index_sequence_for<Parameters...>());
}

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_dim
#define gridDim emulator::grid_dim

inline void __syncthreads() { emulator::Yield(emulator::Wait::kBlock); }
inline void __syncwarp() { emulator::Yield(emulator::Wait::kWarp); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  if (mask != 0xffffffffu) emulator::Fail("a shuffle of some lanes only");
  uint64_t(&slots)[32] = emulator::warp_slots[threadIdx.x / 32];
  memcpy(&slots[threadIdx.x % 32], &value, sizeof value);
  emulator::Yield(emulator::Wait::kWarp);
  memcpy(&value, &slots[lane % 32], sizeof value);
  emulator::Yield(emulator::Wait::kWarp);
  return value;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return __shfl_sync(mask, value, static_cast<int>(threadIdx.x % 32) ^ lane_mask);
}

// What src/codegen/prelude.cuh spells in PTX.
namespace stator {

struct f16;
struct bf16;
inline float ToFloat(f16 a);
inline float ToFloat(bf16 a);
inline f16 ToHalf(float a);
inline bf16 ToBFloat(float a);
inline void WaitForInputs() {}
inline void LaunchDependents() {}
inline void PrefetchL2(const void*) {}
inline void CheckAligned(const void* address, int alignment) {
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) emulator::Fail("not aligned");
}
inline unsigned char* DynamicShared() {
  auto address = reinterpret_cast<uintptr_t>(emulator::dynamic_shared.data());
  return emulator::dynamic_shared.data() + (128 - address % 128) % 128;
}

}  // namespace stator

#include "codegen/prelude.cuh"

namespace stator {

inline float ToFloat(f16 a) {
  _Float16 half;
  memcpy(&half, &a, sizeof half);
  return static_cast<float>(half);
}
inline float ToFloat(bf16 a) {
  unsigned bits = static_cast<unsigned>(a.bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline f16 ToHalf(float a) {
  _Float16 half = static_cast<_Float16>(a);
  f16 value;
  memcpy(&value, &half, sizeof value);
  return value;
}
inline bf16 ToBFloat(float a) {
  if (a != a) return {0x7fff};
  unsigned bits;
  memcpy(&bits, &a, sizeof bits);
  return {static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace stator
