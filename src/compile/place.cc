#include "compile/place.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "fuse/fuse.h"
#include "ir/op_def.h"

namespace stator {
namespace {

class Placer {
 public:
  explicit Placer(const Graph& graph)
      : graph_(graph), constant_(FindConstantValues(graph)), tensors_(graph.num_values()) {}

  Placement Run() {
    PlaceInputs();
    PlaceConstants();
    AssignOutputs();
    AssignParts();
    for (NodeId id : graph_.nodes()) PlaceNode(graph_.node(id));
    FillOutputs();
    return std::move(placement_);
  }

 private:
  static PlanTensor Dense(StorageKind storage, int index, const TensorType& type) {
    return {.storage = storage,
            .index = index,
            .offset = 0,
            .dtype = type.dtype,
            .dims = type.dims,
            .strides = type.strides()};
  }

  static Dim Bytes(const TensorType& type) {
    return type.num_elements() * Dim(static_cast<int64_t>(DTypeSize(type.dtype)));
  }

  static PlanPort MakePort(const std::string& name, const TensorType& type) {
    return {.name = name,
            .dtype = type.dtype,
            .dims = type.dims,
            .strides = ContiguousStrides(type.dims)};
  }

  void PlaceInputs() {
    for (ValueId id : graph_.inputs()) {
      int index = static_cast<int>(placement_.inputs.size());
      placement_.inputs.push_back(MakePort(graph_.value(id).name, graph_.type(id)));
      tensors_[id.index] = Dense(StorageKind::kInput, index, graph_.type(id));
    }
  }

  // In order of first use, as text shows them, so that a graph and its text give equal plans.
  void PlaceConstants() {
    std::vector<bool> placed(graph_.num_values(), false);
    auto place = [&](ValueId id) {
      if (!id.valid() || !graph_.IsConstant(id) || placed[id.index]) return;
      placed[id.index] = true;
      PlaceConstant(id);
    };
    for (NodeId id : graph_.nodes()) {
      for (ValueId input : graph_.node(id).inputs) place(input);
    }
    for (ValueId output : graph_.outputs()) place(output);
  }

  void PlaceConstant(ValueId id) {
    const Value& value = graph_.value(id);
    if (value.kind == ValueKind::kWeight) {
      int index = static_cast<int>(placement_.weights.size());
      placement_.weights.push_back({.name = value.name,
                                    .dtype = value.type.dtype,
                                    .dims = EvalDims(value.type.dims, {}),
                                    .data = value.data});
      tensors_[id.index] = Dense(StorageKind::kWeight, index, value.type);
    } else {
      int index = static_cast<int>(placement_.literals.size());
      placement_.literals.push_back(value.data);
      tensors_[id.index] = Dense(StorageKind::kLiteral, index, value.type);
    }
  }

  // A kernel's result lies in the caller's tensor when the caller gets it dense, be it under other
  // dims, or permuted where the kernel can write so.
  void AssignOutputs() {
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      ValueId id = graph_.outputs()[i];
      placement_.outputs.push_back(MakePort(graph_.value(id).name, graph_.type(id)));
      const Node* producer = graph_.FindProducer(id);
      while (producer != nullptr && producer->op->name == "reshape") {
        id = producer->inputs[0];
        producer = graph_.FindProducer(id);
      }
      DimOrder order;
      if (producer != nullptr && producer->op->name == "permute") {
        for (int64_t dim : producer->attrs.GetInts("perm")) order.push_back(static_cast<int>(dim));
        id = producer->inputs[0];
        producer = graph_.FindProducer(id);
      }
      if (producer == nullptr || !producer->op->Is(kKernel) || constant_[id.index]) continue;
      TensorType type = graph_.type(id);
      bool strided = type.order.empty() && producer->attrs.GetString("kind") == "pointwise";
      if (type.order != order && !strided) continue;
      type.order = order;
      place_of_.emplace(id, Dense(StorageKind::kOutput, static_cast<int>(i), type));
    }
  }

  // What a pointwise kernel makes for a concat alone lies in its window of the concat's result.
  void AssignParts() {
    std::vector<std::vector<NodeId>> uses = graph_.uses();
    std::set<ValueId> results(graph_.outputs().begin(), graph_.outputs().end());
    for (NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      if (!IsConcat(node) || constant_[node.outputs[0].index]) continue;
      const std::vector<ValueId>& parts = GetConcat(*node.body).inputs;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        ValueId input = node.inputs[i], part = node.body->inputs()[i];
        const Node* producer = graph_.FindProducer(input);
        bool is_only = uses[input.index].size() == 1 && !results.contains(input) &&
                       std::count(parts.begin(), parts.end(), part) == 1;
        bool is_pointwise = producer != nullptr && producer->op->Is(kKernel) &&
                            producer->attrs.GetString("kind") == "pointwise";
        if (!is_only || !is_pointwise || constant_[input.index]) continue;
        size_t position = std::find(parts.begin(), parts.end(), part) - parts.begin();
        place_of_.emplace(input, FindPart(PlaceResult(node.outputs[0]), *node.body, position));
      }
    }
  }

  static bool IsConcat(const Node& node) {
    return node.op->Is(kKernel) && node.attrs.GetString("kind") == "concat";
  }

  static const Node& GetConcat(const Graph& body) { return body.node(body.first_node()); }

  // The window of a concat's result that its operand at `position` fills.
  static PlanTensor FindPart(PlanTensor whole, const Graph& body, size_t position) {
    const Node& concat = GetConcat(body);
    size_t dim = concat.attrs.GetInt("dim");
    for (size_t k = 0; k < position; ++k) {
      whole.offset = whole.offset + body.type(concat.inputs[k]).dims[dim] * whole.strides[dim];
    }
    whole.dims = body.type(concat.inputs[position]).dims;
    return whole;
  }

  // Where a value lies that no input or constant holds.
  PlanTensor PlaceResult(ValueId id) {
    auto it = place_of_.find(id);
    if (it == place_of_.end()) {
      it = place_of_.emplace(id, NewTensor(graph_.type(id), constant_[id.index])).first;
    }
    return it->second;
  }

  PlanTensor NewTensor(const TensorType& type, bool is_constant) {
    std::vector<Dim>& sizes = is_constant ? placement_.derived_bytes : placement_.arena_bytes;
    sizes.push_back(Bytes(type));
    return Dense(is_constant ? StorageKind::kDerived : StorageKind::kArena,
                 static_cast<int>(sizes.size()) - 1, type);
  }

  void AddStep(PlacedStep step, bool is_constant) {
    (is_constant ? placement_.prologue : placement_.steps).push_back(std::move(step));
  }

  void AddCopy(const PlanTensor& from, const PlanTensor& to, const Origin& origin,
               bool is_constant) {
    AddStep({.kernel = nullptr, .inputs = {from}, .outputs = {to}, .origin = origin}, is_constant);
  }

  void PlaceNode(const Node& node) {
    if (node.op->Is(kView)) {
      PlaceView(node);
      return;
    }
    STATOR_CHECK(node.op->Is(kKernel), "op {} in a kernel graph", node.op->name);
    bool is_constant = constant_[node.outputs[0].index];
    PlacedStep step{.kernel = &node, .inputs = {}, .outputs = {}, .origin = node.origin};
    for (ValueId input : node.inputs) step.inputs.push_back(tensors_[input.index]);
    for (ValueId output : node.outputs) {
      tensors_[output.index] = PlaceResult(output);
      step.outputs.push_back(tensors_[output.index]);
    }
    if (IsConcat(node)) {
      PlaceConcat(step, is_constant);
    } else {
      AddStep(std::move(step), is_constant);
    }
  }

  void PlaceView(const Node& node) {
    ValueId input = node.inputs[0], output = node.outputs[0];
    const TensorType& type = graph_.type(output);
    std::optional<PlanTensor> window = FindView(node, type, tensors_[input.index]);
    if (!window) {
      bool is_constant = constant_[input.index];
      TensorType dense = graph_.type(input);
      dense.order = {};
      PlanTensor copy = NewTensor(dense, is_constant);
      AddCopy(tensors_[input.index], copy, node.origin, is_constant);
      window = FindView(node, type, copy);
      STATOR_CHECK(window.has_value(), "{} is no view of a dense tensor", node.op->name);
    }
    tensors_[output.index] = *window;
  }

  // A concat is a copy of each operand that does not lie in its window of the output yet. Operands
  // may repeat or be literals of the body.
  void PlaceConcat(const PlacedStep& step, bool is_constant) {
    const Graph& body = *step.kernel->body;
    const std::vector<ValueId>& parts = GetConcat(body).inputs;
    for (size_t i = 0; i < parts.size(); ++i) {
      PlanTensor window = FindPart(step.outputs[0], body, i), part = FindOperand(step, parts[i]);
      bool is_there = part.storage == window.storage && part.index == window.index;
      if (!is_there) AddCopy(part, window, step.origin, is_constant);
    }
  }

  PlanTensor FindOperand(const PlacedStep& step, ValueId operand) {
    const Graph& body = *step.kernel->body;
    for (size_t i = 0; i < body.inputs().size(); ++i) {
      if (body.inputs()[i] == operand) return step.inputs[i];
    }
    const Value& literal = body.value(operand);
    placement_.literals.push_back(literal.data);
    return Dense(StorageKind::kLiteral, static_cast<int>(placement_.literals.size()) - 1,
                 literal.type);
  }

  void FillOutputs() {
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      ValueId id = graph_.outputs()[i];
      const PlanTensor& tensor = tensors_[id.index];
      int index = static_cast<int>(i);
      if (tensor.storage == StorageKind::kOutput && tensor.index == index) continue;
      TensorType type = graph_.type(id);
      type.order = {};
      const Node* producer = graph_.FindProducer(id);
      AddCopy(tensor, Dense(StorageKind::kOutput, index, type),
              producer != nullptr ? producer->origin : Origin{}, false);
    }
  }

  const Graph& graph_;
  std::vector<bool> constant_;
  std::vector<PlanTensor> tensors_;
  std::map<ValueId, PlanTensor> place_of_;
  Placement placement_;
};

}  // namespace

Placement Place(const Graph& kernels) { return Placer(kernels).Run(); }

}  // namespace stator
