// Running sums and products: the parts that are compiled per SIMD target.
//
// As torch accumulates them: f32 and f64 in double, f16 and bf16 in float, integers wrapping.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace stator {

inline constexpr int64_t kScanColumns = 256;  // lines side by side, one element apart
inline constexpr int64_t kScanLines = 8;      // lines anywhere

// Strides in elements.
struct ScanShape {
  bool is_product = false;
  int64_t size = 0;  // of a line
  int64_t x_step = 0, y_step = 0;
};

struct ScanKernel {
  // Up to kScanColumns lines whose first elements are x[0], x[1], ... and y[0], y[1], ...
  void (*columns)(const ScanShape& shape, const std::byte* x, std::byte* y, int64_t num);
  // Up to kScanLines lines, from these elements of x and y on.
  void (*lines)(const ScanShape& shape, const std::byte* x, std::byte* y, const int64_t* x_offsets,
                const int64_t* y_offsets, int64_t num);
};

// For elements of a number dtype, the kernel of the best SIMD target of this machine.
ScanKernel GetScanKernel(DType dtype);

}  // namespace stator
