// Random content for the inputs and weights of a graph that is to be tested.
//
// In:  a tensor's name and a seed, which decide what kind of content it gets: small or large
//      numbers, whole ones, positive ones, indices.
// Out: the content; the same for the same name, type and seed, whatever else the graph holds, so
//      that a graph that is cut down keeps the content of what is left.
// Invariant: floats are finite, and moderate enough for a few dozen ops to stay in float16's range.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ops/tensor.h"

namespace stator {

HostTensor DrawTensor(std::string_view name, DType dtype, Sizes dims, uint64_t seed);

// One tensor per input.
std::vector<HostTensor> DrawInputs(const Graph& graph, const SymbolValues& symbols, uint64_t seed);

// Gives content to each weight that has none, as weights that were read from text have.
void DrawWeights(Graph& graph, uint64_t seed);

}  // namespace stator
