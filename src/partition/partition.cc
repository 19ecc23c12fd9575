#include "partition/partition.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// All nodes of one FX node.
struct Unit {
  std::vector<NodeId> nodes;
  std::vector<int> predecessors;  // units whose outputs it reads
  std::string reason;             // why it is left to torch; empty: supported
  bool constant = true;           // it depends on no input of the graph
  int level = 0;
};

bool IsExcluded(const std::string& op, const std::set<std::string>& excluded) {
  if (excluded.contains(op)) return true;
  size_t overload = op.rfind('.');  // "aten.sub.Tensor" is also excluded as "aten.sub"
  return overload != std::string::npos && excluded.contains(op.substr(0, overload));
}

class Partitioner {
 public:
  Partitioner(const Graph& graph, const PartitionOptions& options)
      : graph_(graph), options_(options) {
    CollectUnits();
  }

  Partitioning Run() {
    while (true) {
      AssignLevels();
      if (!DropSmallSegments()) break;
    }
    return Finish();
  }

 private:
  void CollectUnits() {
    std::map<std::string, int> unit_of_name;
    std::vector<int> unit_of_value(graph_.num_values(), -1);
    for (NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      int index = static_cast<int>(units_.size());
      if (!node.origin.name.empty()) {
        index = unit_of_name.emplace(node.origin.name, index).first->second;
      }
      if (index == static_cast<int>(units_.size())) units_.emplace_back();
      Unit& unit = units_[index];
      unit.nodes.push_back(id);
      for (ValueId input : node.inputs) {
        if (!input.valid()) continue;
        int predecessor = unit_of_value[input.index];
        if (graph_.value(input).kind == ValueKind::kInput) unit.constant = false;
        if (predecessor < 0 || predecessor == index) continue;
        unit.predecessors.push_back(predecessor);
        if (!units_[predecessor].constant) unit.constant = false;
      }
      for (ValueId output : node.outputs) unit_of_value[output.index] = index;
      if (unit.reason.empty()) unit.reason = FindReason(node);
    }
  }

  // The ATen overload that a node came from; where that is not known, the name in our table.
  std::string OpName(const Node& node) const {
    if (const Attr* target = node.attrs.Find("target")) return std::get<std::string>(*target);
    auto it = options_.targets.find(node.origin.name);
    return it != options_.targets.end() ? it->second : std::string(node.op->name);
  }

  std::string FindReason(const Node& node) const {
    if (IsExcluded(OpName(node), options_.torch_executed_ops) ||
        options_.torch_executed_ops.contains(std::string(node.op->name))) {
      return "listed in torch_executed_ops";
    }
    if (node.op->Is(kOpaque)) return node.attrs.GetString("reason");
    return options_.find_reason ? options_.find_reason(graph_, node) : "";
  }

  // Units are in an order in which predecessors come first, since graph order is.
  void AssignLevels() {
    for (Unit& unit : units_) {
      unit.level = 0;
      for (int predecessor : unit.predecessors) {
        const Unit& before = units_[predecessor];
        bool same = before.reason.empty() == unit.reason.empty();
        unit.level = std::max(unit.level, before.level + (same ? 0 : 1));
      }
    }
    SinkConstants();
  }

  // What reads weights alone (the transpose of a linear layer) goes where it is used, lest it
  // become an engine of its own before everything else.
  void SinkConstants() {
    std::vector<int> latest(units_.size(), -1);  // the last level that serves all users
    for (size_t i = units_.size(); i-- > 0;) {
      Unit& unit = units_[i];
      if (unit.constant && unit.reason.empty() && latest[i] > unit.level) unit.level = latest[i];
      for (int predecessor : unit.predecessors) {
        bool same = units_[predecessor].reason.empty() == unit.reason.empty();
        int level = unit.level - (same ? 0 : 1);
        int& bound = latest[predecessor];
        bound = bound < 0 ? level : std::min(bound, level);
      }
    }
  }

  bool DropSmallSegments() {
    std::map<int, int> sizes;  // level -> supported units
    for (const Unit& unit : units_) sizes[unit.level] += unit.reason.empty();
    bool changed = false;
    for (Unit& unit : units_) {
      if (!unit.reason.empty() || sizes[unit.level] >= options_.min_block_size) continue;
      unit.reason =
          fmt::format("its segment has {} op{}, fewer than min_block_size = {}", sizes[unit.level],
                      sizes[unit.level] == 1 ? "" : "s", options_.min_block_size);
      changed = true;
    }
    return changed;
  }

  Partitioning Finish() const {
    Partitioning result;
    std::map<std::pair<int, bool>, Segment> segments;  // by level, torch before engine
    for (const Unit& unit : units_) {
      bool engine = unit.reason.empty();
      Segment& segment = segments[{unit.level, engine}];
      segment.engine = engine;
      segment.num_ops += 1;
      segment.nodes.insert(segment.nodes.end(), unit.nodes.begin(), unit.nodes.end());
      if (engine) continue;
      const Node& node = graph_.node(unit.nodes.front());
      result.fallbacks.push_back({.node = node.origin.name,
                                  .op = OpName(node),
                                  .location = node.origin.location,
                                  .reason = unit.reason});
    }
    for (auto& [key, segment] : segments) {
      bool joins = !result.segments.empty() && result.segments.back().engine == segment.engine;
      if (joins) {  // nothing of the other kind lies between two levels
        Segment& last = result.segments.back();
        last.nodes.insert(last.nodes.end(), segment.nodes.begin(), segment.nodes.end());
        last.num_ops += segment.num_ops;
      } else {
        result.segments.push_back(std::move(segment));
      }
    }
    return result;
  }

  const Graph& graph_;
  const PartitionOptions& options_;
  std::vector<Unit> units_;
};

}  // namespace

Partitioning PartitionGraph(const Graph& graph, const PartitionOptions& options) {
  return Partitioner(graph, options).Run();
}

ExtractedSegment ExtractSegment(const Graph& graph, const Segment& segment) {
  ExtractedSegment result;
  result.graph.name = graph.name;
  result.graph.symbols = graph.symbols;
  std::vector<ValueId> map(graph.num_values());
  std::vector<bool> inside(graph.num_values(), false), in_segment(graph.num_node_slots(), false);
  for (NodeId id : segment.nodes) {
    in_segment[id.index] = true;
    for (ValueId output : graph.node(id).outputs) inside[output.index] = true;
  }

  for (NodeId id : segment.nodes) {
    for (ValueId input : graph.node(id).inputs) {
      if (!input.valid() || inside[input.index] || map[input.index].valid()) continue;
      const Value& value = graph.value(input);
      if (value.kind == ValueKind::kWeight) {
        map[input.index] = result.graph.AddWeight(value.name, value.type, value.data);
      } else if (value.kind == ValueKind::kLiteral) {
        map[input.index] = result.graph.AddLiteral(value.type, value.data);
      } else {
        std::string name = value.name.empty() ? fmt::format("v{}", input.index) : value.name;
        map[input.index] = result.graph.AddInput(name, value.type);
        result.inputs.push_back(input);
      }
    }
  }
  for (NodeId id : segment.nodes) {
    const Node& node = graph.node(id);
    std::vector<ValueId> inputs;
    std::vector<TensorType> types;
    for (ValueId input : node.inputs) inputs.push_back(input.valid() ? map[input.index] : input);
    for (ValueId output : node.outputs) types.push_back(graph.type(output));
    NodeId copy = result.graph.AddNodeWithTypes(*node.op, std::move(inputs), node.attrs,
                                                std::move(types), node.origin);
    result.graph.mutable_node(copy).body = node.body;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      ValueId output = result.graph.node(copy).outputs[i];
      result.graph.mutable_value(output).name = graph.value(node.outputs[i]).name;
      map[node.outputs[i].index] = output;
    }
  }

  std::vector<bool> needed(graph.num_values(), false);
  for (ValueId output : graph.outputs()) needed[output.index] = true;
  for (NodeId id : graph.nodes()) {
    if (in_segment[id.index]) continue;
    for (ValueId input : graph.node(id).inputs) {
      if (input.valid()) needed[input.index] = true;
    }
  }
  std::vector<ValueId> outputs;
  for (NodeId id : segment.nodes) {
    for (ValueId output : graph.node(id).outputs) {
      if (!needed[output.index]) continue;
      result.outputs.push_back(output);
      outputs.push_back(map[output.index]);
    }
  }
  result.graph.SetOutputs(std::move(outputs));
  return result;
}

}  // namespace stator
