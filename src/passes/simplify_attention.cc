// SimplifyAttention: attention nodes say by attributes and sizes what they say by operands.
//
//   literal %m: bool[2, 2] = [1, 0, 1, 1]
//   %0 = attention(%q, %k, %v, %m) {causal = false}    ->    %0 = attention(%q, %k, %v)
//                                                                   {causal = true}
//
// A literal mask that is a triangle becomes `causal`, an additive mask of 0 and -inf the bool that
// it was made from, and keys repeated for groups of heads are read once.
#include <limits>

#include "passes/attention_mask.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// ---- grouped heads
// [.., H, S, E] with each head of [.., H / G, S, E] repeated G times in a row, as reshape of expand
// of [.., H / G, 1, S, E]: the expand; else null.
const Node* FindRepeat(const Graph& graph, ValueId value) {
  const Node* reshape = FindNode(graph, value, "reshape");
  const Node* expand = reshape != nullptr ? FindNode(graph, reshape->inputs[0], "expand") : nullptr;
  if (expand == nullptr) return nullptr;
  Dims narrow = graph.type(expand->inputs[0]).dims, wide = graph.type(expand->outputs[0]).dims;
  size_t rank = graph.type(value).dims.size(), group = rank - 2;
  if (narrow.size() != rank + 1 || wide.size() != rank + 1 || narrow[group] != Dim(1)) {
    return nullptr;
  }
  Dims merged = wide;
  merged[group - 1] = merged[group - 1] * wide[group];
  merged.erase(merged.begin() + group);
  wide[group] = 1;
  return wide == narrow && merged == graph.type(value).dims ? expand : nullptr;
}

// attention(q, repeat(k), repeat(v)) = attention(q, k, v), whose heads q's share in groups
ValueId GroupHeads(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node *k = FindRepeat(graph, node.inputs[1]), *v = FindRepeat(graph, node.inputs[2]);
  if (k == nullptr || v == nullptr) return {};
  Dims k_dims = graph.type(k->inputs[0]).dims, v_dims = graph.type(v->inputs[0]).dims;
  if (k_dims[k_dims.size() - 4] != v_dims[v_dims.size() - 4] || !rewriter.Start()) return {};
  k_dims.erase(k_dims.end() - 3);
  v_dims.erase(v_dims.end() - 3);
  std::vector<ValueId> inputs = node.inputs;
  inputs[1] = rewriter.Add("reshape", {k->inputs[0]}, {{"dims", k_dims}});
  inputs[2] = rewriter.Add("reshape", {v->inputs[0]}, {{"dims", v_dims}});
  return rewriter.Add("attention", std::move(inputs), node.attrs);
}

// ---- masks
ValueId WithMask(Rewriter& rewriter, const Node& node, ValueId mask, bool causal) {
  std::vector<ValueId> inputs(node.inputs.begin(), node.inputs.begin() + 3);
  if (mask.valid()) inputs.push_back(mask);
  return rewriter.Add("attention", std::move(inputs),
                      {{"causal", causal}, {"scale", node.attrs.GetFloat("scale")}});
}

ValueId FindMask(const Node& node) { return node.inputs.size() > 3 ? node.inputs[3] : ValueId{}; }

// A mask that keys are added to as where(seen, 0, -inf) is `seen`, and its expands are free.
ValueId UnwrapMask(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  ValueId mask = FindMask(node);
  if (const Node* expand = FindNode(graph, mask, "expand")) {
    return rewriter.Start() ? WithMask(rewriter, node, expand->inputs[0], false) : ValueId{};
  }
  const Node* where = FindNode(graph, mask, "where");
  bool matches = where != nullptr && IsScalar(graph, where->inputs[1], 0) &&
                 IsScalar(graph, where->inputs[2], -std::numeric_limits<double>::infinity());
  return matches && rewriter.Start() ? WithMask(rewriter, node, where->inputs[0], false)
                                     : ValueId{};
}

// A literal mask that hides nothing is dropped; one that hides the future is `causal`.
ValueId MaskToCausal(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  ValueId mask = FindMask(node);
  const Value* literal = mask.valid() ? FindMaskLiteral(graph, mask) : nullptr;
  if (literal == nullptr) return {};
  if (HidesJust(*literal, [](int64_t, int64_t) { return false; })) {
    return rewriter.Start() ? WithMask(rewriter, node, {}, false) : ValueId{};
  }
  const Dims &q = graph.type(node.inputs[0]).dims, &k = graph.type(node.inputs[1]).dims;
  const Dims& dims = literal->type.dims;
  bool whole = dims.size() >= 2 && dims.back() == k.end()[-2] && dims.end()[-2] == q.end()[-2];
  bool matches = whole && HidesJust(*literal, [](int64_t i, int64_t j) { return j > i; });
  return matches && rewriter.Start() ? WithMask(rewriter, node, {}, true) : ValueId{};
}

// ---- width
// cast16(attention(cast32(q), cast32(k), cast32(v))) = attention(q, k, v): sums are in fp32 anyway,
// and a result that is cut to 16 bits gains little from probabilities that are not. Torch spells
// attention so where it takes none of its fused kernels.
ValueId NarrowAttention(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  DType narrow = graph.type(node.outputs[0]).dtype;
  const Node* attention = FindNode(graph, node.inputs[0], "attention");
  bool narrows = (narrow == DType::kFloat16 || narrow == DType::kBFloat16) &&
                 graph.type(node.inputs[0]).dtype == DType::kFloat32;
  if (attention == nullptr || !narrows || CountUses(graph, node.inputs[0]) != 1) return {};
  std::vector<ValueId> inputs;
  for (ValueId input : attention->inputs) {
    const Node* cast = FindNode(graph, input, "cast");
    bool is_mask = inputs.size() == 3 && graph.type(input).dtype == DType::kBool;
    bool widened = cast != nullptr && graph.type(cast->inputs[0]).dtype == narrow;
    if (!is_mask && !widened) return {};
    inputs.push_back(is_mask ? input : cast->inputs[0]);
  }
  if (!rewriter.Start()) return {};
  return rewriter.Add("attention", std::move(inputs), attention->attrs);
}

constexpr Rule kRules[] = {
    {"attention", GroupHeads},
    {"attention", UnwrapMask},
    {"attention", MaskToCausal},
    {"cast", NarrowAttention},
};

}  // namespace

bool SimplifyAttention(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
