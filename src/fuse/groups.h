// Groups: which nodes of a graph form one kernel.
//
// In:  a graph and the target's answers. Out: groups, each convex: no way leads out of a group and
// back.
#pragma once

#include <string>
#include <vector>

#include "fuse/fuse.h"
#include "ir/graph.h"

namespace stator {

struct Group {
  std::string kind;           // a kernel kind, or "view"
  std::vector<NodeId> nodes;  // in graph order
  Dims domain;                // dims over which a pointwise, rowwise or reduce group runs
};

std::vector<Group> FindGroups(const Graph& graph, const FuseOptions& options);

// The nodes as a graph of their own: inputs are the values from outside in order of first use (but
// single-element literals, which move inside), outputs the values read outside.
struct Body {
  Graph graph;
  std::vector<ValueId> inputs, outputs;  // values of the outer graph
};
Body MakeBody(const Graph& graph, const std::vector<NodeId>& nodes, std::string_view name);

}  // namespace stator
