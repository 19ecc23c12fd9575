// Runs of elements moved or joined, at positions given by an index: what is compiled per SIMD
// target.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "ops/indexing.h"

namespace stator {

// far[index[i] * step] and near[i] for i < n: an element of near comes from far, goes to it, or
// joins it. False when an index is outside [0, size); by then some elements have been written.
using IndexedLine = bool (*)(std::byte* far, int64_t step, int64_t size, const std::byte* index,
                             std::byte* near, int64_t n);
// to[i] joined by from[i] for i < n.
using JoinRun = void (*)(std::byte* to, const std::byte* from, int64_t n);

// Elements of `element_size` bytes; indices i32 or i64.
IndexedLine FindGatherLine(size_t element_size, bool is_i32);
IndexedLine FindScatterLine(size_t element_size, bool is_i32);
// Elements of a dtype, where the far ones of f16 and bf16 are floats; the sum for kMean. As torch
// does: integers wrap, a NaN stays, and of bools a sum is whether one is true.
IndexedLine FindJoinLine(Reduce reduce, DType dtype, bool is_i32);
JoinRun FindJoinRun(Reduce reduce, DType dtype);

// sum[j] = the sum over i < n of scales[i] * rows[index[i] * row_step + j], for j < size; `scales`
// null for 1. False when an index is outside [0, num_rows).
using SumRows = bool (*)(const float* rows, int64_t row_step, int64_t num_rows,
                         const std::byte* index, const float* scales, int64_t n, float* sum,
                         int64_t size);
SumRows FindSumRows(bool is_i32);

}  // namespace stator
