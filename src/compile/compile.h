// The compiler's front door: an imported graph in, parts that a caller can run in order out.
//
// In:  an ImportedGraph (src/import) and options.
// Out: parts in execution order. An engine part is a Plan; a torch part lists nodes, by their FX
// names,
//      that the caller runs in torch. Parts refer to values by their names in the graph.
// Invariant: nothing a user's model can contain makes Compile raise, except options that ask for
// it; what cannot be compiled becomes a torch part with a reason.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/dim.h"
#include "compile/reference_graph.h"
#include "compile/report.h"
#include "import/import.h"
#include "ir/graph.h"
#include "partition/partition.h"
#include "plan/plan.h"
#include "select/select.h"

namespace stator {

struct CompileOptions {
  std::string device = "cpu";  // compile/target.h
  int min_block_size = 1;  // fewest supported FX nodes per engine; kInfiniteBlockSize: no engine
  bool use_fast_partitioner = true;  // src/partition/partition.h
  bool use_cost_model = true;  // leave to torch what an engine would slow down (partition/cost.h)
  std::set<std::string> torch_executed_ops;  // ATen overloads or packets left to torch: "aten.sub"
  bool pass_through_build_failures = false;  // raise, instead of leaving the segment to torch
  int optimization_level = 3;  // 0: first valid tactic, no timing ... 5: time them all
  uint64_t tactic_seed = 0;    // select/select.h
  std::string timing_cache;    // file of measured tactics; empty: none
  std::string cache_folder;    // of engines (compile/engine_cache.h); empty: none
  bool dryrun = false;         // build nothing: parts say what would be an engine, without a plan
  std::map<std::string, std::string> settings;  // what the user chose, for the report
  // The sizes to choose tactics at, by symbol; the imported graph's own, or a guess, for others.
  SymbolValues hints;
  int num_avg_timing_iters = 1;  // runs that each measured time averages
  // Most streams beside the caller's, where the device has streams; none: the target's choice.
  std::optional<int> max_aux_streams;
  Narrowing narrowing;  // types to compute in, where they are not the graph's
  TacticLimits limits;
  bool reference_graphs = false;  // give each engine part its graph for the reference kernels
  // The first stage to run: "passes"; or "fuse" or "emit", for a graph that the ones before made.
  std::string start_at = "passes";
};

struct Part {
  std::shared_ptr<const Plan> plan;         // null: torch runs the nodes
  std::vector<std::string> inputs;          // engine: values that the plan's inputs take, in order
  std::vector<std::string> outputs;         // engine: values that the plan's outputs make, in order
  std::vector<std::string> nodes;           // FX names of the nodes this part covers, in order
  std::string cache;                        // engine: "hit", "miss: <reason>" or "off: <reason>"
  std::optional<ReferenceGraph> reference;  // engine, where asked for
};

struct CompiledModule {
  std::vector<Part> parts;
  // The value that each FX tensor name stands for: several names may share one.
  std::map<std::string, std::string> values;
  std::vector<std::string> outputs;  // names of the values the graph returns, in order
  Report report;
};

CompiledModule Compile(const ImportedGraph& imported, const CompileOptions& options);

// What Compile would make of a graph: the report of a dry run.
Report MakeDryRunReport(const ImportedGraph& imported, CompileOptions options);

// Compiles a whole graph into one plan; raises Unsupported, naming the node, when part of it is
// left to torch. `stages` may be null.
std::shared_ptr<const Plan> CompileGraph(Graph graph, const CompileOptions& options,
                                         std::vector<StageTime>* stages = nullptr);

// The text of a graph after a stage: "passes", "fuse", or a Plan's text after "emit".
std::string CompileGraphUntil(Graph graph, const CompileOptions& options, std::string_view stage);

// How a caller runs the parts, as JSON: {"parts": [{"kind": "engine"|"torch", "inputs", "outputs",
// "nodes", "cache"}], "values", "outputs"}, beside the members of ReportToJson (compile/report.h).
std::string ModuleToJson(const CompiledModule& module);

}  // namespace stator
