// Accumulators of reductions: what partial results of tiles are added up in.
//
// Floats are accumulated in double, integers in int64, which wraps as narrower ones do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/dtype.h"
#include "cpu/simd/tape_kernels.h"

namespace stator {

// Each works on n accumulators of 8 bytes.
struct Accumulate {
  void (*reset)(void* acc, int64_t n) = nullptr;
  // Takes in one partial result each, elements of the class.
  void (*fold)(void* acc, const void* partial, int64_t n) = nullptr;
  // Takes in other accumulators.
  void (*merge)(void* acc, const void* other, int64_t n) = nullptr;
  // Writes acc / divisor (floats) or acc (integers), `stride` elements apart.
  void (*finish)(const void* acc, std::byte* out, int64_t stride, int64_t n,
                 double divisor) = nullptr;
};
inline constexpr int64_t kAccumulatorBytes = 8;

// By name "sum", "prod", "amax", "amin"; `reset` is null for others.
Accumulate FindAccumulate(std::string_view op, TapeClass tape_class, DType out);

}  // namespace stator
