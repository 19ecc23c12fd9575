// A matrix product y[..., M, N] = a[..., M, K] b[..., K, N] as the kernels that compute it see it.
#pragma once

#include <optional>

#include "codegen/output_text.h"

namespace stator {

struct Gemm {
  AnchoredBody body;
  const KernelOperand *a = nullptr, *b = nullptr;  // of the site
  Dim m, n, k;
  size_t num_batch = 0;   // leading dims of y
  Dims a_batch, b_batch;  // strides over them
};

// Empty for sites that are no matrix product.
std::optional<Gemm> FindGemm(const CudaSite& site);

// The stride of the last dim (1), or of the one before (2).
const Dim& StrideFromEnd(const KernelOperand& operand, size_t from_end);

// Whether one matrix b serves all leading dims.
bool IsOneMatrix(const Gemm& gemm);

}  // namespace stator
