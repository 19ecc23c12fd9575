// What an engine computes, as text for the reference kernels (`use_python_runtime`).
//
// In:  a segment's graph, and the types to compute in. Out: the graph behind the passes, with its
//      weights as inputs: text knows no weight's content.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/pipeline.h"

namespace stator {

struct ReferenceGraph {
  std::string text;                  // its inputs are the segment's, then `weights`
  std::vector<std::string> weights;  // by their names in the module
};

ReferenceGraph MakeReferenceGraph(Graph graph, const Narrowing& narrowing);

}  // namespace stator
