#include "compile/reference_graph.h"

#include <map>

#include <fmt/format.h>

#include "ir/print.h"

namespace stator {
namespace {

// Copies a graph, each weight as an input.
class Copier {
 public:
  explicit Copier(const Graph& from) : from_(from) {}

  Graph Copy() {
    to_.name = from_.name;
    to_.symbols = from_.symbols;
    for (ValueId id : from_.inputs()) {
      copies_[id] = to_.AddInput(from_.value(id).name, from_.type(id));
    }
    for (ValueId id : from_.constants()) CopyConstant(id);
    for (NodeId id : from_.nodes()) CopyNode(from_.node(id));
    to_.SetOutputs(Find(from_.outputs()));
    return std::move(to_);
  }

 private:
  void CopyConstant(ValueId id) {
    const Value& value = from_.value(id);
    copies_[id] = value.kind == ValueKind::kWeight
                      ? to_.AddInput(fmt::format("weight{}", id.index), value.type)
                      : to_.AddLiteral(value.type, value.data);
  }

  void CopyNode(const Node& node) {
    std::vector<TensorType> types;
    for (ValueId output : node.outputs) types.push_back(from_.type(output));
    NodeId copy = to_.AddNodeWithTypes(*node.op, Find(node.inputs), node.attrs, std::move(types),
                                       node.origin);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      copies_[node.outputs[i]] = to_.node(copy).outputs[i];
    }
  }

  std::vector<ValueId> Find(std::span<const ValueId> ids) const {
    std::vector<ValueId> found;
    for (ValueId id : ids) found.push_back(id.valid() ? copies_.at(id) : id);
    return found;
  }

  const Graph& from_;
  Graph to_;
  std::map<ValueId, ValueId> copies_;
};

}  // namespace

ReferenceGraph MakeReferenceGraph(Graph graph, const Narrowing& narrowing) {
  RunPasses(graph, AllPasses(narrowing));
  ReferenceGraph result;
  for (ValueId id : graph.constants()) {
    const Value& value = graph.value(id);
    if (value.kind == ValueKind::kWeight) result.weights.push_back(value.name);
  }
  result.text = PrintGraph(Copier(graph).Copy());
  return result;
}

}  // namespace stator
