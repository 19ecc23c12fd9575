// AssignLayout: the order of dims in memory for values between convolutions, and for attention.
//
//   %0 = conv(%x, %w) : f32[1, 8, 4, 4]           %0 = conv(%x, %w) : f32[1, 8, 4, 4]@0231
//   %1 = relu(%0) : f32[1, 8, 4, 4]        ->     %1 = relu(%0) : f32[1, 8, 4, 4]@0231
//   %2 = attention(..) : f32[1, 2, 5, 8]          %2 = attention(..) : f32[1, 2, 5, 8]@0213
//   %3 = permute(%2) {perm = [0, 2, 1, 3]}        %3 = permute(%2) {perm = [0, 2, 1, 3]}
//   %4 = reshape(%3) {dims = [5, 16]}             %4 = reshape(%3) {dims = [5, 16]}
//
// Convolutions and pools run fastest channels-last (oneDNN: NHWC), and pointwise nodes, norms, pads
// and concats follow what they read or what reads them, so that no value between them changes its
// order. Attention that only a permute reads is laid out as that permute wants it, which makes the
// permute and a reshape behind it free. Inputs, weights and constants keep their order: the first
// convolution reads strided. Outputs of the graph are given to the caller row-major by a copy
// (compile/place.h).
#include <algorithm>

#include "ops/kernel_kind.h"
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
         node.op->name == "max_pool_indices" || node.op->name == "adaptive_avg_pool" ||
         node.op->name == "adaptive_max_pool";
}

// Whether a norm's kernel takes any order: those along the last dims read rows.
bool IsNormOfAnyOrder(const Graph& graph, const Node& node) {
  if (node.op->name == "group_norm") return true;
  bool is_softmax = node.op->name == "softmax" || node.op->name == "log_softmax";
  return is_softmax && !IsAlongLastDims(graph, node);
}

// The order of an operand that its reader follows; empty when it has none. Of views, only images
// that a permute shows channels-last have one: what reads a permuted matrix or head wants rows.
DimOrder FindOrderToFollow(const Graph& graph, ValueId operand) {
  const TensorType& type = graph.type(operand);
  constexpr int kImageRank = 4;
  if (!type.order.empty() || type.rank() < kImageRank) return type.order;
  DimOrder order = FindMemoryOrder(graph, operand).value_or(DimOrder{});
  return order == ChannelsLastOrder(type.rank()) ? order : DimOrder{};
}

// A pointwise node, norm, pad, concat or resampling takes the order of the first operand of its own
// sizes that has one; the last three change sizes and take it from any operand.
bool Follows(const Graph& graph, const Node& node, DimOrder& order) {
  bool joins = node.op->name == "concat" || node.op->name == "pad" || node.op->name == "resample";
  if (!joins && !node.op->Is(kPointwise) && !IsNormOfAnyOrder(graph, node)) return false;
  const TensorType& type = graph.type(node.outputs[0]);
  for (ValueId input : node.inputs) {
    if (!input.valid()) continue;
    const TensorType& from = graph.type(input);
    if (from.rank() != type.rank() || (!joins && from.dims != type.dims)) continue;
    order = FindOrderToFollow(graph, input);
    if (!order.empty()) return true;
  }
  return false;
}

// Whether nodes that want channels-last read `value`, and no others.
bool IsMadeForWindows(const Graph& graph, const std::vector<NodeId>& readers, ValueId value) {
  const TensorType& type = graph.type(value);
  auto outputs = graph.outputs();
  bool is_output = std::find(outputs.begin(), outputs.end(), value) != outputs.end();
  if (type.rank() < 3 || readers.empty() || is_output) return false;
  return std::all_of(readers.begin(), readers.end(), [&](NodeId reader) {
    const Node& node = graph.node(reader);
    const TensorType& result = graph.type(node.outputs[0]);
    return result.order == ChannelsLastOrder(type.rank()) && result.rank() == type.rank() &&
           (IsWindowed(node) ? node.inputs[0] == value : result.dims == type.dims);
  });
}

// The only node that reads `value`, when its op has this name; else null.
const Node* FindOnlyReader(const Graph& graph, ValueId value, std::string_view op) {
  if (CountUses(graph, value) != 1) return nullptr;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (node.op->name == op && node.inputs[0] == value) return &node;
  }
  return nullptr;
}

// The order in which the permute that alone reads attention's output wants it, seen through a
// reshape that merges leading dims; empty without one.
DimOrder FindOrderOfReader(const Graph& graph, ValueId value) {
  const Dims& dims = graph.type(value).dims;
  int merged = 0;  // leading dims that are one less behind the reshape
  if (const Node* reshape = FindOnlyReader(graph, value, "reshape")) {
    value = reshape->outputs[0];
    const Dims& to = graph.type(value).dims;
    merged = static_cast<int>(dims.size()) - static_cast<int>(to.size());
    if (merged < 0 || !std::equal(to.begin() + 1, to.end(), dims.begin() + 1 + merged)) return {};
  }
  const Node* permute = FindOnlyReader(graph, value, "permute");
  if (permute == nullptr) return {};
  std::vector<int64_t> perm = permute->attrs.GetInts("perm");
  if (merged > 0 && perm[0] != 0) return {};
  DimOrder order;
  for (int i = 0; i < merged; ++i) order.push_back(i);
  for (int64_t dim : perm) order.push_back(static_cast<int>(dim) + merged);
  return order;
}

// The order in which `node` makes its output, given the orders of its inputs; empty when it has no
// wish.
DimOrder FindOrder(const Graph& graph, const Node& node) {
  DimOrder order;
  if (IsWindowed(node)) return ChannelsLastOrder(graph.type(node.outputs[0]).rank());
  if (node.op->name == "attention") {
    order = FindOrderOfReader(graph, node.outputs[0]);
    // Rows stay dense.
    return !order.empty() && order.back() == graph.type(node.outputs[0]).rank() - 1 ? order
                                                                                    : DimOrder{};
  }
  Follows(graph, node, order);
  return order;
}

}  // namespace

bool AssignLayout(Rewriter& rewriter) {
  const Graph& graph = rewriter.graph();
  const std::vector<NodeId> nodes = graph.nodes();
  bool changed = false;
  for (NodeId id : nodes) {
    const Node& node = graph.node(id);
    if (IsConstantValue(graph, node.outputs[0])) continue;
    rewriter.SetInsertionPoint(id);
    DimOrder order = FindOrder(graph, node);
    if (!order.empty()) changed = SetOrder(rewriter, node.outputs[0], std::move(order)) || changed;
  }
  // Backwards: what is made for convolutions alone is made channels-last at once.
  const std::vector<std::vector<NodeId>> uses = graph.uses();
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const Node& node = graph.node(*it);
    ValueId output = node.outputs[0];
    bool writes_any =
        node.op->Is(kPointwise) || node.op->name == "concat" || node.op->name == "pad";
    if (!writes_any || IsConstantValue(graph, output)) continue;
    if (!graph.type(output).order.empty()) continue;
    rewriter.SetInsertionPoint(*it);
    if (IsMadeForWindows(graph, uses[output.index], output)) {
      changed = SetOrder(rewriter, output, ChannelsLastOrder(graph.type(output).rank())) || changed;
    }
  }
  return changed;
}

}  // namespace stator
