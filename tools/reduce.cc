// `stator reduce`, and the search behind it.
#include "tools/reduce.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "ops/draw.h"
#include "ops/evaluate.h"
#include "tools/cli.h"
#include "tools/difference.h"
#include "tools/model_file.h"
#include "tools/session.h"

namespace stator {
namespace {

// What is to be changed in a copy of a graph.
struct Edit {
  std::vector<ValueId> outputs;          // empty: the graph's own
  std::map<ValueId, std::string> cuts;   // values that become inputs of these names
  std::map<ValueId, HostTensor> fixed;   // values that become literals of this content
  std::map<ValueId, ValueId> stand_ins;  // values whose readers read another of the same type
  std::map<NodeId, Attrs> attrs;
  std::map<ValueId, TensorType> types;     // of inputs and constants
  std::map<std::string, int64_t> symbols;  // symbols that become sizes
  std::function<int64_t(int64_t)> resize;  // of every size and whole attribute; may be empty
  std::function<DType(DType)> retype;      // of every leaf and dtype attribute; may be empty
};

// Copies what the outputs need, with an edit, and infers all types anew. Raises what type rules do.
class EditedCopy {
 public:
  EditedCopy(const Graph& from, const Edit& edit) : from_(from), edit_(edit) {}

  Graph Make() {
    to_.name = from_.name;
    for (const SymbolRange& symbol : from_.symbols) {
      if (!edit_.symbols.contains(symbol.name)) to_.symbols.push_back(symbol);
    }
    std::vector<ValueId> outputs = edit_.outputs;
    if (outputs.empty()) outputs.assign(from_.outputs().begin(), from_.outputs().end());
    FindNeeded(outputs);
    for (ValueId id : from_.inputs()) {
      if (needed_.contains(id)) CopyInput(id);
    }
    for (const auto& [id, name] : edit_.cuts) {
      if (needed_.contains(id)) copies_[id] = to_.AddInput(name, TypeOf(id));
    }
    for (const auto& [id, tensor] : edit_.fixed) {
      if (needed_.contains(id)) copies_[id] = to_.AddLiteral(TypeOf(id), DataOf(tensor));
    }
    for (ValueId id : from_.constants()) {
      if (needed_.contains(id) && !copies_.contains(id)) CopyConstant(id);
    }
    for (NodeId id : from_.nodes()) CopyNode(id);
    to_.SetOutputs(Find(outputs));
    DropUnusedSymbols();
    VerifyGraph(to_);
    return std::move(to_);
  }

 private:
  ValueId Source(ValueId id) const {
    auto it = edit_.stand_ins.find(id);
    return it == edit_.stand_ins.end() ? id : Source(it->second);
  }

  void FindNeeded(std::vector<ValueId> work) {
    while (!work.empty()) {
      ValueId id = work.back();
      work.pop_back();
      if (!id.valid()) continue;
      id = Source(id);
      if (!needed_.insert(id).second) continue;
      const Node* producer = from_.FindProducer(id);
      if (producer == nullptr || edit_.cuts.contains(id) || edit_.fixed.contains(id)) continue;
      work.insert(work.end(), producer->inputs.begin(), producer->inputs.end());
    }
  }

  Dim Resize(const Dim& dim) const {
    Dim size = dim;
    if (!size.is_static() && !edit_.symbols.empty()) {
      std::set<std::string> names;
      size.CollectSymbols(names);
      bool all = std::all_of(names.begin(), names.end(),
                             [&](const std::string& name) { return edit_.symbols.contains(name); });
      if (all) size = size.Eval({edit_.symbols.begin(), edit_.symbols.end()});
    }
    return size.is_static() && edit_.resize ? Dim(edit_.resize(size.value())) : size;
  }

  TensorType TypeOf(ValueId id) const {
    auto it = edit_.types.find(id);
    TensorType type = it == edit_.types.end() ? from_.type(id) : it->second;
    for (Dim& dim : type.dims) dim = Resize(dim);
    if (edit_.retype) type.dtype = edit_.retype(type.dtype);
    return type;
  }

  Attrs AttrsOf(NodeId id) const {
    auto it = edit_.attrs.find(id);
    Attrs attrs = it == edit_.attrs.end() ? from_.node(id).attrs : it->second;
    for (const auto& [name, attr] : Attrs(attrs)) {
      if (const Dim* dim = std::get_if<Dim>(&attr)) attrs.Set(name, Resize(*dim));
      if (const Dims* dims = std::get_if<Dims>(&attr)) {
        Dims resized;
        for (const Dim& dim : *dims) resized.push_back(Resize(dim));
        attrs.Set(name, resized);
      }
      const DType* dtype = std::get_if<DType>(&attr);
      if (dtype != nullptr && edit_.retype) attrs.Set(name, edit_.retype(*dtype));
    }
    return attrs;
  }

  static ConstantData DataOf(const HostTensor& tensor) {
    std::vector<std::byte> bytes = tensor.storage;
    bytes.resize(static_cast<size_t>(tensor.ref.num_elements()) * DTypeSize(tensor.ref.dtype));
    return MakeConstantData(std::move(bytes));
  }

  void CopyInput(ValueId id) { copies_[id] = to_.AddInput(from_.value(id).name, TypeOf(id)); }

  void CopyConstant(ValueId id) {
    const Value& value = from_.value(id);
    TensorType type = TypeOf(id);
    bool same = type.dtype == value.type.dtype && type.dims == value.type.dims;
    if (value.kind == ValueKind::kWeight) {
      copies_[id] = to_.AddWeight(value.name, type, same ? value.data : ConstantData{});
      return;
    }
    ConstantData data = value.data;
    if (!same) data = Recut(value, type);
    copies_[id] = to_.AddLiteral(type, data);
  }

  // The first elements of a literal, in another type.
  static ConstantData Recut(const Value& value, const TensorType& type) {
    int64_t count = type.num_elements().value();
    if (count > value.type.num_elements().value()) {
      Fail(ErrorKind::kInvalidArgument, "a literal cannot grow");
    }
    TensorRef from{.data = const_cast<std::byte*>(value.data.bytes),
                   .dtype = value.type.dtype,
                   .dims = {count},
                   .strides = {1}};
    HostTensor to = MakeHostTensor(type.dtype, {count});
    DispatchDType(from.dtype, [&](auto source) {
      DispatchDType(type.dtype, [&](auto target) {
        using From = decltype(source);
        using To = decltype(target);
        for (int64_t i = 0; i < count; ++i) {
          Data<To>(to.ref)[i] = scalar::CastTo<To>(Data<From>(from)[i]);
        }
      });
    });
    return DataOf(to);
  }

  void CopyNode(NodeId id) {
    const Node& node = from_.node(id);
    bool needed = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId output) {
      return needed_.contains(output) && !copies_.contains(output);
    });
    if (!needed) return;
    NodeId copy;
    if (node.op->infer != nullptr && node.body == nullptr) {
      copy = to_.AddNode(*node.op, Find(node.inputs), AttrsOf(id), node.origin);
    } else {
      std::vector<TensorType> types;
      for (ValueId output : node.outputs) types.push_back(TypeOf(output));
      copy = to_.AddNodeWithTypes(*node.op, Find(node.inputs), AttrsOf(id), types, node.origin);
      to_.mutable_node(copy).body = node.body;
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      copies_.emplace(node.outputs[i], to_.node(copy).outputs[i]);
    }
  }

  std::vector<ValueId> Find(std::span<const ValueId> ids) const {
    std::vector<ValueId> found;
    for (ValueId id : ids) found.push_back(id.valid() ? copies_.at(Source(id)) : id);
    return found;
  }

  // Raises for a symbol that is used but not the size of an input, from which it takes its value.
  void DropUnusedSymbols() {
    std::set<std::string> used, bound;
    for (int i = 0; i < to_.num_values(); ++i) {
      for (const Dim& dim : to_.type(ValueId{i}).dims) dim.CollectSymbols(used);
    }
    for (ValueId id : to_.inputs()) {
      for (const Dim& dim : to_.type(id).dims) bound.insert(dim.ToString());
    }
    for (const std::string& name : used) {
      if (!bound.contains(name)) Fail(ErrorKind::kInvalidArgument, "{} has no value", name);
    }
    std::erase_if(to_.symbols,
                  [&](const SymbolRange& symbol) { return !used.contains(symbol.name); });
  }

  const Graph& from_;
  const Edit& edit_;
  Graph to_;
  std::set<ValueId> needed_;
  std::map<ValueId, ValueId> copies_;
};

// ---- the search
class Reducer {
 public:
  Reducer(const Graph& graph, const Question& fails, uint64_t seed)
      : graph_(graph), fails_(fails), seed_(seed) {}

  Graph Run() {
    while (DropOutputs() | MoveOutputsUp() | CutInputs() | BypassNodes() | FixSymbols() |
           ShrinkSizes() | SimplifyAttrs() | SimplifyTypes()) {
    }
    FixValues();
    return graph_;
  }

 private:
  bool Try(const Edit& edit) {
    Graph candidate;
    try {
      candidate = EditedCopy(graph_, edit).Make();
    } catch (const Error&) {
      return false;  // not a graph
    }
    if (!fails_(candidate)) return false;
    graph_ = std::move(candidate);
    return true;
  }

  // Tries make(i) for i from `count` - 1 down; after a success the count is asked for anew.
  template <typename Count, typename MakeEdit>
  bool TryEach(Count&& count, MakeEdit&& make) {
    bool changed = false;
    for (int i = count() - 1; i >= 0; --i) {
      i = std::min(i, count() - 1);
      if (i < 0) break;
      std::optional<Edit> edit = make(i);
      if (edit && Try(*edit)) changed = true;
    }
    return changed;
  }

  bool DropOutputs() {
    bool changed = false;
    for (ValueId id : std::vector<ValueId>(graph_.outputs().begin(), graph_.outputs().end())) {
      if (graph_.outputs().size() > 1 && Try({.outputs = {id}})) return true;
    }
    for (size_t i = 0; i < graph_.outputs().size() && graph_.outputs().size() > 1;) {
      std::vector<ValueId> outputs(graph_.outputs().begin(), graph_.outputs().end());
      outputs.erase(outputs.begin() + static_cast<std::ptrdiff_t>(i));
      bool dropped = Try({.outputs = outputs});
      changed = changed || dropped;
      i += dropped ? 0 : 1;
    }
    return changed;
  }

  // The first value that fails by itself leaves out all behind it.
  bool MoveOutputsUp() {
    for (NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      for (ValueId output : node.outputs) {
        if (graph_.outputs().size() == 1 && graph_.outputs()[0] == output) return false;
        if (Try({.outputs = {output}})) return true;
      }
    }
    return false;
  }

  // From the last on, so that a cut leaves out all before it.
  bool CutInputs() {
    return TryEach(
        [&] { return static_cast<int>(graph_.nodes().size()); },
        [&](int i) -> std::optional<Edit> {
          Edit edit;
          for (ValueId output : graph_.node(graph_.nodes()[static_cast<size_t>(i)]).outputs) {
            edit.cuts[output] = fmt::format("cut{}", num_cuts_++);
          }
          return edit;
        });
  }

  bool BypassNodes() {
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      size_t num_inputs = graph_.node(graph_.nodes()[i]).inputs.size();
      for (size_t k = 0; k < num_inputs && i < graph_.nodes().size(); ++k) {
        const Node& node = graph_.node(graph_.nodes()[i]);
        if (k >= node.inputs.size() || !node.inputs[k].valid()) continue;
        const TensorType &from = graph_.type(node.outputs[0]), &to = graph_.type(node.inputs[k]);
        if (from.dtype != to.dtype || from.dims != to.dims) continue;
        Edit edit;
        edit.stand_ins[node.outputs[0]] = node.inputs[k];
        changed = Try(edit) || changed;
      }
    }
    return changed;
  }

  bool FixSymbols() {
    bool changed = false;
    for (const SymbolRange& symbol : std::vector<SymbolRange>(graph_.symbols)) {
      std::set<int64_t> sizes;
      for (const SymbolValues& values : SymbolCases(graph_, seed_)) {
        if (values.contains(symbol.name)) sizes.insert(values.at(symbol.name));
      }
      for (int64_t size : sizes) {
        Edit edit;
        edit.symbols[symbol.name] = size;
        if (!Try(edit)) continue;
        changed = true;
        break;
      }
    }
    return changed;
  }

  std::vector<ValueId> Leaves() const {
    std::vector<ValueId> leaves(graph_.inputs().begin(), graph_.inputs().end());
    leaves.insert(leaves.end(), graph_.constants().begin(), graph_.constants().end());
    return leaves;
  }

  bool ShrinkSizes() {
    bool changed = false;
    std::set<int64_t> sizes;
    for (ValueId id : Leaves()) {
      for (const Dim& dim : graph_.type(id).dims) {
        if (dim.is_static() && dim.value() > 1) sizes.insert(dim.value());
      }
    }
    for (int64_t size : sizes) {
      for (int64_t smaller : {int64_t{1}, int64_t{2}, size / 2, size - 1}) {
        if (smaller < 1 || smaller >= size) continue;
        Edit edit;
        edit.resize = [=](int64_t n) { return n == size ? smaller : n; };
        if (!Try(edit)) continue;
        changed = true;
        break;
      }
    }
    for (size_t k = 0; k < Leaves().size(); ++k) {
      for (size_t d = 0; d < graph_.type(Leaves()[k]).dims.size(); ++d) {
        TensorType type = graph_.type(Leaves()[k]);
        if (type.dims[d] == Dim(1) || type.dims[d] == Dim(0)) continue;
        type.dims[d] = 1;
        Edit edit;
        edit.types[Leaves()[k]] = type;
        changed = Try(edit) || changed;
        if (k >= Leaves().size()) break;
      }
    }
    return changed;
  }

  static std::vector<Attr> SimplerAttrs(const Attr& attr) {
    std::vector<Attr> simpler;
    if (const bool* flag = std::get_if<bool>(&attr); flag != nullptr && *flag) simpler = {false};
    if (const double* number = std::get_if<double>(&attr)) {
      if (*number != 0 && *number != 1) simpler = {1.0, 0.0};
    }
    if (const Dim* dim = std::get_if<Dim>(&attr)) {
      if (*dim != Dim(0) && *dim != Dim(1)) simpler = {Dim(0), Dim(1)};
    }
    if (const Dims* dims = std::get_if<Dims>(&attr)) {
      for (size_t i = 0; i < dims->size(); ++i) {
        Dims fewer = *dims;
        fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
        simpler.push_back(fewer);
        for (int64_t n : {0, 1}) {
          if ((*dims)[i] == Dim(0) || (*dims)[i] == Dim(1)) continue;
          Dims plain = *dims;
          plain[i] = n;
          simpler.push_back(plain);
        }
      }
    }
    return simpler;
  }

  bool SimplifyAttrs() {
    return TryEach([&] { return static_cast<int>(graph_.nodes().size()); },
                   [&](int i) -> std::optional<Edit> {
                     NodeId id = graph_.nodes()[static_cast<size_t>(i)];
                     const Attrs attrs = graph_.node(id).attrs;
                     for (const auto& [name, attr] : attrs) {
                       for (const Attr& simpler : SimplerAttrs(attr)) {
                         Edit edit;
                         edit.attrs[id] = attrs;
                         edit.attrs[id].Set(name, simpler);
                         if (Fails(edit)) return edit;
                       }
                     }
                     return std::nullopt;
                   });
  }

  bool Fails(const Edit& edit) const {
    try {
      return fails_(EditedCopy(graph_, edit).Make());
    } catch (const Error&) {
      return false;
    }
  }

  bool SimplifyTypes() {
    bool changed = false;
    for (int i = 0; i < kNumDTypes; ++i) {
      DType from = static_cast<DType>(i);
      DType to = IsFloat(from) ? DType::kFloat32 : DType::kInt64;
      bool used = false;
      for (ValueId id : Leaves()) used = used || graph_.type(id).dtype == from;
      if (!used || from == to || from == DType::kBool) continue;
      Edit edit;
      edit.retype = [=](DType dtype) { return dtype == from ? to : dtype; };
      changed = Try(edit) || changed;
    }
    return changed;
  }

  // What neither goes nor becomes an input may become a literal of what it is.
  void FixValues() {
    for (size_t i = graph_.nodes().size(); i-- > 0;) {
      if (i >= graph_.nodes().size()) continue;
      ValueId output = graph_.node(graph_.nodes()[i]).outputs[0];
      if (!IsStatic(graph_.type(output).dims)) continue;
      try {
        Graph part = EditedCopy(graph_, {.outputs = {output}}).Make();
        DrawWeights(part, seed_);
        SymbolValues symbols = ChooseSymbols(part.symbols);
        std::vector<HostTensor> inputs = DrawInputs(part, symbols, seed_);
        Edit edit;
        edit.fixed[output] = std::move(EvaluateGraph(part, Refs(inputs), symbols)[0]);
        Try(edit);
      } catch (const Error&) {  // it cannot be evaluated: it stays a node
      }
    }
  }

  Graph graph_;
  const Question& fails_;
  uint64_t seed_;
  int num_cuts_ = 0;
};

// ---- the command
struct Args {
  std::string model, output = "reduced.ir", test, compare = "engine";
  uint64_t seed = 0;
};

// Whether the user's command exits with 0, given a file with the graph.
bool CommandSucceeds(const Graph& graph, const std::string& test) {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("stator_reduce_{}.ir", getpid());
  WriteText(path, PrintGraph(graph));
  int status = std::system(fmt::format("{} {}", test, path.string()).c_str());
  std::filesystem::remove(path);
  return status == 0;
}

void Reduce(const Args& args) {
  Graph graph = ReadModel(args.model);
  Comparison comparison = args.compare == "passes" ? Comparison::kPasses : Comparison::kEngine;
  Question fails = [&](const Graph& part) {
    return args.test.empty() ? !FindDifference(part, comparison, args.seed).empty()
                             : CommandSucceeds(part, args.test);
  };
  if (!fails(graph)) {
    Fail(ErrorKind::kInvalidArgument, "{} shows no problem: {}", args.model,
         args.test.empty() ? fmt::format("the {} agrees with the reference kernels", args.compare)
                           : "the test does not exit with 0");
  }
  Graph reduced = ReduceGraph(graph, fails, args.seed);
  WriteText(args.output, PrintGraph(reduced));
  fmt::print("{}: {} of {} nodes", args.output, reduced.nodes().size(), graph.nodes().size());
  if (args.test.empty()) fmt::print("; {}", FindDifference(reduced, comparison, args.seed));
  fmt::print("\n");
}

}  // namespace

Graph ReduceGraph(const Graph& graph, const Question& fails, uint64_t seed) {
  return Reducer(graph, fails, seed).Run();
}

void AddReduce(CLI::App& app) {
  auto args = std::make_shared<Args>();
  CLI::App* sub =
      app.add_subcommand("reduce",
                         "Cut a graph down to the nodes that show a problem: the engine "
                         "fails, or differs from the reference kernels");
  sub->add_option("model", args->model, "model.ir or model.pt2")->required();
  sub->add_option("-o,--output", args->output, "file for the reduced graph")->capture_default_str();
  sub->add_option("--compare", args->compare,
                  "what differs from the reference kernels: engine, or passes alone")
      ->check(CLI::IsMember({"engine", "passes"}))
      ->capture_default_str();
  sub->add_option("--seed", args->seed, "of the content of inputs, and of weights without any")
      ->capture_default_str();
  sub->add_option("--test", args->test,
                  "another problem: a shell command that gets the file of a graph and exits with 0 "
                  "when that graph shows it");
  sub->callback([args] { Reduce(*args); });
}

}  // namespace stator
