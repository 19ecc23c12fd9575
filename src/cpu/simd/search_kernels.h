// Where the largest or smallest element of a line is: the parts that are compiled per SIMD target.
//
// As torch: the first of equal elements, or the first NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace stator {

inline constexpr int64_t kSearchColumns = 256;  // lines side by side, one element apart

// A line of at least one and at most 2^31 elements; strides in elements.
struct SearchShape {
  bool is_largest = true;
  int64_t size = 0, step = 0;
};

struct SearchKernel {
  // Up to kSearchColumns lines whose first elements are x[0], x[1], ...; one place for each.
  void (*columns)(const SearchShape& shape, const std::byte* x, int32_t* places, int64_t num);
  int32_t (*line)(const SearchShape& shape, const std::byte* x);
};

// For elements of a number dtype, the kernel of the best SIMD target of this machine.
SearchKernel GetSearchKernel(DType dtype);

}  // namespace stator
