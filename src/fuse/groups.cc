#include "fuse/groups.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "ir/op_def.h"
#include "ops/kernel_kind.h"

namespace stator {
namespace {

constexpr size_t kMaxGroupNodes = 64;

class Grouper {
 public:
  Grouper(const Graph& graph, const FuseOptions& options)
      : graph_(graph),
        options_(options),
        uses_(graph.uses()),
        constant_(FindConstantValues(graph)),
        group_of_(graph.num_node_slots(), -1),
        position_(graph.num_node_slots(), -1),
        is_output_(graph.num_values(), false) {
    for (ValueId output : graph.outputs()) is_output_[output.index] = true;
    int position = 0;
    for (NodeId id : graph.nodes()) position_[id.index] = position++;
  }

  std::vector<Group> Run() {
    std::vector<NodeId> nodes = graph_.nodes();
    for (NodeId id : nodes) {
      const Node& node = graph_.node(id);
      if (node.op->name == "conv" || node.op->name == "matmul") GrowEpilogue(id);
    }
    for (NodeId id : nodes) {
      if (!IsGrouped(id) && IsAlongLastDims(graph_, graph_.node(id))) GrowRowwise(id);
    }
    for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
      if (!IsGrouped(*it)) PlaceNode(*it);
    }
    for (Group& group : groups_) {
      std::sort(group.nodes.begin(), group.nodes.end(),
                [&](NodeId a, NodeId b) { return position_[a.index] < position_[b.index]; });
    }
    return std::move(groups_);
  }

 private:
  bool IsGrouped(NodeId id) const { return group_of_[id.index] >= 0; }
  const TensorType& OutputType(NodeId id) const { return graph_.type(graph_.node(id).outputs[0]); }
  bool IsConstantNode(NodeId id) const { return constant_[graph_.node(id).outputs[0].index]; }

  int NewGroup(std::string_view kind, NodeId id, Dims domain = {}) {
    int index = static_cast<int>(groups_.size());
    groups_.push_back({.kind = std::string(kind), .nodes = {}, .domain = std::move(domain)});
    AddTo(index, id);
    return index;
  }

  void AddTo(int group, NodeId id) {
    groups_[group].nodes.push_back(id);
    group_of_[id.index] = group;
  }

  // The only reader of a node's only output, when that is an ungrouped pointwise node on the same
  // domain; else invalid.
  NodeId FindOnlyPointwiseReader(NodeId id) const {
    const Node& node = graph_.node(id);
    ValueId output = node.outputs[0];
    const std::vector<NodeId>& readers = uses_[output.index];
    if (node.outputs.size() != 1 || is_output_[output.index] || readers.size() != 1) return {};
    NodeId reader = readers[0];
    bool fits = !IsGrouped(reader) && graph_.node(reader).op->Is(kPointwise) &&
                OutputType(reader).dims == graph_.type(output).dims &&
                IsConstantNode(reader) == IsConstantNode(id);
    return fits ? reader : NodeId{};
  }

  // A gemm or conv takes in the chain of pointwise nodes behind it while a tactic can run the
  // whole.
  void GrowEpilogue(NodeId anchor) {
    std::string_view kind = StructuredKind(*graph_.node(anchor).op);
    int group = NewGroup(kind, anchor);
    std::vector<NodeId> chain = {anchor};
    while (true) {
      NodeId next = FindOnlyPointwiseReader(chain.back());
      if (!next.valid()) return;
      chain.push_back(next);
      if (!options_.can_run(kind, MakeBody(graph_, chain, "body").graph)) return;
      AddTo(group, next);
    }
  }

  void GrowRowwise(NodeId anchor) {
    int group = NewGroup("rowwise", anchor, OutputType(anchor).dims);
    NodeId next = FindOnlyPointwiseReader(anchor);
    while (next.valid() && groups_[group].nodes.size() < kMaxGroupNodes) {
      AddTo(group, next);
      next = FindOnlyPointwiseReader(next);
    }
  }

  // Called in reverse order: all readers of `id` have their groups.
  void PlaceNode(NodeId id) {
    const Node& node = graph_.node(id);
    if (node.op->Is(kView)) {
      NewGroup("view", id);
    } else if (node.op->Is(kPointwise)) {
      int group = FindReaderGroup(id);
      if (group >= 0) {
        AddTo(group, id);
      } else {
        NewGroup("pointwise", id, OutputType(id).dims);
      }
    } else if (node.op->Is(kReduction)) {
      NewGroup("reduce", id, graph_.type(node.inputs[0]).dims);
    } else {
      NewGroup(StructuredKind(*node.op), id);
    }
  }

  // A pointwise, rowwise or reduce group that reads `id` and can take it in; -1 when there is none.
  // When others read it too, it becomes one more output of the group (never of a reduction).
  int FindReaderGroup(NodeId id) const {
    ValueId output = graph_.node(id).outputs[0];
    std::set<int> candidates;
    for (NodeId reader : uses_[output.index]) candidates.insert(group_of_[reader.index]);
    bool shared = candidates.size() > 1 || is_output_[output.index];
    for (int group : candidates) {
      const Group& target = groups_[group];
      bool takes = target.kind == "pointwise" || target.kind == "rowwise" ||
                   (target.kind == "reduce" && !shared);
      if (!takes || target.domain != graph_.type(output).dims) continue;
      if (target.nodes.size() >= kMaxGroupNodes) continue;
      if (IsConstantNode(id) != IsConstantNode(target.nodes[0])) continue;
      if (shared && HasWayAround(id, group)) continue;
      return group;
    }
    return -1;
  }

  // Whether a way leads from `id` through a node outside `group` into `group`; taking `id` in would
  // then make the group depend on itself.
  bool HasWayAround(NodeId id, int group) const {
    int last = 0;
    for (NodeId node : groups_[group].nodes) last = std::max(last, position_[node.index]);
    std::vector<NodeId> stack = {id};
    std::set<int> seen;
    while (!stack.empty()) {
      NodeId from = stack.back();
      stack.pop_back();
      for (ValueId output : graph_.node(from).outputs) {
        for (NodeId reader : uses_[output.index]) {
          if (group_of_[reader.index] == group) {
            if (from != id) return true;
            continue;
          }
          // The rest of a reader's group runs with it, wherever that stands in the order.
          int other = group_of_[reader.index];
          for (NodeId member : other >= 0 ? groups_[other].nodes : std::vector<NodeId>{reader}) {
            if (seen.insert(member.index).second) stack.push_back(member);
          }
        }
      }
    }
    return false;
  }

  const Graph& graph_;
  const FuseOptions& options_;
  std::vector<std::vector<NodeId>> uses_;
  std::vector<bool> constant_;
  std::vector<int> group_of_;
  std::vector<int> position_;
  std::vector<bool> is_output_;
  std::vector<Group> groups_;
};

}  // namespace

std::vector<Group> FindGroups(const Graph& graph, const FuseOptions& options) {
  return Grouper(graph, options).Run();
}

Body MakeBody(const Graph& graph, const std::vector<NodeId>& nodes, std::string_view name) {
  Body body;
  body.graph.name = name;
  body.graph.symbols = graph.symbols;
  // Numbers that pointwise nodes read are part of the body; what other ops read is memory.
  std::map<ValueId, ValueId> map, numbers;
  std::set<NodeId> inside(nodes.begin(), nodes.end());
  for (NodeId id : nodes) {
    for (ValueId output : graph.node(id).outputs) map[output] = {};
  }
  for (NodeId id : nodes) {
    const Node& node = graph.node(id);
    std::vector<ValueId> inputs;
    std::vector<TensorType> types;
    for (ValueId input : node.inputs) {
      if (!input.valid()) {
        inputs.push_back(input);
        continue;
      }
      const Value& value = graph.value(input);
      bool is_number = node.op->Is(kPointwise) && value.kind == ValueKind::kLiteral &&
                       value.data.size == DTypeSize(value.type.dtype);
      auto [it, inserted] = (is_number ? numbers : map).emplace(input, ValueId());
      if (inserted && is_number) {
        it->second = body.graph.AddLiteral(value.type, value.data);
      } else if (inserted) {
        it->second = body.graph.AddInput(fmt::format("x{}", body.inputs.size()), value.type);
        body.inputs.push_back(input);
      }
      inputs.push_back(it->second);
    }
    for (ValueId output : node.outputs) types.push_back(graph.type(output));
    NodeId copy = body.graph.AddNodeWithTypes(*node.op, std::move(inputs), node.attrs,
                                              std::move(types), node.origin);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      map[node.outputs[i]] = body.graph.node(copy).outputs[i];
    }
  }

  std::set<ValueId> needed(graph.outputs().begin(), graph.outputs().end());
  for (NodeId id : graph.nodes()) {
    if (inside.contains(id)) continue;
    for (ValueId input : graph.node(id).inputs) needed.insert(input);
  }
  std::vector<ValueId> outputs;
  for (NodeId id : nodes) {
    for (ValueId output : graph.node(id).outputs) {
      if (!needed.contains(output)) continue;
      body.outputs.push_back(output);
      outputs.push_back(map[output]);
    }
  }
  body.graph.SetOutputs(std::move(outputs));
  return body;
}

}  // namespace stator
