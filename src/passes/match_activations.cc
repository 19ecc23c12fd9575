// MatchActivations: activations spelled out in arithmetic become one node.
//
//   %0 = mul(%x, 0.5)
//   %1 = mul(%x, 0.70710677)
//   %2 = erf(%1)                 ->    %0 = gelu(%x)
//   %3 = add(%2, 1.0)
//   %4 = mul(%0, %3)
//
// One node has one rounding less, one scalar body, and fits an epilogue, where a value with two
// readers would end the chain. Constants match to a relative 1e-6: they are given in f32, to which
// and from which narrower values are cast for a product with one that they cannot hold.
#include <cmath>
#include <vector>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr double kSqrt2OverPi = 0.79788456080286535588;
constexpr double kRsqrt2 = 0.70710678118654752440;
constexpr double kGeluCubic = 0.044715;

bool IsNear(double value, double expected) {
  return std::abs(value - expected) <= 1e-6 * std::abs(expected);
}

// A product: a number times values. Nested mul, div by a number, and square are multiplied out,
// casts between floats looked through, until there are more factors than any activation has.
constexpr size_t kMaxFactors = 4;
struct Product {
  double number = 1;
  std::vector<ValueId> factors;
};

void Collect(const Graph& graph, ValueId value, Product& product) {
  if (product.factors.size() > kMaxFactors) return;
  const Node* node = graph.FindProducer(value);
  if (node != nullptr && (node->op->name == "mul" || node->op->name == "div")) {
    bool inverse = node->op->name == "div";
    if (std::optional<double> number = FindScalar(graph, node->inputs[1])) {
      product.number = inverse ? product.number / *number : product.number * *number;
      return Collect(graph, node->inputs[0], product);
    }
    if (!inverse) {
      Collect(graph, node->inputs[0], product);
      return Collect(graph, node->inputs[1], product);
    }
  }
  if (node != nullptr && node->op->name == "cast" && IsFloat(graph.type(value).dtype) &&
      IsFloat(graph.type(node->inputs[0]).dtype)) {
    return Collect(graph, node->inputs[0], product);
  }
  if (node != nullptr && node->op->name == "square") {
    Collect(graph, node->inputs[0], product);
    return Collect(graph, node->inputs[0], product);
  }
  product.factors.push_back(value);
}

Product MakeProduct(const Graph& graph, ValueId value) {
  Product product;
  Collect(graph, value, product);
  return product;
}

// Whether `value` is number * x^power.
bool IsPower(const Graph& graph, ValueId value, double number, ValueId x, size_t power) {
  Product product = MakeProduct(graph, value);
  bool same = product.factors.size() == power && IsNear(product.number, number);
  for (ValueId factor : product.factors) same = same && factor == x;
  return same;
}

// `value` = 1 + y, or y where y is wanted: the y; else invalid.
ValueId FindPlusOne(const Graph& graph, ValueId value) {
  const Node* add = FindNode(graph, value, "add");
  return add != nullptr ? FindOther(graph, *add, 1.0) : ValueId{};
}

// Whether `value` is x + kGeluCubic * x^3, up to the factor `number`.
bool IsGeluPolynomial(const Graph& graph, const Product& product, ValueId x) {
  if (product.factors.size() == 1 && IsNear(product.number, kSqrt2OverPi)) {
    const Node* add = FindNode(graph, product.factors[0], "add");
    if (add == nullptr) return false;
    for (int i : {0, 1}) {
      if (add->inputs[i] == x && IsPower(graph, add->inputs[1 - i], kGeluCubic, x, 3)) return true;
    }
  }
  if (product.factors.size() == 2 && IsNear(product.number, kSqrt2OverPi)) {
    for (int i : {0, 1}) {
      if (product.factors[i] != x) continue;
      ValueId square = FindPlusOne(graph, product.factors[1 - i]);
      if (square.valid() && IsPower(graph, square, kGeluCubic, x, 2)) return true;
    }
  }
  return false;
}

// x/2 * (1 + erf(x / sqrt(2))) = gelu(x); x/2 * (1 + tanh(...)) = gelu_tanh(x)
ValueId MatchGelu(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  Product product = MakeProduct(graph, node.outputs[0]);
  if (product.factors.size() != 2 || product.number != 0.5) return {};
  for (int i : {0, 1}) {
    ValueId x = product.factors[i];
    ValueId inner = FindPlusOne(graph, product.factors[1 - i]);
    const TensorType &type = graph.type(x), &result = graph.type(node.outputs[0]);
    bool same = type.dims == result.dims && type.dtype == result.dtype;
    if (!inner.valid() || !same || !IsFloat(type.dtype)) continue;
    const Node *erf = FindNode(graph, inner, "erf"), *tanh = FindNode(graph, inner, "tanh");
    if (erf != nullptr && IsPower(graph, erf->inputs[0], kRsqrt2, x, 1)) {
      return rewriter.Start() ? rewriter.Add("gelu", {x}) : ValueId{};
    }
    if (tanh != nullptr && IsGeluPolynomial(graph, MakeProduct(graph, tanh->inputs[0]), x)) {
      return rewriter.Start() ? rewriter.Add("gelu_tanh", {x}) : ValueId{};
    }
  }
  return {};
}

// hardtanh(x + 3, 0, 6) / 6 = hardsigmoid(x)
ValueId MatchHardsigmoid(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  Product product = MakeProduct(graph, node.outputs[0]);
  if (product.factors.size() != 1 || !IsNear(product.number, 1.0 / 6.0)) return {};
  const Node* clip = FindNode(graph, product.factors[0], "hardtanh");
  if (clip == nullptr || clip->attrs.GetFloat("min") != 0 || clip->attrs.GetFloat("max") != 6) {
    return {};
  }
  const Node* add = FindNode(graph, clip->inputs[0], "add");
  ValueId x = add != nullptr ? FindOther(graph, *add, 3.0) : ValueId{};
  const TensorType& result = graph.type(node.outputs[0]);
  bool matches = x.valid() && IsFloat(result.dtype) && graph.type(x).dtype == result.dtype &&
                 graph.type(x).dims == result.dims;
  return matches && rewriter.Start() ? rewriter.Add("hardsigmoid", {x}) : ValueId{};
}

// x * f(x): silu for sigmoid, hardswish for hardsigmoid
ValueId MatchGated(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  for (int i : {0, 1}) {
    for (auto [gate, result] :
         {std::pair{"sigmoid", "silu"}, std::pair{"hardsigmoid", "hardswish"}}) {
      const Node* inner = FindNode(graph, node.inputs[1 - i], gate);
      if (inner == nullptr || inner->inputs[0] != node.inputs[i]) continue;
      return rewriter.Start() ? rewriter.Add(result, {node.inputs[i]}) : ValueId{};
    }
  }
  return {};
}

// x * (hardtanh(x + 3, 0, 6) / 6) = hardswish(x) in any order of its factors
ValueId MatchHardswish(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  Product product = MakeProduct(graph, node.outputs[0]);
  if (product.factors.size() != 2 || !IsNear(product.number, 1.0 / 6.0)) return {};
  for (int i : {0, 1}) {
    ValueId x = product.factors[i];
    const Node* clip = FindNode(graph, product.factors[1 - i], "hardtanh");
    if (clip == nullptr || clip->attrs.GetFloat("min") != 0 || clip->attrs.GetFloat("max") != 6) {
      continue;
    }
    const Node* add = FindNode(graph, clip->inputs[0], "add");
    DType dtype = graph.type(x).dtype;
    if (add == nullptr || FindOther(graph, *add, 3.0) != x || !IsFloat(dtype) ||
        dtype != graph.type(node.outputs[0]).dtype) {
      continue;
    }
    return rewriter.Start() ? rewriter.Add("hardswish", {x}) : ValueId{};
  }
  return {};
}

constexpr Rule kRules[] = {
    {"mul", MatchGelu},        {"mul", MatchHardswish},   {"div", MatchHardswish},
    {"mul", MatchHardsigmoid}, {"div", MatchHardsigmoid}, {"mul", MatchGated},
};

}  // namespace

bool MatchActivations(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
