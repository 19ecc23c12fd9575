// Where each output position along a resampled dim reads its input, and with which weights. Shared
// by the row `resample` and its kernel.
//
// Formulas and their rounding are those of PyTorch (ATen/native/UpSample.h and
// ATen/native/cpu/UpSampleKernel.cpp): positions and weights are computed in float, for f64 in
// double.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/attr.h"

namespace stator {

struct ResampleTaps {
  std::vector<int64_t> begin;  // output i has the taps begin[i], ..., begin[i + 1] - 1
  std::vector<int64_t> index;  // positions in the input
  std::vector<double> weight;
};

// The taps of spatial dim `dim` of `num_spatial`, of `in` positions (at least 1) resampled to
// `out`, for a node of the row `resample` with these attributes. `is_f64`: of an f64 tensor.
ResampleTaps MakeResampleTaps(const Attrs& attrs, int dim, int num_spatial, int64_t in, int64_t out,
                              bool is_f64);

}  // namespace stator
