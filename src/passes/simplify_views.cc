// SimplifyViews: chains of reshape, permute, expand and slice as few views.
//
//   %0 = reshape(%x) {dims = [2, 12]}                 %0 = reshape(%x) {dims = [24]}
//   %1 = reshape(%0) {dims = [24]}             ->     %1 = permute(%y) {perm = [2, 1, 0]}
//   %2 = permute(%y) {perm = [1, 2, 0]}
//   %3 = permute(%2) {perm = [1, 0, 2]}
//
// Invariant: a view that changes nothing is gone, and neighbours of one kind are one.
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// A view that keeps the dims, apart from permute, keeps the elements too: it is x.
ValueId DropNoOp(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  bool matches = graph.type(node.inputs[0]).dims == graph.type(node.outputs[0]).dims;
  return matches && rewriter.Start() ? node.inputs[0] : ValueId{};
}

// reshape(reshape(x, d), e) = reshape(x, e)
ValueId MergeReshapes(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], "reshape");
  if (inner == nullptr || !rewriter.Start()) return {};
  return rewriter.Add("reshape", {inner->inputs[0]}, node.attrs);
}

// expand(expand(x, d), e) = expand(x, e)
ValueId MergeExpands(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], "expand");
  if (inner == nullptr || !rewriter.Start()) return {};
  return rewriter.Add("expand", {inner->inputs[0]}, node.attrs);
}

// permute(permute(x, p), q) = permute(x, p[q])
ValueId MergePermutes(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], "permute");
  if (inner == nullptr || !rewriter.Start()) return {};
  const Dims &first = inner->attrs.GetDims("perm"), &second = node.attrs.GetDims("perm");
  Dims perm;
  for (const Dim& dim : second) perm.push_back(first[dim.value()]);
  return rewriter.Add("permute", {inner->inputs[0]}, {{"perm", perm}});
}

// A permute that keeps the order of the dims that are not 1 is a reshape.
ValueId PermuteOfOnes(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Dims& dims = graph.type(node.inputs[0]).dims;
  int64_t last = -1;
  for (int64_t dim : node.attrs.GetInts("perm")) {
    if (dims[dim] == Dim(1)) continue;
    if (dim < last) return {};
    last = dim;
  }
  if (!rewriter.Start()) return {};
  return rewriter.Add("reshape", {node.inputs[0]}, {{"dims", graph.type(node.outputs[0]).dims}});
}

// slice(slice(x)) of one dim = slice(x)
ValueId MergeSlices(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], "slice");
  if (inner == nullptr || inner->attrs.GetDim("dim") != node.attrs.GetDim("dim")) return {};
  Dim start = inner->attrs.GetDim("start"), step = inner->attrs.GetDim("step");
  Dim first = start + node.attrs.GetDim("start") * step;
  Dim size = rewriter.graph().type(node.outputs[0]).dims[node.attrs.GetInt("dim")];
  Dim stride = step * node.attrs.GetDim("step");
  if (!size.is_static() || !rewriter.Start()) return {};
  Dim end = size == Dim(0) ? first : first + (size - Dim(1)) * stride + Dim(1);
  return rewriter.Add(
      "slice", {inner->inputs[0]},
      {{"dim", node.attrs.GetDim("dim")}, {"start", first}, {"end", end}, {"step", stride}});
}

// An expand that only adds or keeps dims of size 1 is a reshape.
ValueId ExpandOfNothing(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const TensorType &x = graph.type(node.inputs[0]), &y = graph.type(node.outputs[0]);
  if (x.num_elements() != y.num_elements() || x.dims == y.dims || !rewriter.Start()) return {};
  return rewriter.Add("reshape", {node.inputs[0]}, {{"dims", y.dims}});
}

// concat(x) = x
ValueId ConcatOfOne(Rewriter& rewriter, const Node& node) {
  return node.inputs.size() == 1 && rewriter.Start() ? node.inputs[0] : ValueId{};
}

// slice(concat(.., x, ..)) = x where it cuts out just x
ValueId SliceOfConcat(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* concat = FindNode(graph, node.inputs[0], "concat");
  if (concat == nullptr || concat->attrs.GetDim("dim") != node.attrs.GetDim("dim")) return {};
  if (node.attrs.GetDim("step") != Dim(1)) return {};
  Dim start = 0;
  for (ValueId part : concat->inputs) {
    Dim end = start + graph.type(part).dims[node.attrs.GetInt("dim")];
    if (start == node.attrs.GetDim("start") && end == node.attrs.GetDim("end")) {
      return rewriter.Start() ? part : ValueId{};
    }
    start = end;
  }
  return {};
}

constexpr Rule kRules[] = {
    {"reshape", DropNoOp},      {"expand", DropNoOp},     {"slice", DropNoOp},
    {"reshape", MergeReshapes}, {"expand", MergeExpands}, {"permute", PermuteOfOnes},
    {"permute", MergePermutes}, {"slice", MergeSlices},   {"expand", ExpandOfNothing},
    {"concat", ConcatOfOne},    {"slice", SliceOfConcat},
};

}  // namespace

bool SimplifyViews(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
