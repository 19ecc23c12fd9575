// SinkViews: reshapes and permutes move behind the nodes that do not mind, where they cancel.
//
//   %0 = matmul(%x, %w) : f32[10, 7]              %0 = matmul(%x, %w) : f32[10, 7]
//   %1 = reshape(%0) {dims = [2, 5, 7]}           %1 = add(%0, %b) : f32[10, 7]
//   %2 = add(%1, %b)                       ->     %2 = gelu(%1) : f32[10, 7]
//   %3 = gelu(%2)                                 %3 = matmul(%2, %v) : f32[10, 3]
//   %4 = reshape(%3) {dims = [10, 7]}
//   %5 = matmul(%4, %v)
//
// A view between a product and its bias, activation or residual would end the epilogue; behind them
// it costs nothing. Invariant: no node is computed on more elements than before. A second operand
// of full size is reshaped too, but only to fewer dims, so that two operands cannot chase each
// other.
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// How many trailing dims agree.
size_t CountCommonLast(const Dims& a, const Dims& b) {
  size_t count = 0;
  while (count < std::min(a.size(), b.size()) &&
         a[a.size() - 1 - count] == b[b.size() - 1 - count]) {
    ++count;
  }
  return count;
}

// `value` without its leading dims of size 1.
Dims StripOnes(const Dims& dims) {
  auto it = std::find_if(dims.begin(), dims.end(), [](const Dim& dim) { return dim != Dim(1); });
  return {it, dims.end()};
}

// What an operand of a pointwise node of dims `wide` becomes when the node runs on dims `flat`
// instead, the other way of writing the same elements: the dims to reshape it to; empty when that
// cannot be.
std::optional<Dims> FindOperandDims(const Dims& operand, const Dims& wide, const Dims& flat) {
  if (operand == wide) return flat;
  Dims last = StripOnes(operand);
  size_t common = CountCommonLast(wide, flat);
  if (last.size() > common) return std::nullopt;
  return last;
}

// f(reshape(x), y) = reshape(f(x, reshape(y)))
ValueId SinkReshape(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!node.op->Is(kPointwise)) return {};
  const Dims wide = graph.type(node.outputs[0]).dims;
  for (ValueId candidate : node.inputs) {
    const Node* reshape = FindNode(graph, candidate, "reshape");
    if (reshape == nullptr || graph.type(candidate).dims != wide) continue;
    const Dims flat = graph.type(reshape->inputs[0]).dims;
    std::vector<Dims> dims;
    bool fits = true, has_other = false;
    for (ValueId input : node.inputs) {
      std::optional<Dims> target = FindOperandDims(graph.type(input).dims, wide, flat);
      fits = fits && target.has_value();
      if (!fits) break;
      const Node* own = FindNode(graph, input, "reshape");
      bool moves = own != nullptr && graph.type(own->inputs[0]).dims == flat;
      has_other = has_other || (graph.type(input).dims == wide && !moves);
      dims.push_back(*target);
    }
    if (!fits || (has_other && flat.size() >= wide.size())) continue;
    if (!rewriter.Start()) return {};
    std::vector<ValueId> inputs = node.inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Node* own = FindNode(graph, inputs[i], "reshape");
      if (own != nullptr && graph.type(own->inputs[0]).dims == dims[i]) {
        inputs[i] = own->inputs[0];
      } else if (graph.type(inputs[i]).dims != dims[i]) {
        inputs[i] = rewriter.Add("reshape", {inputs[i]}, {{"dims", dims[i]}});
      }
    }
    ValueId result = rewriter.Add(node.op->name, std::move(inputs), node.attrs);
    return rewriter.Add("reshape", {result}, {{"dims", wide}});
  }
  return {};
}

// The dims from the end that a rowwise node works along; 0 when it is not along the last ones.
size_t CountRowDims(const Graph& graph, const Node& node) {
  if (node.attrs.Find("num_dims") != nullptr) return node.attrs.GetInt("num_dims");
  if (node.attrs.Find("axis") == nullptr) return 0;
  return node.attrs.GetInt("axis") == graph.type(node.inputs[0]).rank() - 1 ? 1 : 0;
}

// f(reshape(x)) = reshape(f(x)) for softmax and norms along last dims that the reshape keeps
ValueId SinkReshapeRowwise(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!node.op->Is(kRowwise)) return {};
  size_t count = CountRowDims(graph, node);
  const Node* reshape = FindNode(graph, node.inputs[0], "reshape");
  if (count == 0 || reshape == nullptr) return {};
  const TensorType& x = graph.type(reshape->inputs[0]);
  const Dims wide = graph.type(node.outputs[0]).dims;
  if (CountCommonLast(x.dims, wide) < count || !rewriter.Start()) return {};
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = reshape->inputs[0];
  Attrs attrs = node.attrs;
  if (attrs.Find("axis") != nullptr) attrs.Set("axis", Dim(x.rank() - 1));
  ValueId result = rewriter.Add(node.op->name, std::move(inputs), std::move(attrs));
  return rewriter.Add("reshape", {result}, {{"dims", wide}});
}

// slice(reshape(x)) = reshape(slice(x)) for a slice of a last dim that the reshape keeps
ValueId SinkReshapeSlice(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* reshape = FindNode(graph, node.inputs[0], "reshape");
  if (reshape == nullptr) return {};
  const Dims &x = graph.type(reshape->inputs[0]).dims, &wide = graph.type(node.inputs[0]).dims;
  size_t from_end = wide.size() - node.attrs.GetInt("dim");
  if (CountCommonLast(x, wide) < from_end || !rewriter.Start()) return {};
  Attrs attrs = node.attrs;
  attrs.Set("dim", Dim(static_cast<int64_t>(x.size() - from_end)));
  ValueId slice = rewriter.Add("slice", {reshape->inputs[0]}, std::move(attrs));
  return rewriter.Add("reshape", {slice}, {{"dims", graph.type(node.outputs[0]).dims}});
}

// f(permute(x), permute(y)) = permute(f(x, y)); single elements may stand beside
ValueId SinkPermute(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!node.op->Is(kPointwise)) return {};
  std::vector<ValueId> inputs = node.inputs;
  const Attrs* perm = nullptr;
  for (ValueId& input : inputs) {
    if (graph.type(input).dims.empty()) continue;
    const Node* permute = FindNode(graph, input, "permute");
    bool fits = permute != nullptr && (perm == nullptr || permute->attrs == *perm) &&
                graph.type(input).dims == graph.type(node.outputs[0]).dims;
    if (!fits) return {};
    perm = &permute->attrs;
    input = permute->inputs[0];
  }
  if (perm == nullptr || !rewriter.Start()) return {};
  Attrs attrs = *perm;
  return rewriter.Add("permute", {rewriter.Add(node.op->name, std::move(inputs), node.attrs)},
                      std::move(attrs));
}

// reshape(reshape(x)) = reshape(x), so that what sank meets what is next
ValueId MergeReshapes(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* inner = FindNode(graph, node.inputs[0], "reshape");
  if (inner == nullptr || !rewriter.Start()) return {};
  ValueId x = inner->inputs[0];
  bool same = graph.type(x).dims == graph.type(node.outputs[0]).dims;
  return same ? x : rewriter.Add("reshape", {x}, node.attrs);
}

constexpr Rule kRules[] = {
    {"reshape", MergeReshapes}, {"slice", SinkReshapeSlice}, {"", SinkReshape},
    {"", SinkReshapeRowwise},   {"", SinkPermute},
};

}  // namespace

bool SinkViews(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
