// Random graphs drawn from the op table.
//
// In:  a seed, which decides everything.
// Out: a graph that verifies.
#pragma once

#include <cstdint>

#include "ir/graph.h"

namespace stator {

// float32 in the manner of models alone (products with weights, convolutions with batch norm,
// norms, attention), of static sizes; takes any inputs.
Graph MakeModelGraph(uint64_t seed);

// Every row of the table, on every dtype that it takes, with broadcasting, sizes of 0 and 1, views,
// symbolic sizes, several outputs. It can be evaluated on ops/draw.h's content of the same seed,
// with symbols of 2, and few of its values are out of the ordinary there: each node is evaluated
// when it is drawn, and left out when it fails or makes too large numbers.
Graph MakeAnyGraph(uint64_t seed);

}  // namespace stator
