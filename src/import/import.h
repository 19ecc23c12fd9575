// Import: a graph in the PyTorch export schema becomes a Graph.
//
// In:  the JSON of `torch.export`'s schema (torch/_export/serde/schema.py, major version 8), either
//      written by our Python package for a graph that AOTAutograd traced, or `models/model.json` of
//      a `.pt2` archive; and where the weights' bytes are.
// Out: a Graph with every ATen node as ops of our table; a node that cannot be expressed becomes an
//      opaque `torch` node whose attribute `reason` says why. In-place ops are functionalised.
// Errors: CorruptFile for JSON that breaks the schema, VersionMismatch for another major version,
//      Unsupported for a mutation of a tensor whose aliases cannot be followed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace stator {

// Bytes of weights, buffers and lifted constants by the name of their graph input ("arg1_1",
// "p_fc_weight"): the signature says which inputs are weights, and each one's own name.
using WeightData = std::map<std::string, ConstantData, std::less<>>;

// One tensor that an FX node reads or writes: its FX name and its value. Sizes (sym_int) and
// tensors that only torch holds have an invalid id.
struct ImportedTensor {
  std::string name;
  ValueId value;
};

// One FX node, in the order of the FX graph.
struct ImportedNode {
  std::string name;           // "addmm_3"
  std::string target;         // "aten.addmm.default"
  std::string location;       // "nn/functional.py:41", or empty
  bool opaque = false;        // became a `torch` node
  std::vector<NodeId> nodes;  // what it became; empty for views that vanish and for sizes
  std::vector<ImportedTensor> inputs, outputs;
};

// One input of the program, in order.
struct ImportedInput {
  enum class Kind {
    kTensor,    // an input of the Graph
    kWeight,    // a weight of the Graph, if anything reads it
    kState,     // a buffer or parameter that the program mutates: an input of the Graph
    kSize,      // a sym_int; an input of the Graph, bool[size, 0], if no tensor tells its symbol
    kConstant,  // a Python value that was fixed when the program was traced
    kOther,     // what only torch understands: a script object, an effect token
  };
  std::string name;  // of the graph input ("x", "p_fc_weight")
  Kind kind = Kind::kTensor;
  std::string weight;  // kWeight, kState: its name in the module ("fc.weight")
  ValueId value;       // of the Graph; kSize: may be invalid
  Dim size;            // kSize
  ConstantData data;   // kState: the initial content, if given
};

// One output of the program, in order: what the module returns, and before that the new contents of
// buffers and inputs that it mutates. Those with a valid `value` are the outputs of the Graph.
struct ImportedOutput {
  std::string name;         // its FX name; empty for a constant
  ValueId value;            // a tensor
  std::optional<Dim> size;  // a sym_int
  std::string constant;     // a Python value fixed at tracing, as JSON ("null", "5")
  std::string mutates;      // the graph input that takes this value after the call, or empty
};

struct ImportedGraph {
  Graph graph;
  std::vector<ImportedInput> inputs;
  std::vector<ImportedOutput> outputs;
  std::vector<ImportedNode> nodes;
  std::map<std::string, ValueId, std::less<>> values;  // every FX name of a tensor
  std::map<std::string, Dim, std::less<>> sizes;       // every FX name of a sym_int
  // How values lie in memory in torch, where that is densely and not row-major.
  std::map<ValueId, DimOrder> orders;
  SymbolValues hints;  // the symbols' values in the example that torch traced, where it says
};

// `json` is the whole document ({"graph_module": ..., "schema_version": ...}). Weights without an
// entry in `weights` keep empty data.
ImportedGraph ImportExportedProgram(std::string_view json, const WeightData& weights);

// Reads a `.pt2` archive (docs/design.md §1): maps the file, never unpickles, uses weights in
// place.
ImportedGraph ImportArchive(const std::string& path);

}  // namespace stator
