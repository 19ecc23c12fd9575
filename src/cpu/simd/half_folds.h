// Reductions of halves where they lie in memory, to floats.
#pragma once

#include <string_view>

#include "cpu/simd/tape_kernels.h"

namespace stator {

// As FindRowReduceKernel and FindColumnKernel have them, but for what they read. Both null but for
// f16 and bf16, and for sum, prod, amax and amin.
struct HalfFolds {
  TapeKernel row = nullptr;
  ColumnKernel columns = nullptr;
};
HalfFolds FindHalfFolds(std::string_view op, DType dtype);

}  // namespace stator
