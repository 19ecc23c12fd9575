#include "ir/verify.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/print.h"

namespace stator {
namespace {

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), defined_(graph.num_values(), false) {
    for (const SymbolRange& symbol : graph.symbols) symbols_.insert(symbol.name);
  }

  void Verify() {
    for (ValueId id : graph_.inputs()) Define(id, "an input");
    for (ValueId id : graph_.constants()) {
      Define(id, "a constant");
      CheckData(graph_.value(id));
    }
    for (NodeId id : graph_.nodes()) CheckNode(graph_.node(id));
    for (ValueId id : graph_.outputs()) {
      Require(id.valid() && defined_[id.index], "an output is not defined");
    }
  }

 private:
  template <typename... Args>
  void Require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (condition) return;
    std::string where = node_ ? DescribeNode(graph_, *node_) : "graph @" + graph_.name;
    throw Error(ErrorKind::kInternal,
                "graph does not verify: " + fmt::format(format, std::forward<Args>(args)...),
                where);
  }

  void Define(ValueId id, std::string_view what) {
    Require(id.valid() && id.index < graph_.num_values(), "{} has no value", what);
    Require(!defined_[id.index], "a value is defined twice");
    defined_[id.index] = true;
    CheckType(graph_.type(id));
  }

  void CheckType(const TensorType& type) const {
    std::set<std::string> used;
    for (const Dim& dim : type.dims) {
      Require(!dim.is_static() || dim.value() >= 0, "negative size in {}", type.ToString());
      dim.CollectSymbols(used);
    }
    for (const std::string& symbol : used) {
      Require(symbols_.contains(symbol), "symbol `{}` has no range", symbol);
    }
    if (type.order.empty()) return;
    DimOrder sorted = type.order;
    std::sort(sorted.begin(), sorted.end());
    bool permutation = static_cast<int>(sorted.size()) == type.rank();
    for (int i = 0; permutation && i < type.rank(); ++i) permutation = sorted[i] == i;
    Require(permutation, "order is no permutation in {}", type.ToString());
  }

  void CheckData(const Value& value) const {
    Require(IsStatic(value.type.dims), "constant of symbolic size {}", value.type.ToString());
    size_t expected = value.type.num_elements().value() * DTypeSize(value.type.dtype);
    bool absent = value.kind == ValueKind::kWeight && value.data.bytes == nullptr;
    Require(absent || value.data.size == expected, "constant {} holds {} bytes",
            value.type.ToString(), value.data.size);
  }

  void CheckNode(const Node& node) {
    node_ = &node;
    for (ValueId input : node.inputs) {
      Require(!input.valid() || (input.index < graph_.num_values() && defined_[input.index]),
              "an input is used before it is defined");
    }
    for (ValueId output : node.outputs) {
      Require(!defined_[output.index], "a value is defined twice");
      defined_[output.index] = true;
      CheckType(graph_.type(output));
      Require(&graph_.node(graph_.value(output).producer) == &node, "output of another node");
    }
    CheckSchema(*node.op, node.inputs.size(), node.attrs);
    if (node.op->Is(kKernel)) {
      CheckBody(node);
    } else if (!node.op->Is(kOpaque)) {
      CheckTypes(node);
    }
    node_ = nullptr;
  }

  void CheckTypes(const Node& node) const {
    std::vector<const TensorType*> types;
    for (ValueId input : node.inputs) {
      types.push_back(input.valid() ? &graph_.type(input) : nullptr);
    }
    std::vector<TensorType> inferred = node.op->infer({.inputs = types, .attrs = node.attrs});
    Require(inferred.size() == node.outputs.size(), "{} outputs where {} are inferred",
            node.outputs.size(), inferred.size());
    for (size_t i = 0; i < inferred.size(); ++i) {
      const TensorType& type = graph_.type(node.outputs[i]);
      Require(type.dtype == inferred[i].dtype && type.dims == inferred[i].dims,
              "output {} is {} where {} is inferred", i, type.ToString(), inferred[i].ToString());
    }
  }

  void CheckBody(const Node& node) const {
    Require(node.body != nullptr, "kernel without a body");
    VerifyGraph(*node.body);
    Require(node.body->inputs().size() == node.inputs.size() &&
                node.body->outputs().size() == node.outputs.size(),
            "body has {} inputs and {} outputs", node.body->inputs().size(),
            node.body->outputs().size());
    auto same = [&](ValueId outer, ValueId inner) {
      return graph_.type(outer).dtype == node.body->type(inner).dtype &&
             graph_.type(outer).dims == node.body->type(inner).dims;
    };
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      Require(node.inputs[i].valid() && same(node.inputs[i], node.body->inputs()[i]),
              "input {} of the body has another type", i);
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      Require(same(node.outputs[i], node.body->outputs()[i]),
              "output {} of the body has another type", i);
    }
  }

  const Graph& graph_;
  std::vector<bool> defined_;
  std::set<std::string> symbols_;
  const Node* node_ = nullptr;
};

}  // namespace

void VerifyGraph(const Graph& graph) { Verifier(graph).Verify(); }

}  // namespace stator
