// FlattenMatmuls: a product of a stack of matrices with one matrix is a product of two matrices.
//
//   %0 = matmul(%x, %w) : f32[2, 5, 7]    ->    %0 = reshape(%x) {dims = [10, 3]}
//                                               %1 = matmul(%0, %w) : f32[10, 7]
//                                               %2 = reshape(%1) {dims = [2, 5, 7]}
//
// The canonical form of a product with weights: [M, K] times [K, N], the bias an add behind it. The
// reshapes are free views of dense values, and sink_views moves them out of the epilogue.
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// Whether the last two dims agree: an expand between the two repeats whole matrices.
bool RepeatsMatrices(const Dims& narrow, const Dims& wide) {
  return narrow.size() >= 2 && std::equal(narrow.end() - 2, narrow.end(), wide.end() - 2);
}

// A stack of one matrix, or one matrix repeated, as that matrix: [1, .., K, N] and expands of
// [K, N]; else invalid.
ValueId FindMatrix(const Graph& graph, ValueId value) {
  const Node* expand = FindNode(graph, value, "expand");
  if (expand != nullptr &&
      RepeatsMatrices(graph.type(expand->inputs[0]).dims, graph.type(value).dims)) {
    value = expand->inputs[0];
  }
  const Dims& dims = graph.type(value).dims;
  for (size_t i = 0; i + 2 < dims.size(); ++i) {
    if (dims[i] != Dim(1)) return {};
  }
  return value;
}

ValueId FlattenMatmul(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Dims a = graph.type(node.inputs[0]).dims, y = graph.type(node.outputs[0]).dims;
  if (a.size() < 3) return {};
  ValueId matrix = FindMatrix(graph, node.inputs[1]);
  if (!matrix.valid()) return {};
  // Batch dims that only the right side had must not get lost.
  if (Dims(a.begin(), a.end() - 1) != Dims(y.begin(), y.end() - 1)) return {};
  if (!rewriter.Start()) return {};
  const Dims& w = graph.type(matrix).dims;
  Dim k = a.back(), n = y.back(), m = 1;
  for (size_t i = 0; i + 1 < a.size(); ++i) m = m * a[i];
  if (w.size() > 2) matrix = rewriter.Add("reshape", {matrix}, {{"dims", Dims{k, n}}});
  ValueId rows = rewriter.Add("reshape", {node.inputs[0]}, {{"dims", Dims{m, k}}});
  return rewriter.Add("reshape", {rewriter.Add("matmul", {rows, matrix})}, {{"dims", y}});
}

// matmul(expand(a), b) = matmul(a, b) where b alone gives the result its batch dims, and so for b
ValueId DropExpand(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  for (int i : {0, 1}) {
    const Node* expand = FindNode(graph, node.inputs[i], "expand");
    if (expand == nullptr) continue;
    const Dims& narrow = graph.type(expand->inputs[0]).dims;
    if (!RepeatsMatrices(narrow, graph.type(node.inputs[i]).dims)) continue;
    std::vector<ValueId> inputs = node.inputs;
    inputs[i] = expand->inputs[0];
    const TensorType* types[] = {&graph.type(inputs[0]), &graph.type(inputs[1])};
    bool same = node.op->infer({.inputs = types, .attrs = node.attrs})[0].dims ==
                graph.type(node.outputs[0]).dims;
    if (same) return rewriter.Start() ? rewriter.Add("matmul", std::move(inputs)) : ValueId{};
  }
  return {};
}

constexpr Rule kRules[] = {{"matmul", DropExpand}, {"matmul", FlattenMatmul}};

}  // namespace

bool FlattenMatmuls(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
