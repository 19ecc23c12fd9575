#include "cpu/run/one_node.h"

#include <algorithm>

namespace stator {

std::optional<OneNode> FindOneNode(const Graph& body, std::initializer_list<std::string_view> ops) {
  std::vector<NodeId> nodes = body.nodes();
  if (nodes.size() != 1) return std::nullopt;
  OneNode one{.node = &body.node(nodes[0]), .operands = {}};
  if (std::ranges::find(ops, one.node->op->name) == ops.end()) return std::nullopt;
  if (one.node->outputs.size() != 1 || !std::ranges::equal(body.outputs(), one.node->outputs)) {
    return std::nullopt;
  }
  for (ValueId input : one.node->inputs) {
    auto it = std::ranges::find(body.inputs(), input);
    if (input.valid() && it == body.inputs().end()) return std::nullopt;
    one.operands.push_back(input.valid() ? static_cast<int>(it - body.inputs().begin()) : -1);
  }
  return one;
}

}  // namespace stator
