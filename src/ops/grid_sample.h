// What one position of a sampling grid reads of the input, and with which weights. Shared by the
// row `grid_sample` and its kernel.
//
// Formulas: ATen/native/GridSampler.h and ATen/native/cpu/GridSamplerKernel.cpp of PyTorch.
#pragma once

#include <cstdint>
#include <optional>

#include "ir/attr.h"
#include "ops/window.h"

namespace stator {

struct GridSampling {
  enum Mode { kBilinear, kNearest, kBicubic };
  enum Padding { kZeros, kBorder, kReflection };
  Mode mode = kBilinear;
  Padding padding = kZeros;
  bool align_corners = false;
  int num_spatial = 2;
  Triple size = {1, 1, 1};  // of the input's spatial dims; the last num_spatial count

  int num_taps() const;
};

// The sampling of a node of the row `grid_sample`, without its sizes; empty for attributes that
// name no mode or padding.
std::optional<GridSampling> FindGridSampling(const Attrs& attrs, int num_spatial);

inline constexpr int kMaxGridTaps = 16;

template <typename T>
struct GridTaps {
  Triple at[kMaxGridTaps];  // at[i][0] < 0: outside, where the input counts as zero
  T weight[kMaxGridTaps];
};

// The taps of the point `x, y(, z)` at `point`, in [-1, 1] where it is inside the input.
void FindGridTaps(const GridSampling& sampling, const float* point, GridTaps<float>& taps);
void FindGridTaps(const GridSampling& sampling, const double* point, GridTaps<double>& taps);

}  // namespace stator
