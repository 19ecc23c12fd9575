// The straight line, from an imported graph to plans: read this file first.

#include "compile/compile.h"

#include <algorithm>
#include <list>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/knobs.h"
#include "base/log.h"
#include "base/version.h"
#include "compile/emit.h"
#include "compile/engine_cache.h"
#include "compile/place.h"
#include "compile/stage.h"
#include "compile/target.h"
#include "fuse/fuse.h"
#include "ir/op_def.h"
#include "ir/print.h"
#include "ops/evaluate.h"
#include "partition/segment_symbols.h"
#include "passes/pipeline.h"
#include "select/select.h"

namespace stator {
namespace {

// A value for each symbol: its hint, or a guess.
SymbolValues MakeHints(const Graph& graph, const CompileOptions& options) {
  constexpr int64_t kTypicalSize = 32;
  SymbolValues hints;
  for (const SymbolRange& symbol : graph.symbols) {
    auto it = options.hints.find(symbol.name);
    int64_t value = it != options.hints.end() ? it->second : kTypicalSize;
    hints[symbol.name] = std::clamp(value, symbol.min, symbol.max);
  }
  return hints;
}

// The site at these sizes; `kernel` takes the place of its kernel.
void ResolveSite(KernelSite& site, Node& kernel, const SymbolValues& symbols) {
  auto body = std::make_shared<Graph>(*kernel.body);
  ResolveSymbols(*body, symbols);
  kernel.body = std::move(body);
  site.kernel = &kernel;
  for (auto* tensors : {&site.inputs, &site.outputs}) {
    for (PlanTensor& tensor : *tensors) {
      tensor.offset = tensor.offset.Eval(symbols);
      site.is_example |= !IsStatic(tensor.dims);
      for (Dims* dims : {&tensor.dims, &tensor.strides}) {
        for (Dim& dim : *dims) dim = dim.Eval(symbols);
      }
    }
  }
}

// `hints`: one value per symbol. A tactic is chosen for these sizes and serves all.
std::vector<Tactic> SelectTactics(const Placement& placement, const TacticProvider& provider,
                                  const SymbolValues& hints, const SelectOptions& options) {
  std::vector<KernelSite> sites;
  std::list<Node> resolved;  // stay where they are
  for (const auto* steps : {&placement.prologue, &placement.steps}) {
    for (const PlacedStep& step : *steps) {
      if (step.kernel == nullptr) continue;  // a copy
      sites.push_back({.kernel = step.kernel, .inputs = step.inputs, .outputs = step.outputs});
      if (!hints.empty()) ResolveSite(sites.back(), resolved.emplace_back(*step.kernel), hints);
    }
  }
  return SelectTactics(sites, provider, options);
}

// The stages that a compilation may start at or stop after, in order.
int StageIndex(std::string_view name) {
  constexpr std::string_view kStages[] = {"passes", "fuse", "emit"};
  auto it = std::find(std::begin(kStages), std::end(kStages), name);
  if (it == std::end(kStages)) {
    Fail(ErrorKind::kInvalidArgument, "there is no stage `{}`: expected passes, fuse or emit",
         name);
  }
  return static_cast<int>(it - std::begin(kStages));
}

PassTarget PassTargetOf(std::string_view target) {
  if (!target.starts_with("cuda")) return PassTarget::kAny;
  return target.ends_with("sm_90a") ? PassTarget::kCudaWgmma : PassTarget::kCuda;
}

// passes -> fuse -> place -> select -> emit, for a graph of supported ops. `stop_after` names a
// stage whose text is wanted instead of a plan.
struct SegmentResult {
  std::shared_ptr<const Plan> plan;
  std::string text;
};
SegmentResult CompileSegment(Graph graph, const CompileOptions& options, TimingCache& cache,
                             StageGate& gate, std::string_view stop_after = {}) {
  const CompileTarget& target = GetTarget(options.device, options.limits);
  int first_stage = StageIndex(options.start_at);

  if (first_stage <= StageIndex("passes")) {
    std::vector<Pass> passes = AllPasses(options.narrowing, PassTargetOf(target.name));
    gate.Run(
        "passes", [&] { gate.AddPasses(RunPasses(graph, passes)); },
        [&] { return PrintGraph(graph); });
  }
  if (stop_after == "passes") return {.plan = nullptr, .text = PrintGraph(graph)};

  Graph kernels = graph;
  if (first_stage <= StageIndex("fuse")) {
    gate.Run(
        "fuse", [&] { kernels = Fuse(graph, {.can_run = target.can_run}); },
        [&] { return PrintGraph(kernels); });
  }
  if (stop_after == "fuse") return {.plan = nullptr, .text = PrintGraph(kernels)};

  Placement placement;
  gate.Run("place", [&] { placement = Place(kernels); });

  std::vector<Tactic> tactics;
  gate.Run("select", [&] {
    tactics = SelectTactics(placement, *target.tactics, MakeHints(kernels, options),
                            {.optimization_level = options.optimization_level,
                             .num_avg_timing_iters = options.num_avg_timing_iters,
                             .cache = &cache,
                             .tactic_seed = options.tactic_seed});
  });

  auto plan = std::make_shared<Plan>();
  gate.Run(
      "emit",
      [&] {
        *plan = Emit(kernels, std::move(placement), tactics, target.name);
        if (target.aux_streams) {
          plan->aux_streams = options.max_aux_streams.value_or(*target.aux_streams);
        }
      },
      [&] { return PlanToText(*plan); });
  if (target.finish) {
    gate.Run("codegen", [&] { target.finish(*plan, options.cache_folder); });
  }
  return {.plan = plan, .text = stop_after == "emit" ? PlanToText(*plan) : ""};
}

// Everything besides the graph that decides a segment's plan, one fact per line.
std::string DescribeContext(const CompileOptions& options) {
  // These settings decide what is a segment, or nothing of a plan; all others are in the key.
  const std::set<std::string_view> kElsewhere = {"cache",
                                                 "cache_dir",
                                                 "debug",
                                                 "dynamic_shapes",
                                                 "dryrun",
                                                 "min_block_size",
                                                 "pass_through_build_failures",
                                                 "freeze_weights",
                                                 "torch_executed_ops",
                                                 "use_fast_partitioner",
                                                 "verify"};
  std::string text =
      fmt::format("{}\nplan format {}\n{}\noptimization_level {}\nfuel {}\n", BuildName(),
                  kPlanVersion, GetTarget(options.device, options.limits).tactics->key(),
                  options.optimization_level, GetKnob("STATOR_FUEL"));
  text += fmt::format("tf32 {} {}\n", options.limits.tf32_matmul, options.limits.tf32_conv);
  for (const auto& [symbol, size] : options.hints) text += fmt::format("{} = {}\n", symbol, size);
  for (const auto& [name, value] : options.settings) {
    if (!kElsewhere.contains(name)) text += fmt::format("{} {}\n", name, value);
  }
  return text;
}

// The plan of a segment: from the cache, else compiled and kept there.
void BuildEngine(Graph graph, const CompileOptions& options, const EngineCache& engines,
                 TimingCache& timings, StageGate& gate, Part& part) {
  EngineKey key;
  gate.Run("cache", [&] {
    key = MakeEngineKey(graph, DescribeContext(options));
    CachedEngine found = engines.Find(key, graph);
    part.plan = found.plan;
    part.cache = found.status;
  });
  if (part.plan != nullptr) return;
  part.plan = CompileSegment(std::move(graph), options, timings, gate).plan;
  gate.Run("cache", [&] { engines.Store(key, *part.plan); });
}

PartitionOptions MakePartitionOptions(const CompileOptions& options) {
  const CompileTarget& target = GetTarget(options.device, options.limits);
  PartitionOptions result = {.min_block_size = options.min_block_size,
                             .use_fast_partitioner = options.use_fast_partitioner,
                             .torch_executed_ops = options.torch_executed_ops,
                             .targets = {},
                             .find_reason = target.find_reason,
                             .cost = {}};
  if (options.use_cost_model && target.is_reference) {
    result.cost = {.is_reference = target.is_reference, .sizes = options.hints};
  }
  return result;
}

// Where torch lays an output out in another order than row-major, the segment returns it permuted
// to that order. Returns the orders, one per output.
std::vector<DimOrder> PermuteOutputs(const ImportedGraph& imported, ExtractedSegment& segment) {
  Graph& graph = segment.graph;
  std::vector<ValueId> outputs(graph.outputs().begin(), graph.outputs().end());
  std::vector<DimOrder> orders(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    auto it = imported.orders.find(segment.outputs[i]);
    if (it == imported.orders.end()) continue;
    orders[i] = it->second;
    const Node* producer = graph.FindProducer(outputs[i]);
    NodeId permute = graph.AddNode(GetOp("permute"), {outputs[i]},
                                   {{"perm", Dims(orders[i].begin(), orders[i].end())}},
                                   producer != nullptr ? producer->origin : Origin{});
    ValueId permuted = graph.node(permute).outputs[0];
    std::swap(graph.mutable_value(permuted).name, graph.mutable_value(outputs[i]).name);
    outputs[i] = permuted;
  }
  graph.SetOutputs(std::move(outputs));
  return orders;
}

// The plan of a segment that PermuteOutputs changed, with the outputs' own dims again.
std::shared_ptr<const Plan> PermuteBack(std::shared_ptr<const Plan> plan,
                                        const std::vector<DimOrder>& orders) {
  auto result = std::make_shared<Plan>(*plan);
  for (size_t i = 0; i < orders.size(); ++i) {
    PlanPort& port = result->outputs[i];
    const PlanPort& from = plan->outputs[i];
    for (size_t k = 0; k < orders[i].size(); ++k) {
      port.dims[orders[i][k]] = from.dims[k];
      port.strides[orders[i][k]] = from.strides[k];
    }
  }
  return result;
}

// FX names of a segment's nodes, in order, once each.
std::vector<std::string> NodeNames(const Graph& graph, const Segment& segment) {
  std::vector<std::string> names;
  for (NodeId id : segment.nodes) {
    const std::string& name = graph.node(id).origin.name;
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  return names;
}

// The report of a segment whose build failed: torch runs it.
void ReportFailedBuild(const Graph& graph, const Segment& segment, const PartitionOptions& options,
                       const Error& error, size_t index, Report& report) {
  report.segments[index].engine = false;
  report.num_nodes_in_engines -= segment.num_ops;
  std::string last;
  for (NodeId id : segment.nodes) {
    const Node& node = graph.node(id);
    if (std::exchange(last, node.origin.name) == node.origin.name) continue;
    report.fallbacks.push_back({.node = node.origin.name,
                                .op = FindOpName(node, options.targets),
                                .location = node.origin.location,
                                .reason = std::string("build failed: ") + error.what(),
                                .supported = true});
  }
}

}  // namespace

CompiledModule Compile(const ImportedGraph& imported, const CompileOptions& given) {
  CompileOptions options = given;
  options.hints.insert(imported.hints.begin(), imported.hints.end());
  CompiledModule module;
  StageGate gate(module.report.stages);
  TimingCache cache(options.timing_cache);
  EngineCache engines(options.dryrun ? "" : options.cache_folder);
  const Graph& graph = imported.graph;

  PartitionOptions partition = MakePartitionOptions(options);
  for (const ImportedNode& node : imported.nodes) partition.targets[node.name] = node.target;
  Partitioning partitioning;
  gate.Run("partition", [&] {
    partitioning = PartitionGraph(graph, partition);
    module.report.Describe(graph, partitioning, partition);
  });
  module.report.settings = options.settings;
  module.report.dryrun = options.dryrun;
  for (size_t i = 0; i < partitioning.segments.size(); ++i) {
    const Segment& segment = partitioning.segments[i];
    Part part{.nodes = NodeNames(graph, segment)};
    if (segment.engine && !options.dryrun) {
      try {
        ExtractedSegment extracted = ExtractSegment(graph, segment);
        AddSymbols(graph, extracted);
        if (options.reference_graphs) {
          part.reference = MakeReferenceGraph(extracted.graph, options.narrowing);
        }
        std::vector<DimOrder> orders = PermuteOutputs(imported, extracted);
        BuildEngine(std::move(extracted.graph), options, engines, cache, gate, part);
        part.plan = PermuteBack(std::move(part.plan), orders);
        for (ValueId id : extracted.inputs) part.inputs.push_back(NameOf(graph, id));
        for (ValueId id : extracted.outputs) part.outputs.push_back(NameOf(graph, id));
      } catch (const Error& error) {
        if (options.pass_through_build_failures) throw;
        Log().warn("a segment of {} nodes is left to torch: {}", segment.num_ops, error.what());
        ReportFailedBuild(graph, segment, partition, error, i, module.report);
      }
    }
    module.parts.push_back(std::move(part));
  }
  for (const auto& [name, id] : imported.values) {
    if (id.valid()) module.values[name] = NameOf(graph, id);
  }
  for (ValueId id : graph.outputs()) module.outputs.push_back(NameOf(graph, id));
  cache.Save();
  return module;
}

Report MakeDryRunReport(const ImportedGraph& imported, CompileOptions options) {
  options.dryrun = true;
  return Compile(imported, options).report;
}

std::shared_ptr<const Plan> CompileGraph(Graph graph, const CompileOptions& options,
                                         std::vector<StageTime>* stages) {
  std::vector<StageTime> own_stages;
  StageGate gate(stages != nullptr ? *stages : own_stages);
  Partitioning partitioning;
  if (options.start_at == "passes") {  // later stages' graphs have no nodes for torch
    CompileOptions whole = options;
    whole.use_cost_model = false;
    partitioning = PartitionGraph(graph, MakePartitionOptions(whole));
  }
  if (!partitioning.fallbacks.empty()) {
    const Fallback& fallback = partitioning.fallbacks.front();
    throw Error(ErrorKind::kUnsupported,
                fmt::format("{} of the graph's nodes cannot run in an engine; the first is {}: {}",
                            partitioning.fallbacks.size(), fallback.op, fallback.reason),
                fallback.node + " " + fallback.location);
  }
  TimingCache cache(options.timing_cache);
  std::shared_ptr<const Plan> plan = CompileSegment(std::move(graph), options, cache, gate).plan;
  cache.Save();
  return plan;
}

std::string CompileGraphUntil(Graph graph, const CompileOptions& options, std::string_view stage) {
  if (StageIndex(stage) < StageIndex(options.start_at)) {
    Fail(ErrorKind::kInvalidArgument, "cannot stop after {}, which is before {}", stage,
         options.start_at);
  }
  std::vector<StageTime> stages;
  StageGate gate(stages);
  TimingCache cache(options.timing_cache);
  return CompileSegment(std::move(graph), options, cache, gate, stage).text;
}

std::string ModuleToJson(const CompiledModule& module) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(ReportToJson(module.report));
  json["parts"] = nlohmann::ordered_json::array();
  for (const Part& part : module.parts) {
    json["parts"].push_back({{"kind", part.plan ? "engine" : "torch"},
                             {"inputs", part.inputs},
                             {"outputs", part.outputs},
                             {"nodes", part.nodes},
                             {"cache", part.cache}});
    if (part.reference) {
      json["parts"].back()["graph"] = part.reference->text;
      json["parts"].back()["weights"] = part.reference->weights;
    }
  }
  json["values"] = module.values;
  json["outputs"] = module.outputs;
  return json.dump();
}

}  // namespace stator
