#include "import/schema/schema.h"

#include <cstdlib>

#include "import/schema/json.h"
#include "import/schema/sympy.h"

namespace stator::schema {
namespace {

constexpr int kMaxRank = 64;
constexpr int kMaxGraphDepth = 8;

using Kind = Argument::Kind;

GraphDef ParseGraphDef(const JsonRef& json, int depth);

SymInt ParseSymInt(const JsonRef& json) {
  auto [kind, value] = json.GetUnion();
  SymInt size;
  if (kind == "as_int") {
    int64_t integer = value.GetInt();
    if (integer > kMaxSize || integer < -kMaxSize) {
      size.unknown = std::to_string(integer);
    } else {
      size.dim = integer;
    }
  } else if (kind == "as_expr") {
    std::string text = value.Get("expr_str").GetString();
    if (std::optional<Dim> dim = FindSympyDim(text)) {
      size.dim = *dim;
    } else {
      size.unknown = text;
    }
    JsonRef hint = value.Find("hint");
    if (!hint.is_null() && hint.GetUnion().first == "as_int") {
      size.hint = hint.GetUnion().second.GetInt();
    }
  } else {
    json.Corrupt("unknown kind of size `{}`", kind);
  }
  return size;
}

Argument::Size ParseSizeArgument(const JsonRef& json) {
  auto [kind, value] = json.GetUnion();
  if (kind == "as_int") return {.integer = value.GetInt(), .name = {}};
  if (kind == "as_name") return {.integer = 0, .name = value.GetString()};
  json.Corrupt("unknown kind of sym_int `{}`", kind);
}

std::string ParseTensorName(const JsonRef& json) { return json.Get("name").GetString(); }

std::string ParseOptionalTensor(const JsonRef& json) {
  auto [kind, value] = json.GetUnion();
  return kind == "as_tensor" ? ParseTensorName(value) : std::string();
}

// Names of all tensors in a kind of argument that has no fields of its own here.
void CollectTensors(const Json& json, std::vector<std::string>& names, int depth = 0) {
  if (depth > kMaxRank) return;
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      if (key == "as_tensor" && value.is_object() && value.contains("name") &&
          value["name"].is_string()) {
        names.push_back(value["name"].get<std::string>());
      } else {
        CollectTensors(value, names, depth + 1);
      }
    }
  } else if (json.is_array()) {
    for (const Json& element : json) CollectTensors(element, names, depth + 1);
  }
}

using ParseValue = void (*)(const JsonRef& value, Argument& arg, int depth);

struct ArgumentParser {
  std::string_view key;
  Kind kind;
  ParseValue parse;
};

void ParseInteger(const JsonRef& value, Argument& arg, int) { arg.integer = value.GetInt(); }
void ParseName(const JsonRef& value, Argument& arg, int) { arg.name = value.GetString(); }

constexpr ArgumentParser kArgumentParsers[] = {
    {"as_none", Kind::kNone, [](const JsonRef&, Argument&, int) {}},
    {"as_tensor", Kind::kTensor,
     [](const JsonRef& v, Argument& a, int) { a.name = ParseTensorName(v); }},
    {"as_optional_tensor", Kind::kTensor,
     [](const JsonRef& v, Argument& a, int) {
       a.name = ParseOptionalTensor(v);
       if (a.name.empty()) a.kind = Kind::kNone;
     }},
    {"as_tensors", Kind::kTensors,
     [](const JsonRef& v, Argument& a, int) {
       v.ForEach([&](const JsonRef& e) { a.names.push_back(ParseTensorName(e)); });
     }},
    {"as_optional_tensors", Kind::kTensors,
     [](const JsonRef& v, Argument& a, int) {
       v.ForEach([&](const JsonRef& e) { a.names.push_back(ParseOptionalTensor(e)); });
     }},
    {"as_int", Kind::kInt, ParseInteger},
    {"as_ints", Kind::kInts,
     [](const JsonRef& v, Argument& a, int) {
       v.ForEach([&](const JsonRef& e) { a.sizes.push_back({.integer = e.GetInt(), .name = {}}); });
     }},
    {"as_float", Kind::kFloat, [](const JsonRef& v, Argument& a, int) { a.number = v.GetFloat(); }},
    {"as_floats", Kind::kFloats,
     [](const JsonRef& v, Argument& a, int) {
       v.ForEach([&](const JsonRef& e) { a.numbers.push_back(e.GetFloat()); });
     }},
    {"as_bool", Kind::kBool, [](const JsonRef& v, Argument& a, int) { a.integer = v.GetBool(); }},
    {"as_bools", Kind::kBools,
     [](const JsonRef& v, Argument& a, int) {
       v.ForEach(
           [&](const JsonRef& e) { a.sizes.push_back({.integer = e.GetBool(), .name = {}}); });
     }},
    {"as_string", Kind::kString, ParseName},
    {"as_sym_int", Kind::kSymInt,
     [](const JsonRef& v, Argument& a, int) { a.sizes.push_back(ParseSizeArgument(v)); }},
    {"as_sym_ints", Kind::kSymInts,
     [](const JsonRef& v, Argument& a, int) {
       v.ForEach([&](const JsonRef& e) { a.sizes.push_back(ParseSizeArgument(e)); });
     }},
    {"as_scalar_type", Kind::kScalarType, ParseInteger},
    {"as_memory_format", Kind::kMemoryFormat, ParseInteger},
    {"as_layout", Kind::kLayout, ParseInteger},
    {"as_device", Kind::kDevice,
     [](const JsonRef& v, Argument& a, int) {
       a.name = v.Get("type").GetString();
       JsonRef index = v.Find("index");
       a.integer = index.is_null() ? -1 : index.GetInt();
     }},
    {"as_graph", Kind::kGraph,
     [](const JsonRef& v, Argument& a, int depth) {
       if (depth >= kMaxGraphDepth) v.Corrupt("graphs are nested too deeply");
       a.graph = std::make_shared<GraphDef>(ParseGraphDef(v.Get("graph"), depth + 1));
     }},
};

Argument ParseArgument(const JsonRef& json, int depth) {
  auto [key, value] = json.GetUnion();
  Argument arg;
  for (const ArgumentParser& parser : kArgumentParsers) {
    if (parser.key != key) continue;
    arg.kind = parser.kind;
    parser.parse(value, arg, depth);
    return arg;
  }
  arg.kind = Kind::kOther;
  arg.name = key;
  CollectTensors(value.json(), arg.names);
  return arg;
}

Node ParseNode(const JsonRef& json, int depth) {
  Node node;
  node.target = json.Get("target").GetString();
  json.Get("inputs").ForEach([&](const JsonRef& input) {
    node.inputs.push_back({input.Get("name").GetString(), ParseArgument(input.Get("arg"), depth)});
  });
  json.Get("outputs").ForEach(
      [&](const JsonRef& output) { node.outputs.push_back(ParseArgument(output, depth)); });
  JsonRef metadata = json.Find("metadata");
  if (!metadata.is_null()) {
    JsonRef trace = metadata.Find("stack_trace");
    if (!trace.is_null()) node.stack_trace = trace.GetString();
  }
  // Older files lack names: a node with one output is named as that.
  JsonRef name = json.Find("name");
  if (!name.is_null()) {
    node.name = name.GetString();
  } else if (!node.outputs.empty()) {
    const Argument& output = node.outputs[0];
    node.name = output.name.empty() && !output.names.empty() ? output.names[0] : output.name;
  }
  return node;
}

GraphDef ParseGraphDef(const JsonRef& json, int depth) {
  GraphDef graph;
  auto parse_list = [&](std::string_view key, std::vector<Argument>& list) {
    json.Get(key).ForEach([&](const JsonRef& e) { list.push_back(ParseArgument(e, depth)); });
  };
  parse_list("inputs", graph.inputs);
  parse_list("outputs", graph.outputs);
  json.Get("nodes").ForEach([&](const JsonRef& e) { graph.nodes.push_back(ParseNode(e, depth)); });
  json.Get("tensor_values").ForEachMember([&](const std::string& name, const JsonRef& value) {
    graph.tensors[name] = ParseTensorMeta(value.json(), value.place());
  });
  json.Get("sym_int_values").ForEachMember([&](const std::string& name, const JsonRef& value) {
    graph.sizes[name] = ParseSymInt(value);
  });
  return graph;
}

InputSpec ParseInputSpec(const JsonRef& json) {
  auto [kind, value] = json.GetUnion();
  InputSpec spec;
  auto weight = [&](std::string_view key) {
    spec.kind = InputSpec::Kind::kWeight;
    spec.arg.kind = Kind::kTensor;
    spec.arg.name = ParseTensorName(value.Get("arg"));
    spec.weight = value.Get(key).GetString();
  };
  if (kind == "user_input") {
    spec.arg = ParseArgument(value.Get("arg"), 0);
  } else if (kind == "parameter") {
    weight("parameter_name");
  } else if (kind == "buffer") {
    weight("buffer_name");
  } else if (kind == "tensor_constant") {
    weight("tensor_constant_name");
  } else if (kind == "constant_input") {
    spec.kind = InputSpec::Kind::kConstant;
    spec.name = value.Get("name").GetString();
  } else {
    spec.kind = InputSpec::Kind::kOther;
    spec.name = kind;
  }
  return spec;
}

OutputSpec ParseOutputSpec(const JsonRef& json) {
  auto [kind, value] = json.GetUnion();
  OutputSpec spec;
  auto mutation = [&](std::string_view key, std::string& target) {
    spec.arg.kind = Kind::kTensor;
    spec.arg.name = ParseTensorName(value.Get("arg"));
    target = value.Get(key).GetString();
  };
  if (kind == "buffer_mutation") {
    mutation("buffer_name", spec.mutates_weight);
  } else if (kind == "parameter_mutation") {
    mutation("parameter_name", spec.mutates_weight);
  } else if (kind == "user_input_mutation") {
    mutation("user_input_name", spec.mutates_input);
  } else if (kind == "user_output") {
    JsonRef arg = value.Get("arg");
    spec.arg = ParseArgument(arg, 0);
    if (spec.arg.kind != Kind::kTensor && spec.arg.kind != Kind::kSymInt) {
      JsonRef constant = arg.GetUnion().second;
      if (!constant.json().is_primitive()) {
        Fail(ErrorKind::kUnsupported, "{}: an output that is neither a tensor nor a constant",
             arg.place());
      }
      spec.constant = spec.arg.kind == Kind::kNone ? "null" : constant.json().dump();
    }
  } else {
    json.Corrupt("an inference program cannot have an output of kind `{}`", kind);
  }
  return spec;
}

}  // namespace

std::optional<DType> FindScalarType(int scalar_type) {
  switch (scalar_type) {
    case 1: return DType::kUInt8;
    case 2: return DType::kInt8;
    case 3: return DType::kInt16;
    case 4: return DType::kInt32;
    case 5: return DType::kInt64;
    case 6: return DType::kFloat16;
    case 7: return DType::kFloat32;
    case 8: return DType::kFloat64;
    case 12: return DType::kBool;
    case 13: return DType::kBFloat16;
    default: return std::nullopt;
  }
}

std::string ScalarTypeName(int scalar_type) {
  switch (scalar_type) {
    case 9: return "complex32";
    case 10: return "complex64";
    case 11: return "complex128";
    case 28: return "uint16";
    case 29: return "float8_e4m3fn";
    case 30: return "float8_e5m2";
    case 31: return "float8_e4m3fnuz";
    case 32: return "float8_e5m2fnuz";
    case 33: return "float8_e8m0fnu";
    case 34: return "uint32";
    case 35: return "uint64";
    default: break;
  }
  if (std::optional<DType> dtype = FindScalarType(scalar_type)) {
    return std::string(DTypeName(*dtype));
  }
  return "scalar type " + std::to_string(scalar_type);
}

int64_t ScalarTypeSize(int scalar_type) {
  if (std::optional<DType> dtype = FindScalarType(scalar_type)) {
    return static_cast<int64_t>(DTypeSize(*dtype));
  }
  switch (scalar_type) {
    case 9: return 4;
    case 10: return 8;
    case 11: return 16;
    case 28: return 2;
    case 34: return 4;
    case 35: return 8;
    default: return 1;
  }
}

void ForEachTensor(const Argument& arg, const std::function<void(const std::string&)>& fn) {
  if (arg.kind == Kind::kTensor) fn(arg.name);
  for (const std::string& name : arg.names) {
    if (!name.empty()) fn(name);
  }
}

void ForEachSize(const Argument& arg, const std::function<void(const std::string&)>& fn) {
  for (const Argument::Size& size : arg.sizes) {
    if (!size.name.empty()) fn(size.name);
  }
}

TensorMeta ParseTensorMeta(const Json& document, const std::string& place) {
  JsonRef json(document, place);
  TensorMeta meta;
  meta.scalar_type = static_cast<int>(json.Get("dtype").GetIntIn(0, 255));
  meta.layout = static_cast<int>(json.Get("layout").GetIntIn(0, 255));
  JsonRef device = json.Get("device");
  meta.device = device.Get("type").GetString();
  JsonRef index = device.Find("index");
  meta.device_index = index.is_null() ? -1 : static_cast<int>(index.GetIntIn(-1, 1024));
  json.Get("sizes").ForEach([&](const JsonRef& e) {
    meta.sizes.push_back(ParseSymInt(e));
    const Dim& dim = meta.sizes.back().dim;
    if (dim.is_static() && dim.value() < 0) e.Corrupt("negative size {}", dim.value());
  });
  json.Get("strides").ForEach([&](const JsonRef& e) { meta.strides.push_back(ParseSymInt(e)); });
  JsonRef offset = json.Find("storage_offset");
  if (!offset.is_null()) meta.storage_offset = ParseSymInt(offset);
  if (meta.sizes.size() > kMaxRank) json.Corrupt("{} dims", meta.sizes.size());
  // The product of all sizes is used as 64-bit integer throughout.
  constexpr int64_t kMaxElements = int64_t{1} << 48;
  int64_t elements = 1;
  for (const SymInt& size : meta.sizes) {
    if (!size.dim.is_static() || !size.unknown.empty()) continue;
    if (__builtin_mul_overflow(elements, std::max<int64_t>(size.dim.value(), 1), &elements) ||
        elements > kMaxElements) {
      json.Corrupt("the tensor is too large");
    }
  }
  return meta;
}

// From the sizes that are a symbol alone.
static void CollectHints(Program& program) {
  auto add = [&](const SymInt& size) {
    std::set<std::string> symbols;
    size.dim.CollectSymbols(symbols);
    bool is_symbol = symbols.size() == 1 && size.dim == Dim::Symbol(*symbols.begin());
    if (is_symbol && size.hint) program.hints.emplace(*symbols.begin(), *size.hint);
  };
  for (const auto& [name, size] : program.graph.sizes) add(size);
  for (const auto& [name, meta] : program.graph.tensors) {
    for (const SymInt& size : meta.sizes) add(size);
  }
}

Program ParseProgram(std::string_view text) {
  Json document = ParseJson(text, "exported program");
  JsonRef json(document, "exported program");
  int64_t major = json.Get("schema_version").Get("major").GetInt();
  int64_t minor = json.Get("schema_version").Get("minor").GetInt();
  if (major != 8) {
    Fail(ErrorKind::kVersionMismatch,
         "export schema version {}.{} where 8.x is expected: save the program again with torch 2.8 "
         "or later",
         major, minor);
  }
  Program program;
  JsonRef module = json.Get("graph_module");
  program.graph = ParseGraphDef(module.Get("graph"), 0);
  JsonRef signature = module.Get("signature");
  signature.Get("input_specs").ForEach([&](const JsonRef& e) {
    program.inputs.push_back(ParseInputSpec(e));
  });
  signature.Get("output_specs").ForEach([&](const JsonRef& e) {
    program.outputs.push_back(ParseOutputSpec(e));
  });
  if (program.inputs.size() != program.graph.inputs.size()) {
    signature.Corrupt("{} input specs for {} graph inputs", program.inputs.size(),
                      program.graph.inputs.size());
  }
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    const Argument &spec = program.inputs[i].arg, &input = program.graph.inputs[i];
    if (spec.kind == Kind::kTensor && (input.kind != Kind::kTensor || input.name != spec.name)) {
      signature.Corrupt("input {} is not the graph's `{}`", i, spec.name);
    }
  }
  json.Get("range_constraints").ForEachMember([&](const std::string& name, const JsonRef& range) {
    RangeConstraint constraint;
    JsonRef min = range.Find("min_val"), max = range.Find("max_val");
    constraint.may_be_negative = min.is_null() || min.GetInt() < 0;
    if (!min.is_null()) constraint.min = std::max<int64_t>(min.GetInt(), 0);
    // A number below 0 is no size; nothing that has a size can hang on it.
    if (!max.is_null()) constraint.max = std::max<int64_t>(max.GetInt(), 0);
    if (constraint.min > constraint.max) range.Corrupt("an empty range");
    program.ranges[name] = constraint;
  });
  CollectHints(program);
  return program;
}

}  // namespace stator::schema
