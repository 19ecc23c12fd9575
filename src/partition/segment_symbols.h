// The symbolic sizes of a segment.
//
// In:  a graph and a segment extracted from it. Out: the segment with just the symbols that its
// sizes depend on, and an input that tells the value of each.
#pragma once

#include "partition/partition.h"

namespace stator {

// Where no input of the segment tells a symbol (base/told_symbol.h), an input of the outer graph
// that does is added, for its sizes alone. Raises Unsupported, naming the symbol, when none does.
void AddSymbols(const Graph& graph, ExtractedSegment& segment);

}  // namespace stator
