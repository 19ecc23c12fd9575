#include "ir/graph.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "ir/op_def.h"

namespace stator {

std::string Origin::ToString() const {
  if (name.empty() || location.empty()) return name + location;
  return name + " · " + location;
}

const Node* Graph::FindProducer(ValueId id) const {
  const Value& v = value(id);
  return v.kind == ValueKind::kNode ? &node(v.producer) : nullptr;
}

bool Graph::IsConstant(ValueId id) const {
  ValueKind kind = value(id).kind;
  return kind == ValueKind::kWeight || kind == ValueKind::kLiteral;
}

std::vector<NodeId> Graph::nodes() const {
  std::vector<NodeId> ids;
  for (NodeId id = first_; id.valid(); id = node(id).next) ids.push_back(id);
  return ids;
}

std::vector<std::vector<NodeId>> Graph::uses() const {
  std::vector<std::vector<NodeId>> uses(values_.size());
  for (NodeId id = first_; id.valid(); id = node(id).next) {
    for (ValueId input : node(id).inputs) {
      if (input.valid()) uses[input.index].push_back(id);
    }
  }
  return uses;
}

ValueId Graph::AddValue(Value value) {
  values_.push_back(std::move(value));
  return ValueId{static_cast<int32_t>(values_.size()) - 1};
}

ValueId Graph::AddInput(std::string_view name, TensorType type) {
  ValueId id =
      AddValue({.type = std::move(type), .kind = ValueKind::kInput, .name = std::string(name)});
  inputs_.push_back(id);
  return id;
}

ValueId Graph::AddWeight(std::string_view name, TensorType type, ConstantData data) {
  ValueId id = AddValue({.type = std::move(type),
                         .kind = ValueKind::kWeight,
                         .name = std::string(name),
                         .data = std::move(data)});
  constants_.push_back(id);
  return id;
}

ValueId Graph::AddLiteral(TensorType type, ConstantData data) {
  ValueId id =
      AddValue({.type = std::move(type), .kind = ValueKind::kLiteral, .data = std::move(data)});
  constants_.push_back(id);
  return id;
}

NodeId Graph::AddNode(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs, Origin origin) {
  std::vector<const TensorType*> types;
  for (ValueId input : inputs) types.push_back(input.valid() ? &type(input) : nullptr);
  std::vector<TensorType> outputs;
  try {
    CheckSchema(op, inputs.size(), attrs);
    outputs = op.infer({.inputs = types, .attrs = attrs});
  } catch (const Error& error) {
    std::string where = std::string(op.name);
    if (std::string text = origin.ToString(); !text.empty()) where += ", " + text;
    throw Error(error.kind(), error.message(), where);
  }
  return AddNodeWithTypes(op, std::move(inputs), std::move(attrs), std::move(outputs),
                          std::move(origin));
}

NodeId Graph::AddNodeWithTypes(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                               std::vector<TensorType> types, Origin origin) {
  NodeId id{static_cast<int32_t>(nodes_.size())};
  nodes_.push_back({.op = &op,
                    .inputs = std::move(inputs),
                    .outputs = {},
                    .attrs = std::move(attrs),
                    .body = nullptr,
                    .origin = std::move(origin),
                    .previous = {},
                    .next = {}});
  for (size_t i = 0; i < types.size(); ++i) {
    nodes_.back().outputs.push_back(AddValue({.type = std::move(types[i]),
                                              .kind = ValueKind::kNode,
                                              .producer = id,
                                              .output_index = static_cast<int>(i),
                                              .name = {},
                                              .data = {}}));
  }
  LinkBefore(id, {});
  return id;
}

void Graph::LinkBefore(NodeId id, NodeId next) {
  NodeId previous = next.valid() ? nodes_[next.index].previous : last_;
  nodes_[id.index].previous = previous;
  nodes_[id.index].next = next;
  (previous.valid() ? nodes_[previous.index].next : first_) = id;
  (next.valid() ? nodes_[next.index].previous : last_) = id;
}

void Graph::Unlink(NodeId id) {
  Node& node = nodes_[id.index];
  (node.previous.valid() ? nodes_[node.previous.index].next : first_) = node.next;
  (node.next.valid() ? nodes_[node.next.index].previous : last_) = node.previous;
  node.previous = node.next = {};
}

ConstantData MakeConstantData(std::vector<std::byte> bytes) {
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return {.bytes = owner->data(), .size = owner->size(), .owner = owner};
}

ValueId AddLiteral(Graph& graph, TensorType type, std::span<const double> values) {
  int64_t count = type.num_elements().value();
  STATOR_CHECK(values.size() == 1 || static_cast<int64_t>(values.size()) == count,
               "{} values for {}", values.size(), type.ToString());
  std::vector<std::byte> bytes(count * DTypeSize(type.dtype));
  DispatchDType(type.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < count; ++i) {
      double source = values[values.size() == 1 ? 0 : i];
      T element;
      if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
        element = T(static_cast<float>(source));
      } else if constexpr (std::is_same_v<T, bool>) {
        element = source != 0;
      } else {
        element = static_cast<T>(source);
      }
      std::memcpy(bytes.data() + i * sizeof(T), &element, sizeof(T));
    }
  });
  return graph.AddLiteral(std::move(type), MakeConstantData(std::move(bytes)));
}

ValueId AddScalar(Graph& graph, DType dtype, double value) {
  return AddLiteral(graph, TensorType{.dtype = dtype, .dims = {}, .order = {}},
                    std::span(&value, 1));
}

std::optional<double> FindSplat(const Graph& graph, ValueId id) {
  constexpr size_t kMaxElements = 4096;
  const Value& value = graph.value(id);
  size_t size = DTypeSize(value.type.dtype);
  const ConstantData& data = value.data;
  if (value.kind != ValueKind::kLiteral || data.size < size || data.size > kMaxElements * size) {
    return std::nullopt;
  }
  for (size_t i = size; i < data.size; i += size) {
    if (std::memcmp(data.bytes, data.bytes + i, size) != 0) return std::nullopt;
  }
  return DispatchDType(value.type.dtype, [&](auto element) {
    std::memcpy(&element, data.bytes, sizeof(element));
    return static_cast<double>(element);
  });
}

std::set<std::string> FindSymbols(const Graph& graph) {
  std::set<std::string> symbols;
  auto collect = [&](const Dims& dims) {
    for (const Dim& dim : dims) dim.CollectSymbols(symbols);
  };
  for (int i = 0; i < graph.num_values(); ++i) collect(graph.type(ValueId{i}).dims);
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (node.body != nullptr) symbols.merge(FindSymbols(*node.body));
    for (const auto& [name, attr] : node.attrs) {
      if (const Dim* dim = std::get_if<Dim>(&attr)) collect({*dim});
      if (const Dims* dims = std::get_if<Dims>(&attr)) collect(*dims);
    }
  }
  return symbols;
}

Graph Compact(const Graph& graph) {
  Graph compact;
  compact.name = graph.name;
  compact.symbols = graph.symbols;
  std::vector<ValueId> map(graph.num_values());
  std::vector<bool> used(graph.num_values(), false);
  for (NodeId id : graph.nodes()) {
    for (ValueId input : graph.node(id).inputs) {
      if (input.valid()) used[input.index] = true;
    }
  }
  for (ValueId output : graph.outputs()) used[output.index] = true;

  for (ValueId id : graph.inputs()) {
    map[id.index] = compact.AddInput(graph.value(id).name, graph.type(id));
  }
  for (ValueId id : graph.constants()) {
    if (!used[id.index]) continue;
    const Value& value = graph.value(id);
    map[id.index] = value.kind == ValueKind::kWeight
                        ? compact.AddWeight(value.name, value.type, value.data)
                        : compact.AddLiteral(value.type, value.data);
  }
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    std::vector<ValueId> inputs;
    std::vector<TensorType> types;
    for (ValueId input : node.inputs) inputs.push_back(input.valid() ? map[input.index] : input);
    for (ValueId output : node.outputs) types.push_back(graph.type(output));
    NodeId copy = compact.AddNodeWithTypes(*node.op, std::move(inputs), node.attrs,
                                           std::move(types), node.origin);
    compact.mutable_node(copy).body = node.body;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      ValueId output = compact.node(copy).outputs[i];
      compact.mutable_value(output).name = graph.value(node.outputs[i]).name;
      map[node.outputs[i].index] = output;
    }
  }
  std::vector<ValueId> outputs;
  for (ValueId output : graph.outputs()) outputs.push_back(map[output.index]);
  compact.SetOutputs(std::move(outputs));
  return compact;
}

}  // namespace stator
