// Import: a graph in the PyTorch export schema becomes a Graph.
//
// In:  the JSON of `torch.export`'s schema (torch/_export/serde/schema.py, major version 8), either
//      written by our Python package for a graph that AOTAutograd traced, or `models/model.json` of a
//      `.pt2` archive; and where the weights' bytes are.
// Out: a Graph with every ATen node as ops of our table; a node that cannot be expressed becomes an
//      opaque `torch` node whose attribute `reason` says why. Values keep their FX names.
// Errors: CorruptFile for JSON that breaks the schema, VersionMismatch for another major version.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace stator {

// Bytes of weights, buffers and lifted constants by the name of their graph input ("arg1_1",
// "p_fc_weight"): the signature says which inputs are weights, and each one's own name.
using WeightData = std::map<std::string, ConstantData, std::less<>>;

// `json` is the whole document ({"graph_module": ..., "schema_version": ...}). Weights without an entry
// in `weights` keep empty data.
Graph ImportExportedProgram(std::string_view json, const WeightData& weights);

// Reads a `.pt2` archive (docs/design.md §1): maps the file, never unpickles, uses weights in place.
Graph ImportArchive(const std::string& path);

}  // namespace stator
