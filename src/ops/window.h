// Windows that slide over spatial dims: output sizes, and up to three spatial dims seen as three.
// Shared by convolutions and pooling.
#pragma once

#include <array>

#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {

inline constexpr int kMaxSpatialDims = 3;

// The attribute as `count` static integers, each at least `min`.
std::vector<int64_t> GetWindow(const Attrs& attrs, std::string_view name, int count, int64_t min);

// floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1. With `ceil_mode` rounded
// up, but no window starts beyond the input and its left padding (PyTorch docs, MaxPool2d). Raises
// InvalidArgument when a static size comes out below 1.
Dim WindowOutputSize(const Dim& size, const Dim& kernel, int64_t stride, int64_t padding,
                     int64_t dilation, bool ceil_mode);

using Triple = std::array<int64_t, kMaxSpatialDims>;

// The last values of a list as a triple, filled up in front.
Triple MakeTriple(std::span<const int64_t> values, int64_t fill);

// A tensor [a, b, spatial...] with its spatial dims as a triple.
struct SpatialView {
  int64_t outer, inner;  // sizes of the two leading dims
  int64_t outer_stride, inner_stride;
  Triple dims, strides;

  int64_t OffsetOf(int64_t a, int64_t b, const Triple& position) const {
    return a * outer_stride + b * inner_stride + position[0] * strides[0] +
           position[1] * strides[1] + position[2] * strides[2];
  }
  bool Contains(const Triple& position) const {
    for (int i = 0; i < kMaxSpatialDims; ++i) {
      if (position[i] < 0 || position[i] >= dims[i]) return false;
    }
    return true;
  }
};
SpatialView MakeSpatialView(const TensorRef& tensor);

// Calls fn(position) for each position of [begin, end), row-major.
template <typename Fn>
void ForEachPosition(const Triple& begin, const Triple& end, Fn&& fn) {
  Triple p;
  for (p[0] = begin[0]; p[0] < end[0]; ++p[0]) {
    for (p[1] = begin[1]; p[1] < end[1]; ++p[1]) {
      for (p[2] = begin[2]; p[2] < end[2]; ++p[2]) fn(static_cast<const Triple&>(p));
    }
  }
}

}  // namespace stator
