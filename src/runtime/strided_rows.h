// All dims of a tensor but the last seen as the rows of one matrix, as libraries take a layer's
// input and output.
#pragma once

#include <cstdint>
#include <optional>

#include "ir/op_def.h"

namespace stator {

struct StridedRows {
  int64_t count = 1;
  int64_t stride = 0;  // elements; 0 for a single row
};

// Empty when the strides do not allow it. The tensor has a dim.
std::optional<StridedRows> FindStridedRows(const TensorRef& tensor);

}  // namespace stator
