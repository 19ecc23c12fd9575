#include "partition/partition.h"

#include <algorithm>

#include "base/error.h"
#include "base/told_symbol.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// All nodes of one FX node.
struct Unit {
  std::vector<NodeId> nodes;
  std::vector<int> predecessors;  // units that must run before
  std::string reason;             // why it is left to torch; empty: an engine runs it
  bool supported = false;         // whether an engine could
  bool constant = true;           // it depends on no input of the graph
  bool view = true;               // it moves no data
  int floor = 0;                  // the first stage it may have
  int stage = 0;

  bool in_engine() const { return reason.empty(); }
};

bool IsExcluded(const std::string& op, const std::set<std::string>& excluded) {
  if (excluded.contains(op)) return true;
  size_t overload = op.rfind('.');  // "aten.sub.Tensor" is also excluded as "aten.sub"
  return overload != std::string::npos && excluded.contains(op.substr(0, overload));
}

// Whether an op that only torch knows may draw random numbers (torch.Tag.nondeterministic_seeded)
// or have side effects. Errs on the side of yes.
bool KeepsOrder(std::string_view op) {
  if (!op.starts_with("aten.") && !op.starts_with("prims.")) return true;  // a custom op
  constexpr std::string_view kRandom[] = {
      "attention", "bernoulli", "binomial", "cauchy", "dirichlet",  "dropout", "exponential",
      "gamma",     "geometric", "gru",      "lstm",   "log_normal", "normal",  "multinomial",
      "poisson",   "rand",      "rnn",      "rrelu",  "uniform"};
  return std::any_of(std::begin(kRandom), std::end(kRandom), [&](std::string_view word) {
    return op.find(word) != std::string_view::npos;
  });
}

class Partitioner {
 public:
  Partitioner(const Graph& graph, const PartitionOptions& options)
      : graph_(graph), options_(options) {
    CollectUnits();
  }

  Partitioning Run() {
    do {
      AssignStages();
    } while (MoveOutOfSmallSegments() || DropSmallSegments());
    return Finish();
  }

 private:
  void CollectUnits() {
    std::map<std::string, int> unit_of_name;
    std::vector<int> unit_of_value(graph_.num_values(), -1);
    int last_ordered = -1;
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
      if (!node.op->Is(kView)) unit.view = false;
      if (unit.reason.empty()) unit.reason = FindReason(node);
      if (node.op->Is(kOpaque) && KeepsOrder(OpName(node))) {
        if (last_ordered >= 0 && last_ordered != index) unit.predecessors.push_back(last_ordered);
        last_ordered = index;
      }
    }
    for (Unit& unit : units_) unit.supported = unit.in_engine();
    if (options_.cost) LeaveSlowUnits();
  }

  void LeaveSlowUnits() {
    for (Unit& unit : units_) {
      if (!unit.in_engine() || unit.constant) continue;
      double loss = 0;
      for (NodeId id : unit.nodes) loss += EstimateLoss(*options_.cost, graph_, graph_.node(id));
      if (loss < kMinLoss) continue;
      unit.reason = fmt::format(
          "the engine has only a reference kernel for it, some {:.0f} us slower than torch",
          loss / 1000);
    }
  }

  std::string OpName(const Node& node) const { return FindOpName(node, options_.targets); }

  std::string FindReason(const Node& node) const {
    if (IsExcluded(OpName(node), options_.torch_executed_ops) ||
        options_.torch_executed_ops.contains(std::string(node.op->name))) {
      return "listed in torch_executed_ops";
    }
    if (node.op->Is(kOpaque)) return node.attrs.GetString("reason");
    return options_.find_reason ? options_.find_reason(graph_, node) : "";
  }

  // The stages between two units of which the second needs the first.
  static int Distance(const Unit& first, const Unit& second) {
    return first.in_engine() && !second.in_engine() ? 1 : 0;
  }

  // Units are in an order in which predecessors come first, since graph order is.
  void AssignStages() {
    num_stages_ = 1;
    for (Unit& unit : units_) {
      unit.stage = unit.floor;
      for (int predecessor : unit.predecessors) {
        const Unit& before = units_[predecessor];
        unit.stage = std::max(unit.stage, before.stage + Distance(before, unit));
      }
      num_stages_ = std::max(num_stages_, unit.stage + 1);
    }
    SinkConstants();
    sizes_.assign(num_stages_, 0);
    views_only_.assign(num_stages_, true);
    has_torch_.assign(num_stages_ + 1, false);
    for (const Unit& unit : units_) {
      if (!unit.in_engine()) {
        has_torch_[unit.stage] = true;
        continue;
      }
      sizes_[unit.stage] += 1;
      if (!unit.view) views_only_[unit.stage] = false;
    }
  }

  // What reads weights alone (the transpose of a linear layer) goes where it is used, lest it
  // become an engine of its own before everything else.
  void SinkConstants() {
    std::vector<int> latest(units_.size(), -1);  // the last stage that serves all users
    for (size_t i = units_.size(); i-- > 0;) {
      Unit& unit = units_[i];
      if (unit.constant && unit.in_engine() && latest[i] > unit.stage) unit.stage = latest[i];
      for (int predecessor : unit.predecessors) {
        int stage = unit.stage - Distance(units_[predecessor], unit);
        int& bound = latest[predecessor];
        bound = bound < 0 ? stage : std::min(bound, stage);
      }
    }
  }

  bool IsSmall(int stage) const { return sizes_[stage] < options_.min_block_size; }

  // Makes nodes of small segments wait for a later engine, where those that need them allow it.
  // Returns whether any does; stages are then to be assigned again. Ends: floors only rise, and no
  // further than to the last stage, until a segment is dropped.
  bool MoveOutOfSmallSegments() {
    if (options_.use_fast_partitioner || options_.min_block_size == kInfiniteBlockSize)
      return false;
    bool changed = false;
    std::vector<int> latest(units_.size(), num_stages_ - 1);
    for (size_t i = units_.size(); i-- > 0;) {
      Unit& unit = units_[i];
      int stage = unit.stage;
      if (unit.in_engine() && IsSmall(stage)) stage = FindLaterEngine(stage, latest[i]);
      if (stage > unit.stage) {
        unit.floor = stage;
        changed = true;
      }
      for (int predecessor : unit.predecessors) {
        latest[predecessor] =
            std::min(latest[predecessor], stage - Distance(units_[predecessor], unit));
      }
    }
    return changed;
  }

  // The first stage after `stage`, up to `last`, that has an engine; else `stage`.
  int FindLaterEngine(int stage, int last) const {
    for (int later = stage + 1; later <= last; ++later) {
      if (sizes_[later] > 0) return later;
    }
    return stage;
  }

  // Leaves segments to torch that are too small. Returns whether there were any.
  bool DropSmallSegments() {
    bool parted = std::any_of(units_.begin(), units_.end(),
                              [](const Unit& unit) { return !unit.in_engine(); });
    std::vector<bool> too_dear(num_stages_, false);
    if (parted && options_.cost) too_dear = FindTooDear();
    bool changed = false;
    for (Unit& unit : units_) {
      if (!unit.in_engine()) continue;
      if (IsSmall(unit.stage)) {
        unit.reason = DescribeSmall(sizes_[unit.stage]);
      } else if (parted && views_only_[unit.stage]) {
        unit.reason = "its segment has views alone, which torch makes without a copy";
      } else if (too_dear[unit.stage]) {
        unit.reason = "torch runs its segment in less time than the call of an engine takes";
      } else {
        continue;
      }
      changed = true;
    }
    if (changed) {
      for (Unit& unit : units_) unit.floor = 0;  // stages may be fewer now
    }
    return changed;
  }

  // By stage, whether torch runs the nodes of its engine in less time than the engine's call takes.
  std::vector<bool> FindTooDear() const {
    std::vector<double> torch(num_stages_, 0);
    std::vector<Segment> segments(num_stages_);
    for (const Unit& unit : units_) {
      if (!unit.in_engine()) continue;
      std::vector<NodeId>& nodes = segments[unit.stage].nodes;
      nodes.insert(nodes.end(), unit.nodes.begin(), unit.nodes.end());
      if (unit.constant) continue;
      double longest = 0;  // torch runs the nodes of a unit in one op
      for (NodeId id : unit.nodes) {
        longest = std::max(longest, EstimateTorch(*options_.cost, graph_, graph_.node(id)));
      }
      torch[unit.stage] += longest;
    }
    std::vector<bool> result(num_stages_, false);
    for (int stage = 0; stage < num_stages_; ++stage) {
      if (sizes_[stage] == 0) continue;
      Boundary boundary = FindBoundary(graph_, segments[stage]);
      int num_ports = static_cast<int>(boundary.inputs.size() + boundary.outputs.size());
      bool parts_torch = has_torch_[stage] && has_torch_[stage + 1];
      result[stage] = torch[stage] < EstimateBoundary(num_ports, parts_torch);
    }
    return result;
  }

  std::string DescribeSmall(int size) const {
    if (options_.min_block_size == kInfiniteBlockSize) return "min_block_size is infinite";
    return fmt::format("its segment has {} op{}, fewer than min_block_size = {}", size,
                       size == 1 ? "" : "s", options_.min_block_size);
  }

  Partitioning Finish() const {
    Partitioning result;
    std::map<std::pair<int, bool>, Segment> segments;  // by stage, torch before engine
    for (const Unit& unit : units_) {
      Segment& segment = segments[{unit.stage, unit.in_engine()}];
      segment.engine = unit.in_engine();
      segment.num_ops += 1;
      segment.nodes.insert(segment.nodes.end(), unit.nodes.begin(), unit.nodes.end());
      if (unit.in_engine()) continue;
      const Node& node = graph_.node(unit.nodes.front());
      result.fallbacks.push_back({.node = node.origin.name,
                                  .op = OpName(node),
                                  .location = node.origin.location,
                                  .reason = unit.reason,
                                  .supported = unit.supported});
    }
    for (auto& [key, segment] : segments) {
      bool joins = !result.segments.empty() && result.segments.back().engine == segment.engine;
      if (joins) {  // nothing of the other kind lies between two stages
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
  int num_stages_ = 1;
  std::vector<int> sizes_;        // by stage: units in its engine
  std::vector<bool> views_only_;  // by stage: none of them computes
  std::vector<bool> has_torch_;   // by stage, and one beyond: it has units left to torch
};

// The symbols that the sizes of a segment's values and its attributes depend on.
std::set<std::string> CollectSymbols(const Graph& graph, const Segment& segment) {
  std::set<std::string> symbols;
  auto collect = [&](const Dims& dims) {
    for (const Dim& dim : dims) dim.CollectSymbols(symbols);
  };
  for (NodeId id : segment.nodes) {
    const Node& node = graph.node(id);
    for (ValueId input : node.inputs) {
      if (input.valid()) collect(graph.type(input).dims);
    }
    for (ValueId output : node.outputs) collect(graph.type(output).dims);
    for (const auto& [name, attr] : node.attrs) {
      if (const Dim* dim = std::get_if<Dim>(&attr)) collect({*dim});
      if (const Dims* dims = std::get_if<Dims>(&attr)) collect(*dims);
    }
  }
  return symbols;
}

// Adds inputs of the graph to `inputs` that tell the symbols which those do not.
void AddTellers(const Graph& graph, std::set<std::string> symbols, std::vector<ValueId>& inputs) {
  auto tells = [&](ValueId input) {
    bool any = false;
    for (const Dim& dim : graph.type(input).dims) {
      std::optional<std::string> symbol = FindToldSymbol(dim);
      if (symbol && symbols.erase(*symbol) > 0) any = true;
    }
    return any;
  };
  for (ValueId input : inputs) tells(input);
  for (ValueId input : graph.inputs()) {
    if (tells(input)) inputs.push_back(input);
  }
}

}  // namespace

Partitioning PartitionGraph(const Graph& graph, const PartitionOptions& options) {
  return Partitioner(graph, options).Run();
}

std::string FindOpName(const Node& node, const std::map<std::string, std::string>& targets) {
  if (const Attr* target = node.attrs.Find("target")) return std::get<std::string>(*target);
  auto it = targets.find(node.origin.name);
  return it != targets.end() ? it->second : std::string(node.op->name);
}

Boundary FindBoundary(const Graph& graph, const Segment& segment) {
  Boundary result;
  std::vector<bool> in_segment(graph.num_node_slots(), false);
  std::vector<bool> known(graph.num_values(), false), needed(graph.num_values(), false);
  for (NodeId id : segment.nodes) {
    in_segment[id.index] = true;
    for (ValueId output : graph.node(id).outputs) known[output.index] = true;
  }
  for (NodeId id : segment.nodes) {
    for (ValueId input : graph.node(id).inputs) {
      if (!input.valid() || known[input.index] || graph.IsConstant(input)) continue;
      known[input.index] = true;
      result.inputs.push_back(input);
    }
  }
  AddTellers(graph, CollectSymbols(graph, segment), result.inputs);
  for (ValueId output : graph.outputs()) needed[output.index] = true;
  for (NodeId id : graph.nodes()) {
    if (in_segment[id.index]) continue;
    for (ValueId input : graph.node(id).inputs) {
      if (input.valid()) needed[input.index] = true;
    }
  }
  for (NodeId id : segment.nodes) {
    for (ValueId output : graph.node(id).outputs) {
      if (needed[output.index]) result.outputs.push_back(output);
    }
  }
  return result;
}

ExtractedSegment ExtractSegment(const Graph& graph, const Segment& segment) {
  Boundary boundary = FindBoundary(graph, segment);
  ExtractedSegment result;
  result.graph.name = graph.name;
  std::set<std::string> symbols = CollectSymbols(graph, segment);
  for (const SymbolRange& symbol : graph.symbols) {
    if (symbols.contains(symbol.name)) result.graph.symbols.push_back(symbol);
  }
  std::vector<ValueId> map(graph.num_values());
  for (ValueId input : boundary.inputs) {
    const Value& value = graph.value(input);
    std::string name = value.name.empty() ? fmt::format("v{}", input.index) : value.name;
    map[input.index] = result.graph.AddInput(name, value.type);
  }
  for (NodeId id : segment.nodes) {
    for (ValueId input : graph.node(id).inputs) {
      if (!input.valid() || !graph.IsConstant(input) || map[input.index].valid()) continue;
      const Value& value = graph.value(input);
      map[input.index] = value.kind == ValueKind::kWeight
                             ? result.graph.AddWeight(value.name, value.type, value.data)
                             : result.graph.AddLiteral(value.type, value.data);
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
  std::vector<ValueId> outputs;
  for (ValueId output : boundary.outputs) outputs.push_back(map[output.index]);
  result.graph.SetOutputs(std::move(outputs));
  result.inputs = std::move(boundary.inputs);
  result.outputs = std::move(boundary.outputs);
  return result;
}

}  // namespace stator
