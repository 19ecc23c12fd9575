#include "passes/match.h"

#include <algorithm>

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
  if (graph.IsConstant(value)) return true;
  const Node* node = graph.FindProducer(value);
  return node != nullptr && IsStatic(graph.type(value).dims) &&
         std::all_of(node->inputs.begin(), node->inputs.end(), [&](ValueId input) {
           return !input.valid() || IsConstantValue(graph, input);
         });
}

ValueId FindOther(const Graph& graph, const Node& node, double number) {
  if (IsScalar(graph, node.inputs[1], number)) return node.inputs[0];
  if (IsScalar(graph, node.inputs[0], number)) return node.inputs[1];
  return {};
}

void EraseIfDead(Rewriter& rewriter, NodeId id) {
  const Graph& graph = rewriter.graph();
  const Node& node = graph.node(id);
  bool dead =
      !node.erased && std::all_of(node.outputs.begin(), node.outputs.end(),
                                  [&](ValueId output) { return CountUses(graph, output) == 0; });
  if (!dead) return;
  std::vector<ValueId> inputs = node.inputs;
  rewriter.Erase(id);
  for (ValueId input : inputs) {
    if (input.valid() && graph.value(input).kind == ValueKind::kNode) {
      EraseIfDead(rewriter, graph.value(input).producer);
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
