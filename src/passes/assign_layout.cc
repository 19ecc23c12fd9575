// AssignLayout: the order of dims in memory for values between convolutions, and for attention.
//
//   %0 = conv(%x, %w) : f32[1, 8, 4, 4]           %0 = conv(%x, %w) : f32[1, 8, 4, 4]@0231
//   %1 = relu(%0) : f32[1, 8, 4, 4]        ->     %1 = relu(%0) : f32[1, 8, 4, 4]@0231
//   %2 = attention(..) : f32[1, 2, 5, 8]          %2 = attention(..) : f32[1, 2, 5, 8]@0213
//   %3 = permute(%2) {perm = [0, 2, 1, 3]}        %3 = permute(%2) {perm = [0, 2, 1, 3]}
//   %4 = reshape(%3) {dims = [5, 16]}             %4 = reshape(%3) {dims = [5, 16]}
//
// Convolutions and pools run fastest channels-last (oneDNN: NHWC), and pointwise nodes, pads and
// concats follow what they read, so that no value between them changes its order. A value that only
// one permute reads is laid out as that permute wants it, which makes the permute and a reshape
// behind it free. Inputs, weights and constants keep their order: the first convolution reads
// strided. Outputs of the graph are given to the caller row-major by a copy (compile/place.h).
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

bool SetOrder(Rewriter& rewriter, ValueId value, DimOrder order) {
  if (rewriter.graph().type(value).order == CanonicalOrder(order) || !rewriter.Start())
    return false;
  rewriter.SetOrder(value, std::move(order));
  return true;
}

bool IsWindowed(const Node& node) {
  return node.op->name == "conv" || node.op->name == "max_pool" || node.op->name == "avg_pool" ||
         node.op->name == "max_pool_indices" || node.op->name == "adaptive_avg_pool";
}

// A pointwise node, pad or concat takes the order of the first operand of its own sizes that has
// one; pads and concats change sizes and take it from any operand.
bool Follows(const Graph& graph, const Node& node, DimOrder& order) {
  bool joins = node.op->name == "concat" || node.op->name == "pad";
  if (!joins && !node.op->Is(kPointwise)) return false;
  const TensorType& type = graph.type(node.outputs[0]);
  for (ValueId input : node.inputs) {
    const TensorType& from = graph.type(input);
    if (from.order.empty() || from.rank() != type.rank()) continue;
    if (!joins && from.dims != type.dims) continue;
    order = from.order;
    return true;
  }
  return false;
}

// The only node that reads `value`, when that is a permute; else null.
const Node* FindOnlyPermute(const Graph& graph, ValueId value) {
  if (CountUses(graph, value) != 1) return nullptr;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (node.op->name == "permute" && node.inputs[0] == value) return &node;
  }
  return nullptr;
}

}  // namespace

bool AssignLayout(Rewriter& rewriter) {
  const Graph& graph = rewriter.graph();
  bool changed = false;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    rewriter.SetInsertionPoint(id);
    DimOrder order;
    if (IsConstantValue(graph, node.outputs[0])) continue;
    if (IsWindowed(node)) {
      order = ChannelsLastOrder(graph.type(node.outputs[0]).rank());
    } else if (node.op->name == "attention") {
      const Node* permute = FindOnlyPermute(graph, node.outputs[0]);
      if (permute == nullptr) continue;
      for (int64_t dim : permute->attrs.GetInts("perm")) order.push_back(static_cast<int>(dim));
      if (order.back() != graph.type(node.outputs[0]).rank() - 1) continue;  // rows stay dense
    } else if (!Follows(graph, node, order)) {
      continue;
    }
    changed = SetOrder(rewriter, node.outputs[0], std::move(order)) || changed;
  }
  return changed;
}

}  // namespace stator
