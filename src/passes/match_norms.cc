// MatchNorms: layer and RMS norms spelled out in reductions become one node.
//
//   %0 = mean(%x) {axes = [1], keepdim = true}
//   %1 = sub(%x, %0)
//   %2 = mean(square(%1)) {axes = [1], keepdim = true}
//   %3 = rsqrt(add(%2, 1e-05))                             ->   %0 = layer_norm(%x, %w, %b)
//   %4 = mul(%1, %3)                                              {eps = 1e-05, num_dims = 1}
//   %5 = mul(%4, %w)
//   %6 = add(%5, %b)
//
// One rowwise kernel reads a row once, where the spelled-out form is two reductions and a pointwise
// kernel. Only norms over the last dims match.
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// How many last dims of `x` the reduction runs over; 0 when it runs over others.
int CountLastAxes(const Graph& graph, const Node& reduce) {
  if (!reduce.attrs.GetBool("keepdim")) return 0;
  int rank = graph.type(reduce.inputs[0]).rank();
  std::vector<int64_t> axes = reduce.attrs.GetInts("axes");
  std::sort(axes.begin(), axes.end());
  int count = static_cast<int>(axes.size());
  for (int i = 0; i < count; ++i) {
    if (axes[i] != rank - count + i) return 0;
  }
  return count;
}

struct Norm {
  ValueId x;
  bool centred = false;
  int num_dims = 0;
  double eps = 0;
};

// mean(square(x)) over last dims, or var(x) without correction.
bool MatchSquares(const Graph& graph, ValueId value, ValueId numerator, Norm& norm) {
  const Node* centre = FindNode(graph, numerator, "sub");
  const Node* mean = centre != nullptr ? FindNode(graph, centre->inputs[1], "mean") : nullptr;
  if (mean != nullptr && mean->inputs[0] == centre->inputs[0]) {
    norm.x = centre->inputs[0];
    norm.centred = true;
    norm.num_dims = CountLastAxes(graph, *mean);
  } else {
    norm.x = numerator;
  }
  const Node* var = FindNode(graph, value, "var");
  if (var != nullptr) {
    return norm.centred && var->inputs[0] == norm.x && var->attrs.GetFloat("correction") == 0 &&
           CountLastAxes(graph, *var) == norm.num_dims;
  }
  const Node* squares = FindNode(graph, value, "mean");
  const Node* square = squares != nullptr ? FindNode(graph, squares->inputs[0], "square") : nullptr;
  if (square == nullptr || square->inputs[0] != numerator) return false;
  int count = CountLastAxes(graph, *squares);
  if (!norm.centred) norm.num_dims = count;
  return count == norm.num_dims;
}

// numerator * rsqrt(squares + eps), or numerator / sqrt(squares + eps)
ValueId MatchNormalise(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  std::string_view root = node.op->name == "mul" ? "rsqrt" : "sqrt";
  for (int i : {1, 0}) {
    if (i == 0 && node.op->name == "div") return {};
    const Node* scale = FindNode(graph, node.inputs[i], root);
    const Node* add = scale != nullptr ? FindNode(graph, scale->inputs[0], "add") : nullptr;
    std::optional<double> eps = add != nullptr ? FindScalar(graph, add->inputs[1]) : std::nullopt;
    if (!eps) continue;
    Norm norm{.eps = *eps};
    bool matches = MatchSquares(graph, add->inputs[0], node.inputs[1 - i], norm) &&
                   norm.num_dims > 0 && graph.type(norm.x).dims == graph.type(node.outputs[0]).dims;
    if (!matches) continue;
    if (!rewriter.Start()) return {};
    return rewriter.Add(norm.centred ? "layer_norm" : "rms_norm", {norm.x},
                        {{"num_dims", Dim(norm.num_dims)}, {"eps", norm.eps}});
  }
  return {};
}

// Whether `value` has the dims that the norm runs over, as its weight and bias do.
bool FitsNorm(const Graph& graph, ValueId value, const Node& norm) {
  const Dims& x = graph.type(norm.inputs[0]).dims;
  return graph.type(value).dims == Dims(x.end() - norm.attrs.GetInt("num_dims"), x.end());
}

// norm(x) * w = norm(x, w)
ValueId MatchWeight(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  for (int i : {0, 1}) {
    const Node* norm = FindNode(graph, node.inputs[i], "layer_norm");
    if (norm == nullptr) norm = FindNode(graph, node.inputs[i], "rms_norm");
    bool matches = norm != nullptr && norm->inputs.size() == 1 &&
                   CountUses(graph, node.inputs[i]) == 1 &&
                   FitsNorm(graph, node.inputs[1 - i], *norm);
    if (!matches) continue;
    if (!rewriter.Start()) return {};
    return rewriter.Add(norm->op->name, {norm->inputs[0], node.inputs[1 - i]}, norm->attrs);
  }
  return {};
}

// layer_norm(x, w) + b = layer_norm(x, w, b)
ValueId MatchBias(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  for (int i : {0, 1}) {
    const Node* norm = FindNode(graph, node.inputs[i], "layer_norm");
    bool matches = norm != nullptr && norm->inputs.size() == 2 &&
                   CountUses(graph, node.inputs[i]) == 1 &&
                   FitsNorm(graph, node.inputs[1 - i], *norm);
    if (!matches) continue;
    if (!rewriter.Start()) return {};
    return rewriter.Add("layer_norm", {norm->inputs[0], norm->inputs[1], node.inputs[1 - i]},
                        norm->attrs);
  }
  return {};
}

constexpr Rule kRules[] = {
    {"mul", MatchNormalise}, {"div", MatchNormalise}, {"mul", MatchWeight}, {"add", MatchBias}};

}  // namespace

bool MatchNorms(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
