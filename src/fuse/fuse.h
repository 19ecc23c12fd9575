// Fuse: nodes that share one launch become one kernel.
//
// In:  a graph of supported ops.
// Out: a KernelGraph: a Graph whose nodes are `kernel` nodes (attribute kind, body = what it
// computes)
//      and view nodes, which cost nothing. Kinds are the StepKind names of plan/plan.h, and
//      "concat".
// Invariants: the kernel graph computes what the graph computed; a kernel reads either constants
// only (it belongs to the prologue) or at least one other value; single-element literals that
// pointwise nodes read live in bodies.
//
// Rules, in order of priority:
//   gemm, conv   anchor + the chain of pointwise nodes behind it that one tactic can fuse
//   rowwise      softmax or norm over the last dims + pointwise nodes around it on the same domain
//   reduce       reduction + the pointwise nodes that only it reads
//   pointwise    connected pointwise nodes on one domain
//   the rest     a kernel each
#pragma once

#include <functional>
#include <string_view>

#include "ir/graph.h"

namespace stator {

struct FuseOptions {
  // Whether the target has a tactic for `body` as one kernel of this kind. Asked before a gemm or
  // conv takes in one more epilogue node.
  std::function<bool(std::string_view kind, const Graph& body)> can_run;
};

Graph Fuse(const Graph& graph, const FuseOptions& options);

// Whether every input of the node is a weight, a literal, or made from such alone; one flag per
// value.
std::vector<bool> FindConstantValues(const Graph& graph);

}  // namespace stator
