#include "passes/match.h"

#include <algorithm>
#include <set>

namespace stator {

const Node* FindNode(const Graph& graph, ValueId value, std::string_view op) {
  const Node* node = value.valid() ? graph.FindProducer(value) : nullptr;
  return node != nullptr && node->op->name == op ? node : nullptr;
}

std::optional<double> FindScalar(const Graph& graph, ValueId value) {
  if (!value.valid()) return std::nullopt;
  const Node* node = graph.FindProducer(value);
  while (node != nullptr && node->op->Is(kView)) {
    value = node->inputs[0];
    node = graph.FindProducer(value);
  }
  if (node != nullptr && node->op->name == "full") return node->attrs.GetFloat("value");
  return FindSplat(graph, value);
}

bool IsScalar(const Graph& graph, ValueId value, double number) {
  return FindScalar(graph, value) == number;
}

int CountUses(const Graph& graph, ValueId value) {
  auto outputs = graph.outputs();
  int count = static_cast<int>(std::count(outputs.begin(), outputs.end(), value));
  for (NodeId id = graph.first_node(); id.valid(); id = graph.node(id).next) {
    const std::vector<ValueId>& inputs = graph.node(id).inputs;
    count += static_cast<int>(std::count(inputs.begin(), inputs.end(), value));
  }
  return count;
}

bool IsConstantValue(const Graph& graph, ValueId value) {
  std::vector<ValueId> stack = {value};
  std::set<ValueId> seen;
  while (!stack.empty()) {
    ValueId at = stack.back();
    stack.pop_back();
    if (graph.IsConstant(at) || !seen.insert(at).second) continue;
    const Node* node = graph.FindProducer(at);
    if (node == nullptr || !IsStatic(graph.type(at).dims)) return false;
    for (ValueId input : node->inputs) {
      if (input.valid()) stack.push_back(input);
    }
  }
  return true;
}

std::optional<DimOrder> FindMemoryOrder(const Graph& graph, ValueId value) {
  const Node* node = graph.FindProducer(value);
  if (node == nullptr || !node->op->Is(kView)) return graph.type(value).order;
  std::optional<DimOrder> from;
  if (node->op->name == "permute" || node->op->name == "reshape") {
    from = FindMemoryOrder(graph, node->inputs[0]);
  }
  if (!from) return std::nullopt;
  if (node->op->name == "reshape") return from->empty() ? from : std::nullopt;
  std::vector<int64_t> perm = node->attrs.GetInts("perm");
  std::vector<int> place(perm.size());  // of the input's dims in the output
  for (size_t i = 0; i < perm.size(); ++i) place[perm[i]] = static_cast<int>(i);
  if (from->empty()) return CanonicalOrder(place);
  DimOrder order;
  for (int dim : *from) order.push_back(place[dim]);
  return CanonicalOrder(order);
}

ValueId FindOther(const Graph& graph, const Node& node, double number) {
  if (IsScalar(graph, node.inputs[1], number)) return node.inputs[0];
  if (IsScalar(graph, node.inputs[0], number)) return node.inputs[1];
  return {};
}

void EraseIfDead(Rewriter& rewriter, NodeId id) {
  const Graph& graph = rewriter.graph();
  std::vector<NodeId> stack = {id};
  while (!stack.empty()) {
    NodeId at = stack.back();
    stack.pop_back();
    const Node& node = graph.node(at);
    bool dead = !node.erased && std::all_of(node.outputs.begin(), node.outputs.end(),
                                            [&](auto id) { return CountUses(graph, id) == 0; });
    if (!dead) continue;
    rewriter.Erase(at);
    for (ValueId input : node.inputs) {
      if (input.valid() && graph.value(input).kind == ValueKind::kNode) {
        stack.push_back(graph.value(input).producer);
      }
    }
  }
}

bool ApplyRules(Rewriter& rewriter, std::span<const Rule> rules) {
  const Graph& graph = rewriter.graph();
  bool changed = false;
  for (bool again = true; again;) {
    again = false;
    for (NodeId id : graph.nodes()) {
      const Node& node = graph.node(id);
      if (node.erased || node.outputs.size() != 1) continue;
      for (const Rule& rule : rules) {
        if (!rule.op.empty() && rule.op != node.op->name) continue;
        rewriter.SetInsertionPoint(id);
        ValueId replacement = rule.fn(rewriter, node);
        if (!replacement.valid()) continue;
        rewriter.ReplaceUses(node.outputs[0], replacement);
        EraseIfDead(rewriter, id);
        again = changed = true;
        break;
      }
    }
  }
  return changed;
}

}  // namespace stator
