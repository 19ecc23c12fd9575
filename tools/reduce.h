// Cuts a graph that shows a problem down to the least that still shows it.
//
// Delta debugging (Zeller & Hildebrandt 2002) on a graph. In turns, until nothing helps any more:
// outputs are dropped or taken from further up; a node's result becomes an input, a literal of what
// it was, or the node's own operand; symbols become sizes, sizes shrink, attributes and dtypes
// become plain ones.
#pragma once

#include <cstdint>
#include <functional>

#include "ir/graph.h"

namespace stator {

// Whether a graph shows the problem. Asked many times, of graphs that verify.
using Question = std::function<bool(const Graph&)>;

// `graph` shows the problem. `seed`: of the content (ops/draw.h) by which values become literals.
Graph ReduceGraph(const Graph& graph, const Question& fails, uint64_t seed);

}  // namespace stator
