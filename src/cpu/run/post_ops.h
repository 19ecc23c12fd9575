// What a gemm or conv kernel computes, in oneDNN's terms: an anchor, then a chain of post-ops.
//
// In:  a kernel's body.
// Out: its matmul or conv node, and each pointwise node behind it as a post-op.
// Invariant: a body that is found here is computed as its ops' scalar bodies say, within their
// tolerances, for all finite operands; exact_step.h takes care of the others.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "cpu/run/onednn.h"
#include "ir/graph.h"

namespace stator {

struct PostOp {
  dnnl::algorithm algorithm = dnnl::algorithm::undef;
  float alpha = 0, beta = 0;  // of an eltwise algorithm
  int input = -1;             // of a binary algorithm: its second operand, among the body's inputs
  // How a binary operand meets the output: element by element, or one element per channel.
  bool per_channel = false;
  // Whether the primitive may turn a NaN or an infinity into something else (cpu/run/exact_step.h).
  bool is_exact = true;

  bool is_binary() const { return input >= 0; }
};

struct FusedBody {
  const Node* anchor = nullptr;
  std::vector<int> operands;  // of the anchor, among the body's inputs; -1: absent
  std::vector<PostOp> post_ops;
};

// The dim of a kernel's output along which a bias runs: 1 for conv, the last for matmul.
int ChannelDim(const Node& anchor, int rank);

// Adds the post-ops from position `first` on to a primitive whose output is laid out as `out`
// (which may be left to the primitive). `given` says, for each binary post-op, how its operand
// lies.
void AddPostOps(const StepSite& site, const FusedBody& fused, size_t first,
                std::span<const dnnl::memory::desc> given, const dnnl::memory::desc& out,
                Fusion& fusion);

// The step of a fusion to which AddPostOps has added; null when oneDNN has none that is optimised.
std::unique_ptr<PreparedStep> FindFusedStep(const StepSite& site, const FusedBody& fused,
                                            size_t first, Fusion fusion);

// Empty when the body is no anchor and chain, or has a node that no post-op can express.
std::optional<FusedBody> FindFusedBody(const Graph& body);

}  // namespace stator
