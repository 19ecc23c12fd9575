// Verify: the invariants of a Graph, checked after each pass.
//
//  1. Every value is defined before its uses, in node order; inputs, constants and outputs exist.
//  2. Every node fits its op's schema, and its output dtypes and dims are what the op's rule
//  infers.
//  3. Every order is a permutation of the dims, and dims are >= 0 or symbolic over declared
//  symbols.
//  4. A kernel's body verifies, and its inputs and outputs have the kernel's types.
//  5. Literals hold exactly the bytes of their type.
#pragma once

#include "ir/graph.h"

namespace stator {

// Raises Internal naming the node and the invariant.
void VerifyGraph(const Graph& graph);

}  // namespace stator
