// A graph, the content of its leaves and what the reference kernels make of it, for a program in
// another language to check: test/fuzz/torch_check.py.
//
// Format, per case: a line of JSON
//   {"name", "graph": its text, "values": {index: [dtype, [sizes]]}, "leaves": [index],
//    "nodes": [{"op", "inputs": [index, -1 for an absent one], "attrs", "outputs": [index]}],
//    "outputs": [index], "bytes": how many follow the line}
// then the bytes of the leaves, of the expected outputs, and of the bound of each output element as
// float64 (tools/judge.h), all dense and row-major. Symbols stand for sizes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "ir/graph.h"

namespace stator {

// Writes nothing, and answers false, for a graph that the reference kernels cannot evaluate on
// ops/draw.h's content.
bool WriteCase(const Graph& graph, const std::string& name, uint64_t seed, int num_samples,
               std::FILE* file);

}  // namespace stator
