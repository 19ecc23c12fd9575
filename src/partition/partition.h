// Partition: which nodes an engine runs, and a reason for each one left to torch.
//
// In:  an imported graph, whose nodes carry in `origin.name` the FX node they came from.
// Out: segments in an order in which they can run; a segment is run whole, either by one engine or
// by
//      torch. All nodes of one FX node stay together, since torch can only run it whole.
// Invariants: every node is in just one segment; a segment reads only graph inputs, constants and
// outputs of earlier segments (so it is convex).
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace stator {

// One node left to torch, and why.
struct Fallback {
  std::string node;      // FX name
  std::string op;        // "aten.sort.default", or the op's name in our table
  std::string location;  // "model.py:41"
  std::string reason;
};

struct Segment {
  bool engine = false;
  std::vector<NodeId> nodes;  // in graph order
  int num_ops = 0;            // FX nodes covered
};

struct PartitionOptions {
  int min_block_size = 1;  // engines of fewer FX nodes are left to torch
  std::set<std::string>
      torch_executed_ops;  // "aten.sub.Tensor", "aten.sub", or a name of our table
  std::map<std::string, std::string> targets;  // FX name -> "aten.sub.Tensor", where known
  // Why the target cannot run a node, or empty when it can.
  std::function<std::string(const Graph&, const Node&)> find_reason;
};

struct Partitioning {
  std::vector<Segment> segments;
  std::vector<Fallback> fallbacks;  // in graph order
};

// Gives each FX node a level: the number of changes between engine and torch on the longest way to
// it. Nodes of one kind and level form a segment, which is the fewest segments that any schedule of
// the levels can have.
Partitioning PartitionGraph(const Graph& graph, const PartitionOptions& options);

// A segment as a graph of its own.
struct ExtractedSegment {
  Graph graph;
  std::vector<ValueId> inputs;   // values of the outer graph, in the order of graph.inputs()
  std::vector<ValueId> outputs;  // values of the outer graph, in the order of graph.outputs()
};
ExtractedSegment ExtractSegment(const Graph& graph, const Segment& segment);

}  // namespace stator
