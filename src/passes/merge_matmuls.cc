// MergeMatmuls: products of one value with several weights become one product, as q, k and v of
// attention.
//
//   %0 = matmul(%x, %wq)                %0 = concat(%wq, %wk) {dim = 1}
//   %1 = add(%0, %bq)                   %1 = matmul(%x, %0)
//   %2 = matmul(%x, %wk)         ->     %2 = add(%1, concat(%bq, %bk))
//   %3 = add(%2, %bk)                   %3 = slice(%2) {dim = 1, start = 0, ..}
//                                       %4 = slice(%2) {dim = 1, start = 8, ..}
//
// It pays where the weights are constants (the concat runs in the prologue), x is read from memory
// once, and the results are read by views alone: a pointwise node behind a product is its epilogue,
// and stays that.
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// matmul(x, weight), and bias added to it.
struct Part {
  NodeId matmul;
  ValueId weight, bias;  // bias: absent when invalid
  ValueId result;
};

class Merger {
 public:
  explicit Merger(Rewriter& rewriter) : rewriter_(rewriter), graph_(rewriter.graph()) {}

  bool Run() {
    bool changed = false;
    for (NodeId id : graph_.nodes()) {
      if (graph_.node(id).erased || graph_.node(id).op->name != "matmul") continue;
      std::vector<Part> parts = FindParts(graph_.node(id).inputs[0]);
      if (parts.size() < 2 || parts[0].matmul != id || !rewriter_.Start()) continue;
      Merge(parts);
      changed = true;
    }
    return changed;
  }

 private:
  // The products of x that may merge, in order; all with a bias, or all without.
  std::vector<Part> FindParts(ValueId x) {
    uses_ = graph_.uses();
    std::vector<Part> with_bias, without;
    for (NodeId id : uses_[x.index]) {
      Part part;
      if (!FindPart(x, id, part)) continue;
      (part.bias.valid() ? with_bias : without).push_back(part);
    }
    return with_bias.size() >= without.size() ? with_bias : without;
  }

  bool FindPart(ValueId x, NodeId id, Part& part) {
    const Node& node = graph_.node(id);
    bool fits = node.op->name == "matmul" && node.inputs[0] == x && node.inputs[1] != x &&
                graph_.type(x).rank() == 2 && graph_.type(node.inputs[1]).rank() == 2 &&
                IsConstantValue(graph_, node.inputs[1]);
    if (!fits) return false;
    part = {.matmul = id, .weight = node.inputs[1], .bias = {}, .result = node.outputs[0]};
    const std::vector<NodeId>& readers = uses_[part.result.index];
    if (readers.size() == 1 && !IsOutput(part.result)) {
      const Node& add = graph_.node(readers[0]);
      bool is_bias = add.op->name == "add" && add.inputs[0] == part.result &&
                     graph_.type(add.inputs[1]).dims == Dims{graph_.type(part.result).dims[1]} &&
                     IsConstantValue(graph_, add.inputs[1]);
      if (is_bias) part.bias = add.inputs[1], part.result = add.outputs[0];
    }
    const std::vector<NodeId>& last = uses_[part.result.index];
    return !IsOutput(part.result) && std::all_of(last.begin(), last.end(), [&](NodeId reader) {
      return graph_.node(reader).op->Is(kView);
    });
  }

  bool IsOutput(ValueId value) const {
    auto outputs = graph_.outputs();
    return std::find(outputs.begin(), outputs.end(), value) != outputs.end();
  }

  void Merge(const std::vector<Part>& parts) {
    std::vector<ValueId> weights, biases;
    for (const Part& part : parts) {
      weights.push_back(part.weight);
      if (part.bias.valid()) biases.push_back(part.bias);
    }
    NodeId first = parts[0].matmul;
    for (ValueId value : weights) MoveUp(value, first);
    for (ValueId value : biases) MoveUp(value, first);
    rewriter_.SetInsertionPoint(first);
    ValueId x = graph_.node(first).inputs[0];
    ValueId merged = rewriter_.Add("matmul", {x, ConcatWeights(weights)});
    if (!biases.empty()) {
      merged = rewriter_.Add("add", {merged, rewriter_.Add("concat", biases, {{"dim", Dim(0)}})});
    }
    std::vector<ValueId> slices;
    Dim start = 0;
    for (const Part& part : parts) {
      Dim end = start + graph_.type(part.weight).dims[1];
      slices.push_back(rewriter_.Add(
          "slice", {merged}, {{"dim", Dim(1)}, {"start", start}, {"end", end}, {"step", Dim(1)}}));
      start = end;
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      rewriter_.ReplaceUses(parts[i].result, slices[i]);
      EraseIfDead(rewriter_, graph_.value(parts[i].result).producer);
    }
  }

  // Transposed weights, as torch's Linear keeps them, are joined row by row and transposed once.
  ValueId ConcatWeights(const std::vector<ValueId>& weights) {
    std::vector<ValueId> rows;
    for (ValueId weight : weights) {
      const Node* permute = FindNode(graph_, weight, "permute");
      if (permute == nullptr) return rewriter_.Add("concat", weights, {{"dim", Dim(1)}});
      rows.push_back(permute->inputs[0]);
    }
    ValueId joined = rewriter_.Add("concat", rows, {{"dim", Dim(0)}});
    return rewriter_.Add("permute", {joined}, {{"perm", Dims{1, 0}}});
  }

  // Moves what makes a constant value before `before`, unless it stands there already.
  void MoveUp(ValueId value, NodeId before) {
    if (graph_.value(value).kind != ValueKind::kNode) return;
    NodeId id = graph_.value(value).producer;
    for (NodeId at = before; at.valid(); at = graph_.node(at).next) {
      if (at != id) continue;
      for (ValueId input : graph_.node(id).inputs) {
        if (input.valid()) MoveUp(input, before);
      }
      rewriter_.MoveBefore(id, before);
      return;
    }
  }

  Rewriter& rewriter_;
  const Graph& graph_;
  std::vector<std::vector<NodeId>> uses_;
};

}  // namespace

bool MergeMatmuls(Rewriter& rewriter) { return Merger(rewriter).Run(); }

}  // namespace stator
