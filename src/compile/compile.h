// The compiler's front door: a Graph in, parts that a caller can run in order out.
//
// In:  an imported Graph (src/import) and options.
// Out: parts in execution order. An engine part is a Plan; a torch part lists nodes, by their FX names,
//      that the caller runs in torch. Parts refer to each other's values by name.
// Invariant: nothing a user's model can contain makes Compile raise, except options that ask for it;
// what cannot be compiled becomes a torch part with a reason.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "plan/plan.h"

namespace stator {

struct CompileOptions {
  int min_block_size = 1;                     // fewest supported ops per engine
  std::set<std::string> torch_executed_ops;   // ATen overloads or packets left to torch: "aten.sub"
  bool pass_through_build_failures = false;   // raise, instead of leaving the segment to torch
  int optimization_level = 3;                 // 0: first valid tactic, no timing ... 5: time them all
  std::string stop_after, start_at;           // stage names of the CLI; empty: the whole line
  std::string timing_cache;                   // file of measured tactics; empty: none
};

// One node left to torch, and why.
struct Fallback {
  std::string node;      // FX name
  std::string op;        // "aten.sort.default"
  std::string location;  // "model.py:41"
  std::string reason;
};

struct Part {
  std::shared_ptr<const Plan> plan;        // null: a torch part
  std::vector<std::string> inputs;         // names of values made by earlier parts or graph inputs
  std::vector<std::string> outputs;        // names of values that later parts or the caller read
  std::vector<std::string> nodes;          // FX names of the nodes this part covers
};

struct StageTime {
  std::string name;
  double ms = 0;
};

struct CompiledModule {
  std::vector<Part> parts;
  std::vector<std::string> outputs;  // names of the values the graph returns, in order
  std::vector<Fallback> fallbacks;
  int num_nodes = 0;            // ATen nodes of the imported graph
  int num_nodes_in_engines = 0;
  std::vector<StageTime> stages;
};

CompiledModule Compile(Graph graph, const CompileOptions& options);

// The report as JSON: {"parts": [{"kind": "engine"|"torch", "inputs", "outputs", "nodes"}], "outputs",
// "fallbacks": [{"node", "op", "location", "reason"}], "num_nodes", "num_nodes_in_engines", "stages"}.
std::string ReportToJson(const CompiledModule& module);

}  // namespace stator
