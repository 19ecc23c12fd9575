#include "fuse/fuse.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "fuse/groups.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// The groups in an order in which each one's inputs are made before it, as near to the graph's own
// order as that allows (by the position of the group's last node).
std::vector<int> SortGroups(const Graph& graph, const std::vector<Group>& groups) {
  std::vector<int> group_of(graph.num_node_slots(), -1), position(graph.num_node_slots(), 0);
  int count = 0;
  for (NodeId id : graph.nodes()) position[id.index] = count++;
  for (size_t i = 0; i < groups.size(); ++i) {
    for (NodeId id : groups[i].nodes) group_of[id.index] = static_cast<int>(i);
  }
  std::vector<std::vector<int>> successors(groups.size());
  std::vector<int> num_waiting(groups.size(), 0), last(groups.size(), 0);
  for (size_t i = 0; i < groups.size(); ++i) {
    for (NodeId id : groups[i].nodes) {
      last[i] = std::max(last[i], position[id.index]);
      for (ValueId input : graph.node(id).inputs) {
        if (!input.valid() || graph.value(input).kind != ValueKind::kNode) continue;
        int from = group_of[graph.value(input).producer.index];
        if (from == static_cast<int>(i)) continue;
        successors[from].push_back(static_cast<int>(i));
        ++num_waiting[i];
      }
    }
  }
  std::map<int, int> ready;  // by position of the last node
  for (size_t i = 0; i < groups.size(); ++i) {
    if (num_waiting[i] == 0) ready[last[i]] = static_cast<int>(i);
  }
  std::vector<int> order;
  while (!ready.empty()) {
    int group = ready.begin()->second;
    ready.erase(ready.begin());
    order.push_back(group);
    for (int next : successors[group]) {
      if (--num_waiting[next] == 0) ready[last[next]] = next;
    }
  }
  STATOR_CHECK(order.size() == groups.size(), "fused groups depend on each other in a circle");
  return order;
}

Origin JoinOrigins(const Graph& graph, const std::vector<NodeId>& nodes) {
  constexpr size_t kMaxNames = 4;
  Origin joined;
  size_t count = 0;
  std::string previous;
  for (NodeId id : nodes) {
    const Origin& origin = graph.node(id).origin;
    if (origin.name.empty() || origin.name == previous) continue;
    previous = origin.name;
    if (++count <= kMaxNames) joined.name += (joined.name.empty() ? "" : "+") + origin.name;
    if (joined.location.empty()) joined.location = origin.location;
  }
  if (count > kMaxNames) joined.name += fmt::format("+{} more", count - kMaxNames);
  return joined;
}

}  // namespace

std::vector<bool> FindConstantValues(const Graph& graph) {
  std::vector<bool> constant(graph.num_values(), false);
  for (ValueId id : graph.constants()) constant[id.index] = true;
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    bool all = std::all_of(node.inputs.begin(), node.inputs.end(),
                           [&](ValueId input) { return !input.valid() || constant[input.index]; });
    for (ValueId output : node.outputs) {
      constant[output.index] = all && IsStatic(graph.type(output).dims);
    }
  }
  return constant;
}

Graph Fuse(const Graph& graph, const FuseOptions& options) {
  std::vector<Group> groups = FindGroups(graph, options);
  Graph kernels;
  kernels.name = graph.name;
  kernels.symbols = graph.symbols;
  std::vector<ValueId> map(graph.num_values());
  for (ValueId id : graph.inputs()) {
    map[id.index] = kernels.AddInput(graph.value(id).name, graph.type(id));
  }
  for (ValueId id : graph.constants()) {
    const Value& value = graph.value(id);
    map[id.index] = value.kind == ValueKind::kWeight
                        ? kernels.AddWeight(value.name, value.type, value.data)
                        : kernels.AddLiteral(value.type, value.data);
  }
  for (int index : SortGroups(graph, groups)) {
    const Group& group = groups[index];
    bool is_view = group.kind == "view";
    Body body;
    const Node* view = is_view ? &graph.node(group.nodes[0]) : nullptr;
    if (!is_view) body = MakeBody(graph, group.nodes, group.kind);
    const std::vector<ValueId>& outer_inputs = is_view ? view->inputs : body.inputs;
    const std::vector<ValueId>& outer_outputs = is_view ? view->outputs : body.outputs;
    if (outer_outputs.empty()) continue;  // nobody reads it

    std::vector<ValueId> inputs;
    std::vector<TensorType> types;
    for (ValueId input : outer_inputs) inputs.push_back(map[input.index]);
    for (ValueId output : outer_outputs) types.push_back(graph.type(output));
    NodeId id = is_view ? kernels.AddNodeWithTypes(*view->op, std::move(inputs), view->attrs,
                                                   std::move(types), view->origin)
                        : kernels.AddNodeWithTypes(GetOp("kernel"), std::move(inputs),
                                                   {{"kind", group.kind}}, std::move(types),
                                                   JoinOrigins(graph, group.nodes));
    if (!is_view) {
      kernels.mutable_node(id).body = std::make_shared<const Graph>(std::move(body.graph));
    }
    for (size_t i = 0; i < outer_outputs.size(); ++i) {
      ValueId output = kernels.node(id).outputs[i];
      kernels.mutable_value(output).name = graph.value(outer_outputs[i]).name;
      map[outer_outputs[i].index] = output;
    }
  }
  std::vector<ValueId> outputs;
  for (ValueId output : graph.outputs()) outputs.push_back(map[output.index]);
  kernels.SetOutputs(std::move(outputs));
  return kernels;
}

}  // namespace stator
