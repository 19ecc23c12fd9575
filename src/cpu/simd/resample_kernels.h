// Resampling of floats: the parts that are compiled per SIMD target.
//
// In:  x and y as [N, C, depth, height, width] in any strides, and the taps of each spatial dim.
// Out: rows of y. Where channels lie densest, the taps of an output position are summed for all its
// channels at once; else rows of x are summed downwards first, then along the width.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "ops/resample.h"
#include "ops/window.h"

namespace stator {

struct ResampleShape {
  DType dtype = DType::kFloat32;  // f32, f16 or bf16
  SpatialView x, y;
  std::array<ResampleTaps, kMaxSpatialDims> taps;
  // Along the width, when each output has the same number of taps: tap k of output i at
  // [k * width + i]. Else empty.
  int64_t num_width_taps = 0;
  std::vector<int32_t> width_index;
  std::vector<float> width_weight;
};

struct ResampleKernel {
  int64_t (*num_tasks)(const ResampleShape& shape);
  int64_t (*ws_floats)(const ResampleShape& shape);  // of one thread; a multiple of 16
  void (*run)(const ResampleShape& shape, const std::byte* x, std::byte* y, int64_t begin,
              int64_t end, float* ws);
};

// to[i] = sum over k < count of weight[k * n + i] * from[index[k * n + i]], for i < n; a negative
// index reads zero.
using GatherSum = void (*)(const float* from, const int32_t* index, const float* weight,
                           int64_t count, int64_t n, float* to);

// The kernels of the best SIMD target of this machine.
ResampleKernel GetResampleKernel();
GatherSum GetGatherSum();

}  // namespace stator
