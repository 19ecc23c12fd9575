// EliminateDead: nodes whose outputs nobody reads go.
//
//   %0 = exp(%x)
//   %1 = neg(%x)            ->    %0 = exp(%x)
//   return %0                     return %0
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {

bool EliminateDead(Rewriter& rewriter) {
  const Graph& graph = rewriter.graph();
  std::vector<bool> read(graph.num_values(), false);
  for (ValueId output : graph.outputs()) read[output.index] = true;
  std::vector<NodeId> nodes = graph.nodes();
  bool changed = false;
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const Node& node = graph.node(*it);
    bool live = std::any_of(node.outputs.begin(), node.outputs.end(),
                            [&](ValueId output) { return read[output.index]; });
    rewriter.SetInsertionPoint(*it);
    if (!live && rewriter.Start()) {
      rewriter.Erase(*it);
      changed = true;
      continue;
    }
    for (ValueId input : node.inputs) {
      if (input.valid()) read[input.index] = true;
    }
  }
  return changed;
}

}  // namespace stator
