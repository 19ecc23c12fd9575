// DecomposeNorms: norms and softmaxes that are no work on rows, spelled with simpler nodes.
//
//   %0 = softmax(%x) {axis = 0} : f32[4, 5]
//   ->
//   %0 = reduce_max(%x) {axes = [0], keepdim = true} : f32[1, 5]
//   %1 = sub(%x, %0) : f32[4, 5]
//   ...
//
// For engines whose kernels of this kind work along the last dims alone, and which compute the rest
// by reductions and pointwise nodes. A batch norm is pointwise, a group norm reductions of its own.
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

bool IsForRows(const Graph& graph, const Node& node) {
  if (node.op->name == "batch_norm" || node.op->name == "group_norm") return false;
  const Attr* axis = node.attrs.Find("axis");
  return axis == nullptr || std::get<Dim>(*axis) == Dim(graph.type(node.inputs[0]).rank() - 1);
}

bool IsNorm(const Node& node) {
  return node.op->name == "softmax" || node.op->name == "log_softmax" ||
         node.op->name == "batch_norm" || node.op->name == "group_norm";
}

}  // namespace

bool DecomposeNorms(Rewriter& rewriter) {
  Graph& graph = rewriter.graph();
  bool changed = false;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (!IsNorm(node) || IsForRows(graph, node)) continue;
    if (!rewriter.Start()) return changed;
    int first_new = graph.num_node_slots();
    std::vector<ValueId> results = node.op->decompose(graph, node);
    // They were appended: behind the nodes that read them.
    for (int i = first_new; i < graph.num_node_slots(); ++i) rewriter.MoveBefore(NodeId{i}, id);
    for (size_t i = 0; i < results.size(); ++i) {
      rewriter.ReplaceUses(graph.node(id).outputs[i], results[i]);
    }
    rewriter.Erase(id);
    changed = true;
  }
  return changed;
}

}  // namespace stator
