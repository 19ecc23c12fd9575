#include "bench/fma_peak.h"

#include <algorithm>
#include <chrono>

#include "cpu/run/parallel.h"
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/fma_peak.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kSteps = 20000;

// Twelve independent chains cover a latency of four cycles on two units, with some to spare.
// Returns the number of floating-point operations; `sink` keeps the compiler from dropping them.
double RunChains(float* sink) {
  const hn::ScalableTag<float> d;
  auto x = hn::Set(d, 0.999f), y = hn::Set(d, 1e-3f);
  // Different starts: equal chains would be merged into one.
  auto start = hn::Iota(d, 0.0f);
  auto a0 = start, a1 = hn::Add(a0, y), a2 = hn::Add(a1, y), a3 = hn::Add(a2, y);
  auto a4 = hn::Add(a3, y), a5 = hn::Add(a4, y), a6 = hn::Add(a5, y), a7 = hn::Add(a6, y);
  auto a8 = hn::Add(a7, y), a9 = hn::Add(a8, y), a10 = hn::Add(a9, y), a11 = hn::Add(a10, y);
  for (int i = 0; i < kSteps; ++i) {
    a0 = hn::MulAdd(a0, x, y), a1 = hn::MulAdd(a1, x, y), a2 = hn::MulAdd(a2, x, y);
    a3 = hn::MulAdd(a3, x, y), a4 = hn::MulAdd(a4, x, y), a5 = hn::MulAdd(a5, x, y);
    a6 = hn::MulAdd(a6, x, y), a7 = hn::MulAdd(a7, x, y), a8 = hn::MulAdd(a8, x, y);
    a9 = hn::MulAdd(a9, x, y), a10 = hn::MulAdd(a10, x, y), a11 = hn::MulAdd(a11, x, y);
  }
  auto sum =
      hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)));
  sum = hn::Add(sum, hn::Add(hn::Add(a8, a9), hn::Add(a10, a11)));
  *sink = hn::GetLane(sum);
  return 2.0 * 12 * static_cast<double>(hn::Lanes(d)) * kSteps;
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(RunChains);

double MeasureFmaPeak(bool avx512) {
  if (!avx512) hwy::DisableTargets(HWY_AVX3 | HWY_AVX3_DL);
  constexpr int kRuns = 1000;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    using Clock = std::chrono::steady_clock;
    double operations = 0;
    Clock::time_point start = Clock::now();
    ParallelFor(NumThreads(), [&](int64_t, int64_t) {
      float sink;
      double own = HWY_DYNAMIC_DISPATCH(RunChains)(&sink);
      volatile float keep = sink;
      (void)keep;
      operations = own * NumThreads();
    });
    double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, operations / seconds * 1e-9);
  }
  hwy::DisableTargets(0);
  return best;
}

}  // namespace stator
#endif  // HWY_ONCE
