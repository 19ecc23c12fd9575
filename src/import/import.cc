// The walk over an FX graph: each node becomes ops by its converter, or an opaque `torch` node.
//
// In:  a parsed program (schema.h).
// Out: a Graph in SSA; what became of each FX node, input and output.
// Invariant: a converted value has the dtype and sizes that torch recorded for it; a node whose
// conversion disagrees is left to torch whole, and what its converter had added is erased.
#include "import/import.h"

#include <algorithm>
#include <climits>
#include <functional>

#include "base/error.h"
#include "base/told_symbol.h"
#include "import/aliases.h"
#include "import/conversion.h"
#include "import/functionalize.h"
#include "import/importer.h"
#include "import/schema/metadata.h"
#include "import/schema/sympy.h"
#include "import/schema/target.h"
#include "import/sizes.h"
#include "ir/op_def.h"
#include "ir/rewriter.h"

namespace stator {
namespace {

// Characters of a symbolic number of elements. Plans hold sizes and strides twice as long.
constexpr size_t kMaxSizeText = 512;

// Why a call that no op of ours expresses is left to torch.
std::string DescribeForeign(const std::string& target) {
  if (target.starts_with("_c10d_functional")) return "a collective, which torch.distributed runs";
  if (target == "higher_order.cond" || target == "higher_order.while_loop" ||
      target == "higher_order.map_impl") {
    return "control flow: torch decides what runs next; its graphs are compiled by themselves";
  }
  return "no op of ours expresses " + target;
}

using schema::Argument;
using schema::TensorMeta;
using Kind = Argument::Kind;

class Importer {
 public:
  Importer(const schema::Program& program, const WeightData& weights,
           const std::set<std::string>& state_names)
      : program_(program),
        weights_(weights),
        state_names_(state_names),
        graph_(result_.graph),
        state_{.graph = graph_, .sizes = {}, .scalars = {}},
        metadata_(program.graph),
        sizes_(program, state_.sizes),
        names_(graph_, FindLastUses()) {}

  ImportedGraph Import() {
    for (size_t i = 0; i < program_.inputs.size(); ++i) {
      ImportInput(program_.inputs[i], program_.graph.inputs[i]);
    }
    for (ImportedInput& input : result_.inputs) AddCarrier(input);
    for (index_ = 0; index_ < static_cast<int>(program_.graph.nodes.size()); ++index_) {
      ImportNode(program_.graph.nodes[index_]);
    }
    ImportOutputs();
    std::erase_if(result_.orders, [](const auto& item) { return item.second.empty(); });
    AddSymbols();
    result_.sizes = state_.sizes;
    return std::move(result_);
  }

 private:
  std::map<std::string, int, std::less<>> FindLastUses() const {
    std::map<std::string, int, std::less<>> uses;
    int index = 0;
    for (const schema::Node& node : program_.graph.nodes) {
      for (const schema::NamedArgument& input : node.inputs) {
        ForEachTensor(input.arg, [&](const std::string& name) { uses[name] = index; });
      }
      ++index;
    }
    for (const schema::OutputSpec& output : program_.outputs) {
      ForEachTensor(output.arg, [&](const std::string& name) { uses[name] = INT_MAX; });
    }
    return uses;
  }

  // A value has the layout of its first name; row-major ones are kept until all are known.
  void NoteOrder(const std::string& name, ValueId value) {
    if (foreign_.contains(name)) return;
    std::optional<DimOrder> order = metadata_.FindOrder(name);
    if (order) result_.orders.emplace(value, *order);
  }

  void Bind(const std::string& name, ValueId value) {
    if (!result_.values.emplace(name, value).second) {
      Fail(ErrorKind::kCorruptFile, "tensor `{}` is defined twice", name);
    }
    Value& v = graph_.mutable_value(value);
    if (v.kind == ValueKind::kNode && v.name.empty()) v.name = name;
  }

  // ---- inputs
  void ImportInput(const schema::InputSpec& spec, const Argument& arg) {
    using SpecKind = schema::InputSpec::Kind;
    ImportedInput input;
    if (arg.kind == Kind::kTensor) {
      ImportTensorInput(spec, arg.name, input);
    } else if (arg.kind == Kind::kSymInt) {
      input.kind = ImportedInput::Kind::kSize;
      input.name = arg.sizes[0].name;
      if (!input.name.empty()) sizes_.Define(input.name);
      input.size = sizes_.Find(input.name).value_or(arg.sizes[0].integer);
    } else {
      bool constant = spec.kind == SpecKind::kConstant || arg.kind != Kind::kOther;
      input.kind = constant ? ImportedInput::Kind::kConstant : ImportedInput::Kind::kOther;
      input.name = spec.name;
    }
    result_.inputs.push_back(std::move(input));
  }

  void ImportTensorInput(const schema::InputSpec& spec, const std::string& name,
                         ImportedInput& input) {
    if (std::string reason = metadata_.FindReason(name); !reason.empty()) foreign_[name] = reason;
    TensorType type = metadata_.GetType(name);
    input.name = name;
    if (spec.kind == schema::InputSpec::Kind::kWeight) {
      input.weight = spec.weight;
      weight_inputs_[spec.weight] = name;
      ConstantData data = FindWeightData(name, spec.weight, type);
      bool state = state_names_.contains(name);
      input.kind = state ? ImportedInput::Kind::kState : ImportedInput::Kind::kWeight;
      input.value = state ? graph_.AddInput(name, type) : graph_.AddWeight(spec.weight, type, data);
      if (state) input.data = data;
    } else {
      input.value = graph_.AddInput(name, type);
    }
    Bind(name, input.value);
    names_.Define(name, input.value, /*input=*/true);
  }

  // A number whose symbol no tensor's sizes tell, and that may be one, becomes a tensor that tells
  // it: without elements, so that whoever calls makes it of the number at no cost.
  void AddCarrier(ImportedInput& input) {
    if (input.kind != ImportedInput::Kind::kSize) return;
    std::optional<std::string> symbol = FindToldSymbol(input.size);
    auto tells = [&](ValueId value) {
      const Dims& dims = graph_.type(value).dims;
      return std::ranges::any_of(dims, [&](const Dim& d) { return FindToldSymbol(d) == symbol; });
    };
    if (!symbol || Range(*symbol).may_be_negative) return;
    if (std::ranges::any_of(graph_.inputs(), tells)) return;
    input.value = graph_.AddInput(input.name, {.dtype = DType::kBool, .dims = {input.size, 0}});
    Bind(input.name, input.value);
  }

  ConstantData FindWeightData(const std::string& name, const std::string& weight,
                              const TensorType& type) const {
    if (!IsStatic(type.dims)) {
      Fail(ErrorKind::kCorruptFile, "weight `{}` has the symbolic size {}", weight,
           type.ToString());
    }
    auto it = weights_.find(name);
    if (it == weights_.end()) return {};
    size_t expected = type.num_elements().value() * DTypeSize(type.dtype);
    if (it->second.size != expected && !foreign_.contains(name)) {
      Fail(ErrorKind::kCorruptFile, "weight `{}` has {} bytes where {} needs {}", weight,
           it->second.size, type.ToString(), expected);
    }
    return it->second.size == expected ? it->second : ConstantData{};
  }

  // ---- nodes
  void ImportNode(const schema::Node& node) {
    ImportedNode imported;
    imported.name = node.name;
    imported.target = NormalizeTarget(node.target);
    imported.location = FindLocation(node.stack_trace);
    Origin origin{.name = imported.name, .location = imported.location};

    std::map<std::string, ValueId, std::less<>> tensors;
    std::string reason;
    for (const schema::NamedArgument& input : node.inputs) {
      ForEachTensor(input.arg, [&](const std::string& name) {
        NodeId last = LastNode();
        ValueId value = names_.Read(name, origin);
        for (NodeId id : NodesAfter(last)) imported.nodes.push_back(id);
        tensors[name] = value;
        imported.inputs.push_back({name, value});
        if (auto it = foreign_.find(name); it != foreign_.end()) reason = it->second;
      });
      ForEachSize(input.arg, [&](const std::string& name) {
        imported.inputs.push_back({name, ValueId{}});
      });
    }
    std::vector<std::string> outputs;
    for (const Argument& output : node.outputs) {
      ForEachTensor(output, [&](const std::string& name) { outputs.push_back(name); });
    }
    for (const std::string& name : outputs) {
      std::string why = metadata_.FindReason(name);
      if (why.empty()) continue;
      foreign_[name] = why;
      if (reason.empty()) reason = why;
    }

    if (ImportSizeNode(node, imported, tensors)) {
      result_.nodes.push_back(std::move(imported));
      return;
    }
    NodeId last = LastNode();
    Convert(node, origin, tensors, outputs, reason, imported);
    for (NodeId id : NodesAfter(last)) imported.nodes.push_back(id);
    result_.nodes.push_back(std::move(imported));
  }

  NodeId LastNode() const { return NodeId{graph_.num_node_slots() - 1}; }
  std::vector<NodeId> NodesAfter(NodeId last) const {
    std::vector<NodeId> nodes;
    for (int i = last.index + 1; i < graph_.num_node_slots(); ++i) {
      if (!graph_.node(NodeId{i}).erased) nodes.push_back(NodeId{i});
    }
    return nodes;
  }

  // Nodes that compute sizes or check them: no tensor comes out, so no op is needed.
  bool ImportSizeNode(const schema::Node& node, ImportedNode& imported,
                      const std::map<std::string, ValueId, std::less<>>& tensors) {
    std::vector<std::string> sizes;
    for (const Argument& output : node.outputs) {
      ForEachSize(output, [&](const std::string& name) { sizes.push_back(name); });
      if (output.kind == Kind::kTensor || output.kind == Kind::kTensors) return false;
      // A number that is read from a tensor when the program runs.
      if (output.kind == Kind::kOther && !tensors.empty()) return false;
    }
    bool check = imported.target.find("_assert") != std::string::npos ||
                 imported.target.find("sym_constrain_range") != std::string::npos;
    if (node.outputs.empty() && !check) return false;
    for (const std::string& name : sizes) {
      imported.outputs.push_back({name, ValueId{}});
      if (imported.target == "aten.sym_size.int" && node.inputs.size() == 2 &&
          node.inputs[0].arg.kind == Kind::kTensor) {
        sizes_.DefineSizeOf(name, graph_.type(tensors.at(node.inputs[0].arg.name)).dims,
                            node.inputs[1].arg.integer);
      } else if (tensors.empty()) {
        sizes_.DefineExpression(name, imported.target, node);
      } else if (imported.target.starts_with("aten.sym_")) {
        sizes_.Define(name);
      }  // else a number read from a tensor, which no one knows before the program runs
    }
    return sizes.empty() || tensors.empty() || imported.target.starts_with("aten.sym_");
  }

  // Converts the node, or leaves it to torch for `reason` or for what its converter says; then
  // binds its outputs.
  void Convert(const schema::Node& node, const Origin& origin,
               const std::map<std::string, ValueId, std::less<>>& tensors,
               const std::vector<std::string>& outputs, std::string reason,
               ImportedNode& imported) {
    if (node.outputs.empty() && !tensors.empty()) {
      Fail(ErrorKind::kUnsupported,
           "node `{}` ({}) returns nothing, so it must change a tensor in a way that no op of ours "
           "expresses; call program.run_decompositions() before saving",
           origin.ToString(), imported.target);
    }
    if (imported.target.ends_with(".out")) {
      Fail(ErrorKind::kUnsupported,
           "node `{}` ({}) writes to its argument `out`; call the op without it, or "
           "program.run_decompositions() before saving",
           origin.ToString(), imported.target);
    }
    const Converter* converter = FindConverter(imported.target);
    std::string functional = imported.target;
    bool in_place = false;
    if (converter == nullptr) {
      if (std::optional<std::string> found = FindFunctional(imported.target)) {
        in_place = true;
        functional = *found;
        converter = FindConverter(functional);
      }
    }

    std::vector<ValueId> values;
    if (reason.empty()) {
      values = TryConvert(node, origin, tensors, outputs, functional, converter, in_place, reason);
    }
    if (!reason.empty()) {
      imported.opaque = true;
      values = AddOpaque(node, origin, tensors, outputs, functional, reason);
    }
    if (in_place && !outputs.empty()) {
      BindInPlace(node, origin, outputs, values, converter, imported);
    } else {
      BindOutputs(node, outputs, values, converter, imported);
    }
  }

  // The first tensor argument, which views and in-place ops refer to; empty when there is none.
  static std::string FindBase(const schema::Node& node) {
    std::string base;
    for (const schema::NamedArgument& input : node.inputs) {
      ForEachTensor(input.arg, [&](const std::string& name) {
        if (base.empty()) base = name;
      });
    }
    return base;
  }

  std::vector<ValueId> TryConvert(const schema::Node& node, const Origin& origin,
                                  const std::map<std::string, ValueId, std::less<>>& tensors,
                                  const std::vector<std::string>& outputs,
                                  const std::string& target, const Converter* converter,
                                  bool in_place, std::string& reason) {
    std::vector<TensorType> types;
    std::vector<bool> used;
    for (const std::string& name : outputs) {
      types.push_back(metadata_.GetType(name));
      used.push_back(names_.IsUsed(name));
    }
    const OpDef* op = converter == nullptr ? FindOpByAten(target) : nullptr;
    if (converter != nullptr && converter->convert == nullptr) {
      reason = converter->op;
      return {};
    }
    if (converter == nullptr && op == nullptr) {
      reason = DescribeForeign(target);
      return {};
    }
    NodeId last = LastNode();
    try {
      Conversion conversion(state_, node, origin, tensors, types, used);
      std::vector<ValueId> values = converter != nullptr
                                        ? converter->convert(conversion, converter->op)
                                        : ConvertOneToOne(conversion, *op, node, tensors);
      for (size_t i = 0; conversion.is_wide() && i < std::min(values.size(), types.size()); ++i) {
        if (values[i].valid()) values[i] = conversion.Cast(values[i], types[i].dtype);
      }
      if (in_place && values.size() == 1 && types.size() == 1) {
        values[0] = conversion.Expand(conversion.Cast(values[0], types[0].dtype), types[0].dims);
      }
      reason = FindTypeReason(values, types, outputs);
      if (reason.empty()) return values;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kUnsupported && error.kind() != ErrorKind::kInvalidArgument) {
        throw;
      }
      reason = error.message();
    } catch (const std::out_of_range&) {  // a list that is shorter than the tensor's rank asks for
      reason = "arguments that do not fit each other";
    }
    std::vector<NodeId> added = NodesAfter(last);
    Rewriter rewriter(graph_);
    for (auto it = added.rbegin(); it != added.rend(); ++it) rewriter.Erase(*it);
    return {};
  }

  // A pointwise op with tensor arguments only, in their order.
  static std::vector<ValueId> ConvertOneToOne(
      Conversion& c, const OpDef& op, const schema::Node& node,
      const std::map<std::string, ValueId, std::less<>>& tensors) {
    std::vector<ValueId> inputs;
    for (const schema::NamedArgument& input : node.inputs) {
      if (input.arg.kind != Kind::kTensor) c.Reject("argument `{}` has no op of ours", input.name);
      ValueId value = tensors.at(input.arg.name);
      // sqrt and the like make floats of integers.
      if (IsFloat(c.output_type().dtype)) value = c.Cast(value, c.output_type().dtype);
      inputs.push_back(value);
    }
    return {c.Add(op.name, std::move(inputs))};
  }

  // Whether the number of elements, of which strides are factors, takes too long to write.
  static bool IsLongSize(const Dims& dims) {
    try {
      return NumElements(dims).ToString().size() > kMaxSizeText;
    } catch (const Error&) {  // too many terms
      return true;
    }
  }

  // Why converted values may not stand for the outputs that torch recorded; empty when they may.
  std::string FindTypeReason(const std::vector<ValueId>& values,
                             const std::vector<TensorType>& types,
                             const std::vector<std::string>& outputs) const {
    if (values.size() < types.size()) {
      return fmt::format("type rule disagrees with torch: {} outputs where torch has {}",
                         values.size(), types.size());
    }
    for (size_t i = 0; i < types.size(); ++i) {
      if (!values[i].valid()) {
        if (!names_.IsUsed(outputs[i])) continue;
        return fmt::format("its output {} (`{}`) is used, which no op of ours computes", i,
                           outputs[i]);
      }
      const TensorType& type = graph_.type(values[i]);
      bool same = type.dtype == types[i].dtype && type.rank() == types[i].rank();
      for (int j = 0; same && j < type.rank(); ++j)
        same = sizes_.AreSame(type.dims[j], types[i].dims[j]);
      if (!same) {
        return fmt::format("type rule disagrees with torch: {} where torch has {}", type.ToString(),
                           types[i].ToString());
      }
      if (!IsStatic(type.dims) && IsLongSize(type.dims)) {
        return fmt::format("sizes of more than {} characters", kMaxSizeText);
      }
    }
    return {};
  }

  std::vector<ValueId> AddOpaque(const schema::Node& node, const Origin& origin,
                                 const std::map<std::string, ValueId, std::less<>>& tensors,
                                 const std::vector<std::string>& outputs, const std::string& target,
                                 const std::string& reason) {
    std::vector<ValueId> inputs;
    for (const schema::NamedArgument& input : node.inputs) {
      ForEachTensor(input.arg,
                    [&](const std::string& name) { inputs.push_back(tensors.at(name)); });
    }
    std::vector<TensorType> types;
    for (const std::string& name : outputs) types.push_back(metadata_.GetType(name));
    NodeId id =
        graph_.AddNodeWithTypes(GetOp("torch"), std::move(inputs),
                                {{"target", target}, {"reason", reason}}, std::move(types), origin);
    return graph_.node(id).outputs;
  }

  void BindOutputs(const schema::Node& node, const std::vector<std::string>& outputs,
                   const std::vector<ValueId>& values, const Converter* converter,
                   ImportedNode& imported) {
    std::string base = FindBase(node);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const std::string& name = outputs[i];
      ValueId value = i < values.size() ? values[i] : ValueId{};
      imported.outputs.push_back({name, value});
      if (!value.valid()) continue;
      Bind(name, value);
      NoteOrder(name, value);
      Alias alias = converter == nullptr ? Alias::kFresh : converter->alias;
      if (alias != Alias::kFresh && !base.empty()) {
        alias = ResolveAlias(alias, node, metadata_.Get(base), metadata_.Get(name));
      }
      if (alias == Alias::kFresh || base.empty()) {
        names_.Define(name, value);
      } else if (alias == Alias::kView && !imported.opaque) {
        names_.DefineView(name, base, value);
      } else {
        names_.DefineUnknown(name, base, value);
      }
    }
  }

  // foo_(base, ...): the new value is written to base, and the output is another name of it.
  void BindInPlace(const schema::Node& node, const Origin& origin,
                   const std::vector<std::string>& outputs, const std::vector<ValueId>& values,
                   const Converter* converter, ImportedNode& imported) {
    std::string base = FindBase(node);
    if (outputs.size() != 1 || base.empty()) {
      Fail(ErrorKind::kUnsupported,
           "node `{}` ({}) changes other than one tensor in place; call "
           "program.run_decompositions() before saving",
           origin.ToString(), node.target);
    }
    const std::string& name = outputs[0];
    ValueId value = names_.Read(base, origin);
    // t_ and its kin change how memory is seen, not what it holds.
    bool view = converter != nullptr && converter->alias == Alias::kView && values[0] != value;
    const TensorType &before = graph_.type(value), &after = graph_.type(values[0]);
    if (view || before.dtype != after.dtype || before.dims != after.dims) {
      Fail(ErrorKind::kUnsupported,
           "node `{}` ({}) changes the type of a tensor in place, from {} to {}; use the op that "
           "returns a new tensor",
           origin.ToString(), node.target, before.ToString(), after.ToString());
    }
    names_.Write(base, values[0], origin, index_);
    Bind(name, values[0]);
    names_.DefineView(name, base, values[0]);
    imported.outputs.push_back({name, values[0]});
  }

  // ---- outputs
  void ImportOutputs() {
    std::set<std::string> declared;  // mutations that the signature lists
    std::set<ValueId> returned;
    std::vector<ImportedOutput> outputs;
    for (const schema::OutputSpec& spec : program_.outputs) {
      ImportedOutput output;
      output.constant = spec.constant;
      if (!spec.mutates_weight.empty()) {
        auto it = weight_inputs_.find(spec.mutates_weight);
        if (it == weight_inputs_.end()) {
          Fail(ErrorKind::kCorruptFile, "an output changes the unknown buffer `{}`",
               spec.mutates_weight);
        }
        output.mutates = it->second;
      } else {
        output.mutates = spec.mutates_input;
      }
      if (!output.mutates.empty()) declared.insert(output.mutates);
      if (spec.arg.kind == Kind::kTensor) {
        output.name = spec.arg.name;
        output.value = names_.Read(output.name, Origin{.name = output.name, .location = {}});
        if (returned.insert(output.value).second) {  // the caller sees it under this name
          result_.orders.erase(output.value);
          NoteOrder(output.name, output.value);
        }
      } else if (spec.arg.kind == Kind::kSymInt) {
        ImportSizeOutput(spec.arg.sizes[0], output);
      }
      outputs.push_back(std::move(output));
    }
    // Mutations that in-place nodes made go first, as run_decompositions() would place them.
    for (const std::string& name : names_.mutated_inputs()) {
      if (declared.contains(name)) continue;
      ValueId value = names_.Read(name, Origin{.name = name, .location = {}});
      result_.outputs.push_back(
          {.name = name, .value = value, .size = {}, .constant = {}, .mutates = name});
    }
    result_.outputs.insert(result_.outputs.end(), outputs.begin(), outputs.end());
    std::vector<ValueId> values;
    for (const ImportedOutput& output : result_.outputs) {
      if (output.value.valid()) values.push_back(output.value);
    }
    graph_.SetOutputs(std::move(values));
  }

  void ImportSizeOutput(const Argument::Size& size, ImportedOutput& output) const {
    if (size.name.empty()) {
      output.constant = std::to_string(size.integer);
      return;
    }
    output.name = size.name;
    output.size = sizes_.Find(size.name);
  }

  schema::RangeConstraint Range(const std::string& symbol) const {
    auto range = program_.ranges.find(symbol);
    return range == program_.ranges.end() ? schema::RangeConstraint{} : range->second;
  }

  // Every symbol of a type or attribute gets its range.
  void AddSymbols() {
    std::set<std::string> symbols;
    for (int i = 0; i < graph_.num_values(); ++i) {
      for (const Dim& dim : graph_.type(ValueId{i}).dims) dim.CollectSymbols(symbols);
    }
    for (const auto& [name, size] : state_.sizes) size.CollectSymbols(symbols);
    for (const std::string& symbol : symbols) {
      schema::RangeConstraint bounds = Range(symbol);
      if (auto it = program_.hints.find(symbol); it != program_.hints.end()) {
        result_.hints[symbol] = std::clamp(it->second, bounds.min, bounds.max);
      }
      graph_.symbols.push_back(
          {.name = symbol, .min = bounds.min, .max = std::min(bounds.max, kMaxSize)});
    }
  }

  const schema::Program& program_;
  const WeightData& weights_;
  const std::set<std::string>& state_names_;
  ImportedGraph result_;
  Graph& graph_;
  ImportState state_;
  Metadata metadata_;
  SizeTable sizes_;
  Functionalizer names_;
  std::map<std::string, std::string> foreign_;        // tensors only torch can hold, and why
  std::map<std::string, std::string> weight_inputs_;  // graph input name by weight name
  int index_ = 0;
};

}  // namespace

ImportedGraph ImportProgram(schema::Program program, const WeightData& weights) {
  InlineWrappers(program);
  ImportedGraph result = Importer(program, weights, {}).Import();
  // A weight that the program changes is no constant: import again with it as an input.
  std::set<std::string> state_names;
  for (const ImportedOutput& output : result.outputs) {
    for (const ImportedInput& input : result.inputs) {
      bool weight = input.kind == ImportedInput::Kind::kWeight;
      if (weight && input.name == output.mutates) state_names.insert(input.name);
    }
  }
  if (state_names.empty()) return result;
  return Importer(program, weights, state_names).Import();
}

ImportedGraph ImportExportedProgram(std::string_view json, const WeightData& weights) {
  return ImportProgram(schema::ParseProgram(json), weights);
}

}  // namespace stator
