// The export schema as plain structs: what the importer needs of torch/_export/serde/schema.py.
//
// In:  JSON of an ExportedProgram (schema version 8.x).
// Out: structs with checked kinds; names of tensors are not resolved yet.
// Errors: CorruptFile naming the place in the document; VersionMismatch.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/dim.h"
#include "base/dtype.h"

namespace stator::schema {

// A size: a Dim, or sympy text that Dim cannot express.
struct SymInt {
  Dim dim;
  std::string unknown;          // the text, when `dim` says nothing
  std::optional<int64_t> hint;  // its value in the example that torch traced
};

struct TensorMeta {
  int scalar_type = 0;  // torch's ScalarType in the schema's numbering
  std::vector<SymInt> sizes, strides;
  SymInt storage_offset;
  std::string device;  // "cpu", "cuda"
  int device_index = -1;
  int layout = 0;
};

// The dtype for a ScalarType; empty for those that a TensorType cannot hold.
std::optional<DType> FindScalarType(int scalar_type);
std::string ScalarTypeName(int scalar_type);
// Bytes of one element; 1 for unknown types.
int64_t ScalarTypeSize(int scalar_type);
inline constexpr int kStridedLayout = 7;

struct GraphDef;

struct Argument {
  enum class Kind {
    kNone,
    kTensor,        // name
    kTensors,       // names; an empty one is an absent tensor
    kInt,           // integer
    kInts,          // sizes, all integers
    kFloat,         // number
    kFloats,        // numbers
    kBool,          // integer
    kBools,         // sizes
    kString,        // name
    kSymInt,        // sizes[0]
    kSymInts,       // sizes
    kScalarType,    // integer
    kMemoryFormat,  // integer
    kLayout,        // integer
    kDevice,        // name, integer (the index or -1)
    kGraph,         // graph
    kOther,         // name says what; names are the tensors inside
  };
  // An integer, or the name of a sym_int.
  struct Size {
    int64_t integer = 0;
    std::string name;
  };

  Kind kind = Kind::kNone;
  std::string name;
  std::vector<std::string> names;
  int64_t integer = 0;
  double number = 0;
  std::vector<double> numbers;
  std::vector<Size> sizes;
  std::shared_ptr<const GraphDef> graph;
};

// Calls fn for each name of a tensor, or of a sym_int, that the argument refers to.
void ForEachTensor(const Argument& arg, const std::function<void(const std::string&)>& fn);
void ForEachSize(const Argument& arg, const std::function<void(const std::string&)>& fn);

struct NamedArgument {
  std::string name;
  Argument arg;
};

struct Node {
  std::string name, target;
  std::vector<NamedArgument> inputs;
  std::vector<Argument> outputs;
  std::string stack_trace;
};

struct GraphDef {
  std::vector<Argument> inputs, outputs;
  std::vector<Node> nodes;
  std::map<std::string, TensorMeta, std::less<>> tensors;
  std::map<std::string, SymInt, std::less<>> sizes;
};

struct InputSpec {
  enum class Kind { kUser, kWeight, kConstant, kOther };
  Kind kind = Kind::kUser;
  Argument arg;        // kUser, kWeight
  std::string name;    // kConstant: of the graph input
  std::string weight;  // kWeight: parameter, buffer or constant name
};

struct OutputSpec {
  Argument arg;
  std::string constant;        // JSON of a constant that is returned
  std::string mutates_weight;  // name of the buffer or parameter that takes the value
  std::string mutates_input;   // name of the user input that takes the value
};

struct RangeConstraint {
  int64_t min = 0, max = INT64_MAX;  // as a size
  bool may_be_negative = false;      // as a number
};

struct Program {
  GraphDef graph;
  std::vector<InputSpec> inputs;
  std::vector<OutputSpec> outputs;
  std::map<std::string, RangeConstraint> ranges;
  SymbolValues hints;  // of symbols, in the example that torch traced
};

Program ParseProgram(std::string_view json);

// Reads one TensorMeta object; `place` names it in errors.
TensorMeta ParseTensorMeta(const nlohmann::json& json, const std::string& place);

}  // namespace stator::schema
