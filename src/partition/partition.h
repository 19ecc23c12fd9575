// Partition: which nodes an engine runs, and a reason for each one left to torch.
//
// In:  an imported graph, whose nodes carry in `origin.name` the FX node they came from.
// Out: segments in an order in which they can run, each whole by one engine or by torch. All nodes
// of one FX node stay together, since torch can only run it whole.
// Invariants: every node is in just one segment; a segment reads only graph inputs, constants and
// outputs of earlier segments (so it is convex); nodes left to torch that draw random numbers, or
// may have side effects, keep their order.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "partition/cost.h"

namespace stator {

// One node left to torch, and why.
struct Fallback {
  std::string node;      // FX name
  std::string op;        // "aten.sort.default", or the op's name in our table
  std::string location;  // "model.py:41"
  std::string reason;
  bool supported = false;  // an engine could run it, but its segment is too small or costs too much
};

struct Segment {
  bool engine = false;
  std::vector<NodeId> nodes;  // in graph order
  int num_ops = 0;            // FX nodes covered
};

// As min_block_size: no engine at all.
inline constexpr int kInfiniteBlockSize = std::numeric_limits<int>::max();

struct PartitionOptions {
  int min_block_size = 1;  // engines of fewer FX nodes are left to torch
  bool use_fast_partitioner = true;
  std::set<std::string>
      torch_executed_ops;  // "aten.sub.Tensor", "aten.sub", or a name of our table
  std::map<std::string, std::string> targets;  // FX name -> "aten.sub.Tensor", where known
  // Why the target cannot run a node, or empty when it can.
  std::function<std::string(const Graph&, const Node&)> find_reason;
  std::optional<CostModel> cost;  // none: whatever an engine can run goes into one
};

struct Partitioning {
  std::vector<Segment> segments;
  std::vector<Fallback> fallbacks;  // in graph order
};

// Gives each FX node a stage: the number of changes from engine to torch on the longest way to it.
// In each stage torch's nodes run first, then those of one engine. No partitioning has fewer
// engines before min_block_size is applied, and no two of them can be merged: between the engines
// of two stages lies, by the definition of a stage, a node of torch that reads the one and feeds
// the other.
//
// Segments that are too small are left to torch, and the sweep is made again (the fast
// partitioner). The global one first lets nodes of such a segment that can wait move to a later
// engine, so that fewer are left to torch. In a graph that is parted at all, a segment of views
// alone is left to torch as well, which makes views without a copy.
//
// With a cost model, what an engine would only slow down is left to torch, too: a node for which it
// has no more than a reference kernel, if that costs more than parting the engine there; and, in a
// graph that is parted at all, a segment that torch runs in less time than an engine's call takes.
// What reads weights alone is neither: an engine computes it once.
Partitioning PartitionGraph(const Graph& graph, const PartitionOptions& options);

// The values that a segment takes from outside, constants excepted, in order of first use; after
// them, inputs of the graph that are read for their sizes alone, where these depend on symbols that
// the others do not tell. And the values it makes that a node outside or the graph's caller reads.
struct Boundary {
  std::vector<ValueId> inputs, outputs;
};
Boundary FindBoundary(const Graph& graph, const Segment& segment);

// The ATen overload that a node came from; where that is not known, the name in our table.
std::string FindOpName(const Node& node, const std::map<std::string, std::string>& targets);

// A segment as a graph of its own.
struct ExtractedSegment {
  Graph graph;
  std::vector<ValueId> inputs;   // values of the outer graph, in the order of graph.inputs()
  std::vector<ValueId> outputs;  // values of the outer graph, in the order of graph.outputs()
};
ExtractedSegment ExtractSegment(const Graph& graph, const Segment& segment);

}  // namespace stator
