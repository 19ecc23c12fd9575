// A product of 16-bit matrices y[row, n] = sum over k of a[row, k] b[k, n] as kernels on tensor
// cores see it.
//
// In:  a site: one matrix b for all rows of a, or a convolution of one group, input and weight
// channels-last, as such a product (implicit GEMM): rows are the output's positions, and k runs
// over the window's, channels innermost. Rows of a and b start at multiples of 16 bytes.
#pragma once

#include <optional>

#include "codegen/output_text.h"

namespace stator {

inline constexpr int kMmaChunk = 8;  // elements of 16 bytes, the unit of a copy

struct Mma {
  AnchoredBody body;
  bool is_conv = false;
  const KernelOperand *a = nullptr, *b = nullptr;
  Dims a_batch;                    // of a product: a's strides over the leading dims of the output
  LoopDims rows;                   // the output's dims but that of n
  std::vector<std::string> names;  // of the output's dims
  size_t n_dim = 0;                // of the output
  Dim n, k;
  int64_t n_size = 0, k_size = 0;
  bool b_along_k = true;  // b is contiguous along k, else along n
  Dim b_stride;           // along the other one
};

// Empty for other sites.
std::optional<Mma> FindMma(const CudaSite& site);

}  // namespace stator
