#include "ops/evaluate.h"

#include <algorithm>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/print.h"

namespace stator {
namespace {

// Stands for the data of tensors without elements, whose pointer may be null.
std::byte no_elements{};

TensorRef MakePresent(TensorRef tensor) {
  if (tensor.data == nullptr && tensor.num_elements() == 0) tensor.data = &no_elements;
  return tensor;
}

void CheckInput(const Graph& graph, size_t i, const TensorRef& tensor,
                const SymbolValues& symbols) {
  const Value& value = graph.value(graph.inputs()[i]);
  if (tensor.dtype != value.type.dtype || tensor.dims != EvalDims(value.type.dims, symbols)) {
    Dims found(tensor.dims.begin(), tensor.dims.end());
    Fail(ErrorKind::kInvalidArgument, "input {} `{}` is {}{}, expected {}", i, value.name,
         DTypeName(tensor.dtype), DimsToString(found), value.type.ToString());
  }
}

TensorRef ConstantRef(const Value& value) {
  size_t bytes = value.type.num_elements().value() * DTypeSize(value.type.dtype);
  if (value.data.size < bytes) {
    Fail(ErrorKind::kInvalidArgument, "weight `{}` has {} bytes of data, expected {}", value.name,
         value.data.size, bytes);
  }
  // Reference kernels only read their inputs.
  return MakePresent({.data = const_cast<std::byte*>(value.data.bytes),
                      .dtype = value.type.dtype,
                      .dims = EvalDims(value.type.dims, {}),
                      .strides = EvalDims(value.type.strides(), {})});
}

// Runs the nodes of one graph and drops each tensor after its last use.
class Evaluator {
 public:
  Evaluator(const Graph& graph, SymbolValues symbols)
      : graph_(graph), symbols_(std::move(symbols)), refs_(graph.num_values()) {
    owned_.resize(graph.num_values());
    num_uses_.assign(graph.num_values(), 0);
    for (NodeId id : graph.nodes()) {
      for (ValueId input : graph.node(id).inputs) {
        if (input.valid()) ++num_uses_[input.index];
      }
    }
    for (ValueId output : graph.outputs()) ++num_uses_[output.index];
  }

  std::vector<HostTensor> Run(std::span<const TensorRef> inputs) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      refs_[graph_.inputs()[i].index] = MakePresent(inputs[i]);
    }
    for (ValueId id : graph_.constants()) {
      if (num_uses_[id.index] > 0) refs_[id.index] = ConstantRef(graph_.value(id));
    }
    for (NodeId id : graph_.nodes()) RunNode(graph_.node(id));
    std::vector<HostTensor> outputs;
    for (ValueId id : graph_.outputs()) {
      outputs.push_back(MakeHostTensor(graph_.type(id), symbols_));
      CopyTensor(refs_[id.index], outputs.back().ref);
    }
    return outputs;
  }

 private:
  void RunNode(const Node& node) {
    std::vector<TensorRef> inputs;
    for (ValueId input : node.inputs) {
      inputs.push_back(input.valid() ? refs_[input.index] : TensorRef{});
    }
    std::vector<HostTensor> outputs = EvaluateNode(graph_, node, inputs, symbols_);
    for (size_t i = 0; i < outputs.size(); ++i) {
      int index = node.outputs[i].index;
      if (num_uses_[index] == 0) continue;
      owned_[index] = std::move(outputs[i]);
      refs_[index] = owned_[index].ref;
    }
    for (ValueId input : node.inputs) {
      if (input.valid() && --num_uses_[input.index] == 0) owned_[input.index] = {};
    }
  }

  const Graph& graph_;
  SymbolValues symbols_;
  std::vector<TensorRef> refs_;    // by value
  std::vector<HostTensor> owned_;  // by value; node outputs still in use
  std::vector<int> num_uses_;
};

}  // namespace

SymbolValues BindSymbols(const Graph& graph, std::span<const TensorRef> inputs) {
  if (inputs.size() != graph.inputs().size()) {
    Fail(ErrorKind::kInvalidArgument, "graph @{} takes {} inputs, found {}", graph.name,
         graph.inputs().size(), inputs.size());
  }
  std::map<std::string, const SymbolRange*> ranges;
  for (const SymbolRange& symbol : graph.symbols) ranges[symbol.name] = &symbol;
  SymbolValues symbols;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Dims& dims = graph.type(graph.inputs()[i]).dims;
    for (size_t d = 0; d < std::min(dims.size(), inputs[i].dims.size()); ++d) {
      auto it = ranges.find(dims[d].ToString());
      if (it != ranges.end()) symbols.emplace(it->first, inputs[i].dims[d]);
    }
  }
  return symbols;
}

Attrs ResolveAttrs(const Attrs& attrs, const SymbolValues& symbols) {
  Attrs resolved = attrs;
  for (const auto& [name, attr] : attrs) {
    if (const Dim* dim = std::get_if<Dim>(&attr)) resolved.Set(name, Dim(dim->Eval(symbols)));
    if (const Dims* dims = std::get_if<Dims>(&attr)) {
      std::vector<int64_t> values = EvalDims(*dims, symbols);
      resolved.Set(name, Dims(values.begin(), values.end()));
    }
  }
  return resolved;
}

void ResolveSymbols(Graph& graph, const SymbolValues& symbols) {
  for (int i = 0; i < graph.num_values(); ++i) {
    Value& value = graph.mutable_value(ValueId{i});
    std::vector<int64_t> dims = EvalDims(value.type.dims, symbols);
    value.type.dims = Dims(dims.begin(), dims.end());
  }
  for (NodeId id : graph.nodes()) {
    Node& node = graph.mutable_node(id);
    node.attrs = ResolveAttrs(node.attrs, symbols);
  }
  graph.symbols.clear();
}

std::vector<HostTensor> EvaluateNode(const Graph& graph, const Node& node,
                                     std::span<const TensorRef> inputs,
                                     const SymbolValues& symbols) {
  if (node.body != nullptr) return EvaluateGraph(*node.body, inputs, symbols);
  if (node.op->reference == nullptr) {
    throw Error(ErrorKind::kUnsupported, "a node left to torch cannot be evaluated",
                DescribeNode(graph, node));
  }
  std::vector<HostTensor> outputs;
  std::vector<TensorRef> refs;
  for (ValueId output : node.outputs) {
    outputs.push_back(MakeHostTensor(graph.type(output), symbols));
    refs.push_back(outputs.back().ref);
  }
  try {
    node.op->reference(ResolveAttrs(node.attrs, symbols), inputs, refs);
  } catch (const Error& error) {
    throw Error(error.kind(), error.message(), DescribeNode(graph, node));
  }
  return outputs;
}

std::vector<HostTensor> EvaluateGraph(const Graph& graph, std::span<const TensorRef> inputs,
                                      const SymbolValues& symbols) {
  SymbolValues values = BindSymbols(graph, inputs);
  for (const auto& [name, value] : symbols) values.insert_or_assign(name, value);
  for (size_t i = 0; i < inputs.size(); ++i) CheckInput(graph, i, inputs[i], values);
  return Evaluator(graph, std::move(values)).Run(inputs);
}

}  // namespace stator
