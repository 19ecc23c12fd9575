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
#include <array>
#include <functional>
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
#define __cluster_dims__(...)
// EMULATED_SECTION names a section of the kernel's own, so that its shared memory can be found.
#define __shared__ static __attribute__((section(EMULATED_SECTION)))

namespace emulator {

struct Index3 {
  unsigned x, y, z;
};
inline Index3 thread_index, block_index, block_dim, grid_dim;

enum class Wait { kNone, kBlock, kWarp, kCluster, kDone };

struct Copy {
  void* to;
  const void* from;
  bool inside;
};

struct Fiber {
  jmp_buf place;
  ucontext_t start;
  bool started = false;
  Wait wait = Wait::kNone;
  std::vector<std::vector<Copy>> groups = {{}};  // begun and not awaited; the last one is open
  std::vector<std::vector<std::function<void()>>> products = {{}};  // likewise
};

inline constexpr size_t kStackBytes = 64 << 10;
inline std::vector<Fiber> fibers;
inline std::vector<char> stacks;
inline jmp_buf scheduler;
inline ucontext_t scheduler_context;
inline size_t current;
inline void (*body)(void*);
inline void* body_argument;
inline std::vector<std::vector<unsigned char>> dynamic_shared;  // of each block of the cluster
inline unsigned first_block;                                    // of the cluster, along x
struct Lane {
  unsigned words[6];
};
inline std::vector<std::array<Lane, 32>> warps;

inline size_t CurrentRank() { return current / block_dim.x; }

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
  const auto& groups = fibers[current].groups;
  if (groups.size() > 1 || !groups[0].empty()) Fail("copies are not awaited");
  const auto& products = fibers[current].products;
  if (products.size() > 1 || !products[0].empty()) Fail("products are not awaited");
  fibers[current].wait = Wait::kDone;
  _longjmp(scheduler, 1);
}

inline void Resume(size_t index) {
  current = index;
  thread_index = {static_cast<unsigned>(index % block_dim.x), 0, 0};
  block_index.x = first_block + static_cast<unsigned>(CurrentRank());
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

// Whether all `count` threads from `first` on wait so; they then go on. Some of them are a failure.
inline bool ReleaseAll(size_t first, size_t count, Wait wait, const char* failure) {
  size_t waiting = 0;
  for (size_t i = first; i < first + count; ++i) waiting += fibers[i].wait == wait;
  if (waiting == 0) return false;
  if (waiting != count) Fail(failure);
  for (size_t i = first; i < first + count; ++i) fibers[i].wait = Wait::kNone;
  return true;
}

// Lets waiting threads go on: a warp whose lanes all wait, or the block when all its threads do, or
// the cluster.
inline bool Release() {
  size_t count = fibers.size();
  bool released = false;
  for (size_t first = 0; first < count; first += 32) {
    released |=
        ReleaseAll(first, 32, Wait::kWarp, "a warp's lanes do not all reach what it does together");
  }
  if (released) return true;
  for (size_t first = 0; first < count; first += block_dim.x) {
    released |= ReleaseAll(first, block_dim.x, Wait::kBlock,
                           "a block's threads do not all reach a barrier");
  }
  return released ||
         ReleaseAll(0, count, Wait::kCluster, "a cluster's threads do not all reach a barrier");
}

// order 0: ascending; 1: descending; else shuffled by that seed, anew at each barrier.
inline void RunCluster(size_t num_threads, int order) {
  if (fibers.size() != num_threads) fibers = std::vector<Fiber>(num_threads);
  if (stacks.size() < num_threads * kStackBytes) stacks.resize(num_threads * kStackBytes);
  warps.resize(num_threads / 32);
  for (Fiber& fiber : fibers) {
    fiber.started = false;
    fiber.wait = Wait::kNone;
    fiber.groups = {{}};
    fiber.products = {{}};
  }
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
  unsigned block = 0, smem = 0, cluster = 1;
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
  if (launch.grid.x % launch.cluster != 0) Fail("a grid is no whole number of clusters");
  block_dim = {launch.block, 1, 1};
  grid_dim = launch.grid;
  for (unsigned z = 0; z < launch.grid.z; ++z) {
    for (unsigned y = 0; y < launch.grid.y; ++y) {
      for (unsigned x = 0; x < launch.grid.x; x += launch.cluster) {
        first_block = x;
        block_index = {x, y, z};
        std::fill(launch.shared_begin, launch.shared_end, 0xff);
        dynamic_shared.assign(launch.cluster, std::vector<unsigned char>(launch.smem + 1024, 0xff));
        RunCluster(size_t{launch.block} * launch.cluster, launch.order);
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

// What each lane of the warp gives, for every lane: valid until the lane's next exchange.
inline const std::array<emulator::Lane, 32>& ExchangeLanes(const emulator::Lane& mine) {
  std::array<emulator::Lane, 32>& lanes = emulator::warps[emulator::current / 32];
  emulator::Yield(emulator::Wait::kWarp);  // all have read what was there
  lanes[threadIdx.x % 32] = mine;
  emulator::Yield(emulator::Wait::kWarp);
  return lanes;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  if (mask != 0xffffffffu) emulator::Fail("a shuffle of some lanes only");
  emulator::Lane mine;
  memcpy(&mine, &value, sizeof value);
  memcpy(&value, &ExchangeLanes(mine)[lane % 32], sizeof value);
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
inline unsigned char* SharedOfBlock(size_t rank) {
  unsigned char* data = emulator::dynamic_shared[rank].data();
  return data + (1024 - reinterpret_cast<uintptr_t>(data) % 1024) % 1024;
}
inline unsigned char* DynamicShared() { return SharedOfBlock(emulator::CurrentRank()); }

// Done when they are awaited: what reads them earlier finds NaN.
inline void CopyAsync(void* to, const void* from, bool inside) {
  CheckAligned(to, 16);
  if (inside) CheckAligned(from, 16);
  emulator::fibers[emulator::current].groups.back().push_back({to, from, inside});
}
inline void CommitCopies() { emulator::fibers[emulator::current].groups.emplace_back(); }
template <int N>
void WaitCopies() {
  auto& groups = emulator::fibers[emulator::current].groups;
  while (groups.size() > N + 1) {
    for (const emulator::Copy& copy : groups.front()) {
      copy.inside ? memcpy(copy.to, copy.from, 16) : memset(copy.to, 0, 16);
    }
    groups.erase(groups.begin());
  }
}

inline void LoadMatrices(unsigned (&to)[4], const void* row) {
  CheckAligned(row, 16);
  unsigned lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) {
    auto from = reinterpret_cast<const unsigned*>(
        __shfl_sync(~0u, reinterpret_cast<uint64_t>(row), 8 * i + lane / 4));
    to[i] = from[lane % 4];
  }
}
inline void LoadTransposed(unsigned (&to)[4], const void* row) {
  CheckAligned(row, 16);
  unsigned lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) {
    unsigned halves[2];
    for (int k = 0; k < 2; ++k) {
      auto from = reinterpret_cast<const unsigned short*>(
          __shfl_sync(~0u, reinterpret_cast<uint64_t>(row), 8 * i + lane % 4 * 2 + k));
      halves[k] = from[lane / 4];
    }
    to[i] = halves[0] | halves[1] << 16;
  }
}
template <typename T>
void MultiplyAdd(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const auto& lanes = ExchangeLanes({a[0], a[1], a[2], a[3], b0, b1});
  auto element = [](unsigned word, int half) {
    return ToFloat(T{static_cast<unsigned short>(word >> 16 * half)});
  };
  unsigned lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 4; ++i) {
    unsigned row = lane / 4, half = i / 2, column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      unsigned word = k / 8, from = k % 8 / 2;
      sum[i] += element(lanes[row * 4 + from].words[word * 2 + half], k % 2) *
                element(lanes[column * 4 + from].words[4 + word], k % 2);
    }
  }
}

// Done when they are awaited: what overwrites their tiles before that is seen in the results.
struct Matrix {
  const unsigned char* data;
  bool across;
};
inline Matrix MatrixAt(const void* address) {
  return {static_cast<const unsigned char*>(address), false};
}
inline Matrix AcrossMatrixAt(const void* address) {
  return {static_cast<const unsigned char*>(address), true};
}
inline void BeginProducts() {}
inline void ShowCopiesToProducts() {}
template <typename T, int kCount>
void MultiplyTiles(float (&sum)[kCount], Matrix a, Matrix b) {
  auto element = [](Matrix matrix, unsigned row, unsigned k) {
    unsigned offset = row * 128 + k * 2;
    if (matrix.across) offset = row / 64 * 8192 + k * 128 + row % 64 * 2;
    auto at = reinterpret_cast<uintptr_t>(matrix.data) + offset;
    at ^= (at >> 7 & 7) << 4;
    return ToFloat(*reinterpret_cast<const T*>(at));
  };
  unsigned lane = threadIdx.x % 32, first_row = threadIdx.x % 128 / 32 * 16 + lane / 4;
  float* sums = sum;
  emulator::fibers[emulator::current].products.back().push_back([=] {
    for (int i = 0; i < kCount; ++i) {
      unsigned row = first_row + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      for (unsigned k = 0; k < 16; ++k) sums[i] += element(a, row, k) * element(b, column, k);
    }
  });
}
inline void CommitProducts() { emulator::fibers[emulator::current].products.emplace_back(); }
template <int N>
void WaitProducts() {
  auto& groups = emulator::fibers[emulator::current].products;
  while (groups.size() > N + 1) {
    for (const auto& product : groups.front()) product();
    groups.erase(groups.begin());
  }
}

inline void ClusterSync() { emulator::Yield(emulator::Wait::kCluster); }
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

template <int N>
Vec<float, N> LoadFromBlock(const float* address, unsigned rank) {
  auto offset = reinterpret_cast<const unsigned char*>(address) - DynamicShared();
  Vec<float, N> values;
  memcpy(&values, SharedOfBlock(rank) + offset, sizeof values);
  return values;
}

}  // namespace stator
