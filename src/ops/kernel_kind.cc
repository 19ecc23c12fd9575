#include "ops/kernel_kind.h"

#include <map>

namespace stator {

std::string_view StructuredKind(const OpDef& op) {
  static const std::map<std::string_view, std::string_view> kKindOfOp = {
      {"conv", "conv"},
      {"matmul", "gemm"},
      {"attention", "attention"},
      {"max_pool", "pool"},
      {"avg_pool", "pool"},
      {"embedding", "gather"},
      {"index_select", "gather"},
      {"concat", "concat"},
      {"adaptive_avg_pool", "pool"},
      {"adaptive_max_pool", "pool"},
      {"resample", "pool"},
      {"grid_sample", "pool"},
  };
  auto it = kKindOfOp.find(op.name);
  return it == kKindOfOp.end() ? "reference" : it->second;
}

bool IsAlongLastDims(const Graph& graph, const Node& node) {
  if (!node.op->Is(kRowwise)) return false;
  const Attr* axis = node.attrs.Find("axis");
  if (axis != nullptr) {
    return std::get<Dim>(*axis) == Dim(graph.type(node.inputs[0]).rank() - 1);
  }
  return node.attrs.Find("num_dims") != nullptr;
}

bool HasOnlyReference(const Graph& graph, const Node& node) {
  const OpDef& op = *node.op;
  if (op.reference == nullptr || op.decompose != nullptr || op.Is(kOpaque)) return false;
  if (op.Is(kView) || op.Is(kPointwise) || op.Is(kReduction)) return false;
  return !IsAlongLastDims(graph, node) && StructuredKind(op) == "reference";
}

}  // namespace stator
