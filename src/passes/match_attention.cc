// MatchAttention: attention spelled out in products and a softmax becomes one node.
//
//   %0 = mul(%q, 0.125)
//   %1 = permute(%k) {perm = [0, 1, 3, 2]}
//   %2 = matmul(%0, %1)                           %0 = attention(%q, %k, %v, %mask)
//   %3 = add(%2, %mask)                    ->            {causal = false, scale = 0.125}
//   %4 = softmax(%3) {axis = 3}
//   %5 = matmul(%4, %v)
//
// Matches what torch decomposes scaled_dot_product_attention into, and what models write: factors
// on either side, batched products over merged dims, additive and -inf masks, a bias before a mask,
// and the guard for rows without a key (_safe_softmax). Invariant: without that guard, a row that
// no key is left for is NaN where the attention node gives zeros; such a graph matches only where
// its mask cannot do that. A literal mask that is a triangle becomes `causal`.
#include <algorithm>
#include <limits>

#include "passes/attention_mask.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// ---- the pattern
struct Pattern {
  const Node* scores = nullptr;  // matmul(q, k transposed)
  const Node* softmax = nullptr;
  Dims dims;  // [.., L, S] at which the mask is added, else of the softmax
  double scale = 1;
  ValueId mask;                // absent: invalid
  ValueId bias;                // added before the mask, where the scores' last dims are dims' too
  int common = 0;              // the number of those dims
  bool mask_inverted = false;  // a bool mask that is true where a key is not seen
  bool safe = false;           // rows without a key are guarded
};

ValueId SkipViewsAndCasts(const Graph& graph, ValueId value) {
  while (true) {
    const Node* node = graph.FindProducer(value);
    bool skips = node != nullptr && CountUses(graph, value) == 1 &&
                 (node->op->name == "reshape" ||
                  (node->op->name == "cast" && IsFloat(graph.type(value).dtype) &&
                   IsFloat(graph.type(node->inputs[0]).dtype)));
    if (!skips) return value;
    value = node->inputs[0];
  }
}

// Whether `value` says for each row whether some of its `scores` is above -inf: any(ne(scores,
// -inf)), in whichever way it is spelled, or with `lost` the opposite: all(eq(scores, -inf)).
bool IsRowTest(const Graph& graph, ValueId value, ValueId scores, bool lost) {
  while (const Node* inner = FindNode(graph, value, "logical_not")) {
    value = inner->inputs[0];
    lost = !lost;
  }
  const Node* reduce = FindNode(graph, value, lost ? "all" : "any");
  if (reduce == nullptr || !reduce->attrs.GetBool("keepdim")) return false;
  int last = graph.type(scores).rank() - 1;
  if (reduce->attrs.GetDims("axes") != Dims{last}) return false;
  value = reduce->inputs[0];
  while (const Node* inner = FindNode(graph, value, "logical_not")) {
    value = inner->inputs[0];
    lost = !lost;
  }
  const Node* compare = FindNode(graph, value, lost ? "eq" : "ne");
  return compare != nullptr && compare->inputs[0] == scores &&
         IsScalar(graph, compare->inputs[1], -kInfinity);
}

// Reads from the weights of the values up to the softmax.
bool MatchSoftmax(const Graph& graph, ValueId weights, Pattern& pattern) {
  weights = SkipViewsAndCasts(graph, weights);
  if (CountUses(graph, weights) != 1) return false;
  const Node* guard = FindNode(graph, weights, "where");
  bool lost = guard != nullptr && IsScalar(graph, guard->inputs[1], 0);
  if (guard != nullptr) {
    if (!lost && !IsScalar(graph, guard->inputs[2], 0)) return false;
    weights = guard->inputs[lost ? 2 : 1];
  }
  const Node* softmax = FindNode(graph, weights, "softmax");
  if (softmax == nullptr || CountUses(graph, weights) != 1) return false;
  int last = graph.type(weights).rank() - 1;
  if (last < 1 || softmax->attrs.GetInt("axis") != last) return false;
  pattern.softmax = softmax;
  pattern.safe = guard != nullptr;
  return !pattern.safe || IsRowTest(graph, guard->inputs[0], softmax->inputs[0], lost);
}

bool LeadsToProduct(const Graph& graph, ValueId value, int depth = 8) {
  const Node* node = graph.FindProducer(value);
  if (node == nullptr || depth == 0) return false;
  if (node->op->name == "matmul") return true;
  auto leads = [&](int i) { return LeadsToProduct(graph, node->inputs[i], depth - 1); };
  if (node->op->name == "add") return leads(0) || leads(1);  // a bias before a mask
  bool passes =
      node->op->name == "reshape" || node->op->name == "cast" ||
      ((node->op->name == "mul" || node->op->name == "div") && FindScalar(graph, node->inputs[1]));
  return passes && leads(0);
}

// How many of the last dims are equal in both.
size_t CountCommonDims(const Dims& a, const Dims& b) {
  size_t count = 0;
  while (count < std::min(a.size(), b.size()) && a.end()[-1 - count] == b.end()[-1 - count]) {
    ++count;
  }
  return count;
}

// Takes what is added to the scores before an added mask, which has all its elements in dims that
// both have: the scores; else invalid.
ValueId MatchBias(const Graph& graph, const Node& node, Pattern& pattern) {
  const TensorType& type = graph.type(node.outputs[0]);
  bool may_follow = node.op->name == "add" && pattern.mask.valid() && !pattern.bias.valid() &&
                    IsFloat(graph.type(pattern.mask).dtype) && pattern.scale == 1;
  if (!may_follow) return {};
  for (int i : {0, 1}) {
    if (!LeadsToProduct(graph, node.inputs[i])) continue;
    const Dims& dims = graph.type(node.inputs[1 - i]).dims;
    size_t common = CountCommonDims(type.dims, pattern.dims);
    for (size_t d = 0; d + common < dims.size(); ++d) {
      if (!(dims[d] == Dim(1))) return {};
    }
    pattern.bias = node.inputs[1 - i];
    pattern.common = static_cast<int>(common);
    return node.inputs[i];
  }
  return {};
}

// Takes a mask from an add or a where: the scores that it is applied to; invalid when `node` is
// neither.
ValueId MatchMask(const Graph& graph, const Node& node, Pattern& pattern) {
  if (pattern.mask.valid()) return MatchBias(graph, node, pattern);
  if (pattern.scale != 1) return {};
  pattern.dims = graph.type(node.outputs[0]).dims;
  if (node.op->name == "add") {
    for (int i : {0, 1}) {
      if (!LeadsToProduct(graph, node.inputs[i])) continue;
      pattern.mask = node.inputs[1 - i];
      return node.inputs[i];
    }
  }
  if (node.op->name == "where") {
    for (int i : {1, 2}) {
      if (!IsScalar(graph, node.inputs[3 - i], -kInfinity)) continue;
      pattern.mask = node.inputs[0];
      pattern.mask_inverted = i == 2;
      return node.inputs[i];
    }
  }
  return {};
}

// Reads from the softmax up to the product of queries and keys.
bool MatchScores(const Graph& graph, Pattern& pattern) {
  ValueId value = pattern.softmax->inputs[0];
  pattern.dims = graph.type(value).dims;
  const Dims last(pattern.dims.end() - 2, pattern.dims.end());
  int allowed_uses = pattern.safe ? 2 : 1;  // the guard reads the masked scores too
  while (true) {
    const Dims& dims = graph.type(value).dims;
    if (dims.size() < 2 || Dims(dims.end() - 2, dims.end()) != last) return false;
    if (CountUses(graph, value) > allowed_uses) return false;
    allowed_uses = 1;
    const Node* node = graph.FindProducer(value);
    if (node == nullptr) return false;
    if (node->op->name == "matmul") {
      pattern.scores = node;
      return true;
    }
    bool by_number = node->op->name == "mul" || node->op->name == "div";
    std::optional<double> number =
        by_number ? FindScalar(graph, node->inputs[1]) : std::optional<double>();
    if (number) {
      pattern.scale = node->op->name == "mul" ? pattern.scale * *number : pattern.scale / *number;
      value = node->inputs[0];
    } else if (node->op->name == "reshape" || node->op->name == "cast") {
      value = node->inputs[0];
    } else {
      value = MatchMask(graph, *node, pattern);
      if (!value.valid()) return false;
    }
  }
}

// ---- operands: factors on q or k move into the scale
// A value that is x * number, or that in a wider dtype with casts around.
struct Scaled {
  ValueId x;
  double number = 1;
};
std::optional<Scaled> FindScaled(const Graph& graph, ValueId value) {
  const TensorType& type = graph.type(value);
  const Node* node = graph.FindProducer(value);
  bool narrows = node != nullptr && node->op->name == "cast" && IsFloat(type.dtype);
  if (narrows) node = graph.FindProducer(node->inputs[0]);
  bool is_mul = node != nullptr && node->op->name == "mul";
  if (node == nullptr || (!is_mul && node->op->name != "div")) return std::nullopt;
  std::optional<double> number = FindScalar(graph, node->inputs[1]);
  ValueId x = node->inputs[0];
  if (const Node* widens = narrows ? FindNode(graph, x, "cast") : nullptr) x = widens->inputs[0];
  const TensorType& from = graph.type(x);
  if (!number || from.dims != type.dims || from.dtype != type.dtype) return std::nullopt;
  return Scaled{.x = x, .number = is_mul ? *number : 1 / *number};
}

bool IsMovedAlike(const Node* node) {
  return node != nullptr && (node->op->name == "reshape" || node->op->name == "permute");
}

double FindFactor(const Graph& graph, ValueId value) {
  const Node* node = graph.FindProducer(value);
  if (IsMovedAlike(node)) return FindFactor(graph, node->inputs[0]);
  std::optional<Scaled> scaled = FindScaled(graph, value);
  return scaled ? scaled->number * FindFactor(graph, scaled->x) : 1;
}

// `value` without the factor that FindFactor finds, the views on the way made again.
ValueId WithoutFactor(Rewriter& rewriter, ValueId value) {
  const Graph& graph = rewriter.graph();
  if (FindFactor(graph, value) == 1) return value;
  const Node* node = graph.FindProducer(value);
  if (IsMovedAlike(node)) {
    ValueId inner = WithoutFactor(rewriter, node->inputs[0]);
    return rewriter.Add(node->op->name, {inner}, node->attrs);
  }
  return WithoutFactor(rewriter, FindScaled(graph, value)->x);
}

ValueId Reshape(Rewriter& rewriter, ValueId value, Dims dims) {
  if (rewriter.graph().type(value).dims == dims) return value;
  return rewriter.Add("reshape", {value}, {{"dims", std::move(dims)}});
}

ValueId Permute(Rewriter& rewriter, ValueId value, int rank) {
  Dims perm;
  for (int i = 0; i < rank - 2; ++i) perm.push_back(i);
  perm.push_back(rank - 1), perm.push_back(rank - 2);
  const Node* inner = FindNode(rewriter.graph(), value, "permute");
  if (inner != nullptr && inner->attrs.GetDims("perm") == perm) return inner->inputs[0];
  return rewriter.Add("permute", {value}, {{"perm", perm}});
}

bool IsMaskUsable(const Graph& graph, const Pattern& pattern, DType dtype) {
  if (!pattern.mask.valid()) return true;
  bool has_usable_bias = !pattern.bias.valid() ||
                         (graph.type(pattern.bias).dtype == dtype && IsFinite(graph, pattern.bias));
  if (!has_usable_bias) return false;
  const TensorType& mask = graph.type(pattern.mask);
  if (mask.dtype != DType::kBool && mask.dtype != dtype) return false;
  if (pattern.safe) return true;
  if (const Value* literal = FindMaskLiteral(graph, pattern.mask)) {
    return LeavesKeys(*literal, pattern.mask_inverted);
  }
  return mask.dtype != DType::kBool && IsFinite(graph, pattern.mask);
}

ValueId MatchProduct(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  Pattern pattern;
  if (!MatchSoftmax(graph, node.inputs[0], pattern) || !MatchScores(graph, pattern)) return {};
  ValueId q = pattern.scores->inputs[0], k = pattern.scores->inputs[1], v = node.inputs[1];
  const TensorType &q_type = graph.type(q), &v_type = graph.type(v);
  Dims lead(pattern.dims.begin(), pattern.dims.end() - 2);
  Dim length = pattern.dims.end()[-2], keys = pattern.dims.back();
  Dim width = q_type.dims.back(), value_width = v_type.dims.back(), count = NumElements(lead);
  bool fits = count != Dim(0) && q_type.num_elements() == count * length * width &&
              graph.type(k).num_elements() == count * width * keys &&
              v_type.num_elements() == count * keys * value_width && v_type.dtype == q_type.dtype &&
              IsFloat(q_type.dtype) &&
              graph.type(node.outputs[0]).num_elements() == count * length * value_width;
  if (!fits || !IsMaskUsable(graph, pattern, q_type.dtype) || !rewriter.Start()) return {};

  if (lead.empty()) lead = {1};
  auto with = [&](Dim rows, Dim columns) {
    Dims dims = lead;
    dims.push_back(rows), dims.push_back(columns);
    return dims;
  };
  double scale = pattern.scale * FindFactor(graph, q) * FindFactor(graph, k);
  q = Reshape(rewriter, WithoutFactor(rewriter, q), with(length, width));
  k = WithoutFactor(rewriter, k);
  const Node* merged = FindNode(graph, k, "reshape");
  Dims k_dims = with(width, keys);
  bool was_split = merged != nullptr && graph.type(merged->inputs[0]).dims == k_dims;
  k = was_split ? merged->inputs[0] : Reshape(rewriter, k, k_dims);
  k = Permute(rewriter, k, static_cast<int>(k_dims.size()));
  v = Reshape(rewriter, v, with(keys, value_width));
  std::vector<ValueId> inputs = {q, k, v};
  if (pattern.mask.valid()) {
    ValueId mask = pattern.mask;
    if (pattern.bias.valid()) {
      const TensorType& bias = graph.type(pattern.bias);
      Dims dims(bias.dims.end() - std::min<int>(bias.rank(), pattern.common), bias.dims.end());
      mask = rewriter.Add("add", {mask, Reshape(rewriter, pattern.bias, std::move(dims))});
    }
    inputs.push_back(pattern.mask_inverted ? rewriter.Add("logical_not", {mask}) : mask);
  }
  ValueId y = rewriter.Add("attention", std::move(inputs), {{"causal", false}, {"scale", scale}});
  return Reshape(rewriter, y, graph.type(node.outputs[0]).dims);
}

constexpr Rule kRules[] = {{"matmul", MatchProduct}};

}  // namespace

bool MatchAttention(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
