// Pooling on floats: the parts that are compiled per SIMD target.
//
// In:  x and y as [N, C, depth, height, width] in any strides, and for each output position along a
// spatial dim its window. Out: rows of y. Rows of channels are combined where channels lie densest;
// else rows of x are combined downwards first, then along the width.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "ops/window.h"

namespace stator {

// The elements first, first + step, ... of a spatial dim that one output element takes.
struct PoolWindow {
  int64_t first = 0;
  int64_t count = 0;   // inside x; may be 0
  int64_t extent = 0;  // this dim's factor of a mean's divisor
};

struct PoolShape {
  bool is_max = false;
  DType dtype = DType::kFloat32;  // f32, f16 or bf16
  SpatialView x, y;
  std::array<std::vector<PoolWindow>, kMaxSpatialDims> windows;  // one per output position
  Triple step = {1, 1, 1};
  float divisor = 0;  // of a mean; 0: the product of the extents
  // All windows along the width have `width_count` elements when x is padded by this many elements
  // in front, and lie `width_stride` apart; count 0 when they differ.
  int64_t width_padding = 0, width_count = 0, width_stride = 1;
};

struct PoolKernel {
  int64_t (*num_tasks)(const PoolShape& shape);
  int64_t (*ws_floats)(const PoolShape& shape);  // of one thread; a multiple of 16
  void (*run)(const PoolShape& shape, const std::byte* x, std::byte* y, int64_t begin, int64_t end,
              float* ws);
};

// The kernel of the best SIMD target of this machine.
PoolKernel GetPoolKernel();

}  // namespace stator
