// The importer's walk over the FX graph: inputs, nodes, outputs (see import.cc).
#pragma once

#include <string>
#include <string_view>

#include "import/import.h"
#include "import/schema/schema.h"

namespace stator {

// Imports a parsed program. Weights that it mutates become inputs of the Graph.
ImportedGraph ImportProgram(schema::Program program, const WeightData& weights);

// Replaces nodes that only wrap a graph (torch.no_grad and disabled autocast regions) by the nodes
// of that graph.
void InlineWrappers(schema::Program& program);

// "modules/linear.py:134" for the innermost frame of an FX stack trace that is not torch's own, or
// else for the innermost one; empty when there is none.
std::string FindLocation(std::string_view stack_trace);

}  // namespace stator
