#include "codegen/gemm_site.h"

#include <algorithm>

#include "ir/op_def.h"

namespace stator {

std::optional<Gemm> FindGemm(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "matmul") return std::nullopt;
  Gemm gemm{.body = *body};
  gemm.a = &site.inputs[body->operands[0]];
  gemm.b = &site.inputs[body->operands[1]];
  const Dims& y = site.outputs[0].dims;
  gemm.num_batch = y.size() - 2;
  gemm.m = y[gemm.num_batch];
  gemm.n = y[gemm.num_batch + 1];
  gemm.k = gemm.a->dims.back();
  Dims batch(y.begin(), y.end() - 2);
  auto batch_strides = [&](const KernelOperand& operand) {
    KernelOperand lead = operand;
    lead.dims.resize(lead.dims.size() - 2);
    lead.strides.resize(lead.strides.size() - 2);
    return BroadcastStrides(lead, batch);
  };
  gemm.a_batch = batch_strides(*gemm.a);
  gemm.b_batch = batch_strides(*gemm.b);
  return gemm;
}

const Dim& StrideFromEnd(const KernelOperand& operand, size_t from_end) {
  return operand.strides[operand.strides.size() - from_end];
}

bool IsOneMatrix(const Gemm& gemm) {
  return std::all_of(gemm.b_batch.begin(), gemm.b_batch.end(),
                     [](const Dim& stride) { return stride == Dim(0); });
}

}  // namespace stator
