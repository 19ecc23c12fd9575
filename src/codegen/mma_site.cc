#include "codegen/mma_site.h"

#include "codegen/gemm_site.h"
#include "ir/op_def.h"

namespace stator {
namespace {

bool IsNarrow(const KernelOperand& operand) {
  return (operand.dtype == DType::kFloat16 || operand.dtype == DType::kBFloat16) &&
         operand.alignment % 16 == 0;
}

// Whether each stride but that of `inner`, which is 1, leaves chunks aligned.
bool HasAlignedChunks(const KernelOperand& operand, size_t inner) {
  for (size_t d = 0; d < operand.strides.size(); ++d) {
    bool is_one = operand.dims[d] == Dim(1);
    if (d == inner ? !(operand.strides[d] == Dim(1))
                   : !is_one && !IsMultiple(operand.strides[d], kMmaChunk)) {
      return false;
    }
  }
  return IsMultiple(operand.dims[inner], kMmaChunk);
}

bool FindProduct(const CudaSite& site, Mma& mma) {
  std::optional<Gemm> gemm = FindGemm(site);
  if (!gemm || !IsOneMatrix(*gemm)) return false;
  mma.body = gemm->body;
  mma.a = gemm->a;
  mma.b = gemm->b;
  mma.a_batch = gemm->a_batch;
  mma.n = gemm->n;
  mma.k = gemm->k;
  size_t rank = mma.b->dims.size();
  mma.b_along_k = StrideFromEnd(*mma.b, 2) == Dim(1);
  mma.b_stride = StrideFromEnd(*mma.b, mma.b_along_k ? 1 : 2);
  if (!HasAlignedChunks(*mma.b, mma.b_along_k ? rank - 2 : rank - 1)) return false;
  if (!HasAlignedChunks(*mma.a, mma.a->dims.size() - 1)) return false;
  for (size_t d = 0; d < gemm->num_batch; ++d) mma.names.push_back(fmt::format("b{}", d));
  mma.names.insert(mma.names.end(), {"m", "n"});
  mma.n_dim = mma.names.size() - 1;
  return true;
}

bool FindConvolution(const CudaSite& site, Mma& mma) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "conv") return false;
  const Attrs& attrs = body->anchor->attrs;
  mma.is_conv = true;
  mma.body = *body;
  mma.a = &site.inputs[body->operands[0]];
  mma.b = &site.inputs[body->operands[1]];
  const Dims& w = mma.b->dims;
  if (attrs.GetBool("transposed") || !(attrs.GetDim("groups") == Dim(1))) return false;
  mma.n = w[0];
  mma.k = NumElements(w) == Dim(0) ? Dim(0) : w[1];
  // The weight's window and channels as one dim.
  for (size_t d = w.size(); d-- > 2;) {
    if (!(w[d] == Dim(1)) && !(mma.b->strides[d] == mma.k)) return false;
    mma.k = mma.k * w[d];
  }
  mma.b_stride = mma.b->strides[0];
  if (!HasAlignedChunks(*mma.a, 1) || !HasAlignedChunks(*mma.b, 1)) return false;
  mma.names = {"image", "n"};  // n: the output's channel
  for (size_t d = 2; d < w.size(); ++d) mma.names.push_back(fmt::format("p{}", d - 2));
  mma.n_dim = 1;
  return true;
}

}  // namespace

std::optional<Mma> FindMma(const CudaSite& site) {
  Mma mma;
  if (!FindProduct(site, mma)) {
    mma = {};
    if (!FindConvolution(site, mma)) return std::nullopt;
  }
  if (!IsNarrow(*mma.a) || !IsNarrow(*mma.b) || mma.a->dtype != mma.b->dtype) return std::nullopt;
  if (!mma.n.is_static() || !mma.k.is_static()) return std::nullopt;
  mma.n_size = mma.n.value();
  mma.k_size = mma.k.value();
  if (mma.n_size == 0 || mma.k_size == 0) return std::nullopt;
  const Dims& y = site.outputs[0].dims;
  for (size_t d = 0; d < y.size(); ++d) {
    if (d != mma.n_dim) mma.rows.dims.push_back(y[d]);
  }
  return mma;
}

}  // namespace stator
