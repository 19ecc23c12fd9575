// The type of a value: dtype, sizes, and the order in which its dims lie in memory.
//
// Text: "f32[1, 64, s0]", and with an order other than row-major "f32[1, 64, 56, 56]@0231" (NHWC).
#pragma once

#include <string>
#include <vector>

#include "base/dim.h"
#include "base/dtype.h"

namespace stator {

// Dims from outermost to innermost in memory; empty means row-major (0, 1, 2, ...).
// NHWC of a tensor with dims N, C, H, W is {0, 2, 3, 1}.
using DimOrder = std::vector<int>;

struct TensorType {
  DType dtype = DType::kFloat32;
  Dims dims;
  DimOrder order;

  int rank() const { return static_cast<int>(dims.size()); }
  Dim num_elements() const { return NumElements(dims); }
  // Strides in elements of a dense tensor of this type.
  Dims strides() const;
  std::string ToString() const;

  friend bool operator==(const TensorType& lhs, const TensorType& rhs) = default;
};

// Row-major orders become empty, so that equal layouts compare equal.
DimOrder CanonicalOrder(DimOrder order);
// {0, 2, 3, 1} for rank 4: batch, spatial dims, channels. Needs rank >= 3.
DimOrder ChannelsLastOrder(int rank);

}  // namespace stator
