// The kernel families: one file each, which says in which ways a kernel can be written, and writes
// it.
//
// In:  a site. Out: variants (empty: not this family's), and the text of one.
// Invariant: a variant made for a site's sizes also serves the same site with symbolic sizes; what
// the symbolic sizes do not allow (a vector width) is then written more plainly.
#pragma once

#include "codegen/kernel_text.h"

namespace stator {

struct KernelFamily {
  std::string_view name;
  std::vector<Attrs> (*find_variants)(const CudaSite& site);
  CudaKernel (*make)(const CudaSite& site, const Attrs& variant);
};

// Pointwise nodes over one domain, and copies: a thread per vector of the output.
extern const KernelFamily kPointwiseFamily;
// The same where inputs and outputs are contiguous along different dims: tiles in shared memory.
extern const KernelFamily kTransposeFamily;
// Softmax, log-softmax, layer and RMS norm along the last dims, with pointwise nodes around.
extern const KernelFamily kRowwiseFamily;
// Pointwise nodes, then a reduction.
extern const KernelFamily kReduceFamily;

// Pooling, with pointwise nodes behind.
extern const KernelFamily kPoolFamily;
// Depthwise convolutions of channels-last images, with pointwise nodes behind.
extern const KernelFamily kDepthwiseFamily;
// Convolutions, with pointwise nodes behind: any, as a last resort.
extern const KernelFamily kConvFamily;
// Matrix products and convolutions in 16 bits on tensor cores, with pointwise nodes behind.
extern const KernelFamily kWgmmaFamily;
extern const KernelFamily kMmaFamily;
// Matrix products, with pointwise nodes behind.
extern const KernelFamily kGemmFamily;
// Scaled dot-product attention, with pointwise nodes behind: in 16 bits on tensor cores, and any.
extern const KernelFamily kMmaAttentionFamily;
extern const KernelFamily kAttentionFamily;
// One node that moves or makes elements.
extern const KernelFamily kIndexFamily;

// One node that runs along a dim in order: running sums and products, scatter.
extern const KernelFamily kLineFamily;

}  // namespace stator
