// Report: what became of a graph, for a person as text and for programs as JSON.
//
// In:  an imported graph and its partitioning; later, what the build of each segment added.
// Out: coverage, the segments in the order they run with what goes in and out, a reason and the
//      user's file:line for each node left to torch, and what other values of min_block_size would
//      give. An "op" here is a node of the FX graph that computes something.
// Invariant: the same for a dry run and a build, but for the times of the stages.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "partition/partition.h"
#include "passes/pipeline.h"

namespace stator {

struct StageTime {
  std::string name;
  double ms = 0;
  std::vector<PassTime> passes;  // of stage "passes": one per name, in order of first run
};

// A tensor that crosses the border of a graph or of a segment.
struct ReportTensor {
  std::string name;  // of the graph's input, or the FX name
  TensorType type;
};

struct ReportSegment {
  bool engine = false;
  int num_ops = 0;
  std::map<std::string, int> ops;             // by ATen overload
  std::vector<ReportTensor> inputs, outputs;  // constants excepted
};

// What a min_block_size gives.
struct BlockSizeChoice {
  int min_block_size = 1;
  int num_engines = 0;
  int num_nodes_in_engines = 0;
};

struct Report {
  std::string graph;  // its name
  std::vector<ReportTensor> inputs, outputs;
  std::vector<SymbolRange> symbols;
  int num_nodes = 0;
  int num_supported = 0;  // nodes that an engine could run
  int num_nodes_in_engines = 0;
  std::vector<ReportSegment> segments;
  std::vector<Fallback> fallbacks;
  std::vector<BlockSizeChoice> choices;         // by rising min_block_size
  std::map<std::string, std::string> settings;  // as the user would write them
  bool dryrun = false;                          // nothing was built
  std::vector<StageTime> stages;

  // Fills in all that a partitioning tells; `options` made it.
  void Describe(const Graph& graph, const Partitioning& partitioning,
                const PartitionOptions& options);
};

// A tensor's own name (an input's, or its FX name), or "%<id>"; "weight:<name>" for a weight.
// Unique: own names are identifiers, as FX names are.
std::string NameOf(const Graph& graph, ValueId id);

std::string ReportToText(const Report& report);

// {"graph": {"name", "inputs": [tensor], "outputs": [tensor], "symbols": {name: [min, max]}},
// "num_nodes", "num_supported", "num_nodes_in_engines", "coverage" (supported / nodes),
// "segments": [{"kind": "engine"|"torch", "num_ops", "ops": {overload: count}, "inputs",
// "outputs"}], "fallbacks": [{"node", "op", "location", "reason", "supported"}], "num_engines",
// "ops_per_engine": {"average", "most"}, "min_block_size": [{"min_block_size", "num_engines",
// "num_nodes_in_engines"}], "settings": {name: text}, "dryrun", "stages": [{"name", "ms", "passes":
// [{"name", "ms", "rewrites"}]}]}, where a tensor is {"name", "dtype": "f32", "shape": [4, "s0"]}.
std::string ReportToJson(const Report& report);

}  // namespace stator
