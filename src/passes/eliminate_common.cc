// EliminateCommon: equal nodes over equal inputs become one, and so do equal literals.
//
//   %0 = exp(%x)
//   %1 = exp(%x)            ->    %0 = exp(%x)
//   %2 = add(%0, %1)              %1 = add(%0, %0)
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "ir/attr.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

std::string KeyOf(const Graph& graph, const Node& node) {
  std::vector<ValueId> inputs = node.inputs;
  if (node.op->Is(kCommutative)) std::sort(inputs.begin(), inputs.end());
  std::string key = std::string(node.op->name) + node.attrs.ToString();
  for (ValueId input : inputs) key += fmt::format(" {}", input.index);
  for (ValueId output : node.outputs) key += fmt::format(" {}", graph.type(output).ToString());
  return key;
}

bool MergeLiterals(Rewriter& rewriter) {
  const Graph& graph = rewriter.graph();
  std::map<std::string, ValueId> seen;
  bool changed = false;
  for (ValueId id : std::vector<ValueId>(graph.constants().begin(), graph.constants().end())) {
    const Value& value = graph.value(id);
    if (value.kind != ValueKind::kLiteral || CountUses(graph, id) == 0) continue;
    std::string key = value.type.ToString();
    key.append(reinterpret_cast<const char*>(value.data.bytes), value.data.size);
    auto [it, is_new] = seen.emplace(std::move(key), id);
    if (is_new) continue;
    if (!rewriter.Start()) return changed;
    rewriter.ReplaceUses(id, it->second);
    changed = true;
  }
  return changed;
}

}  // namespace

bool EliminateCommon(Rewriter& rewriter) {
  const Graph& graph = rewriter.graph();
  bool changed = MergeLiterals(rewriter);
  std::map<std::string, NodeId> seen;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (node.op->Is(kOpaque) || node.op->Is(kKernel)) continue;
    auto [it, is_new] = seen.emplace(KeyOf(graph, node), id);
    if (is_new) continue;
    rewriter.SetInsertionPoint(id);
    if (!rewriter.Start()) return changed;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      rewriter.ReplaceUses(node.outputs[i], graph.node(it->second).outputs[i]);
    }
    rewriter.Erase(id);
    changed = true;
  }
  return changed;
}

}  // namespace stator
