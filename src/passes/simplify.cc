// Simplify: algebra on single nodes.
//
//   %0 = mul(2.0, %x)            %0 = mul(%x, 2.0)
//   %1 = div(%0, 1.0)       ->   %1 = square(%0)
//   %2 = pow(%1, 2.0)            return %1
//   return %2
//
// Invariant: results stay what IEEE 754 says they are, NaN, infinities and the sign of zero
// included: x + 0 is kept (it turns -0 into +0), x * 0 is kept for floats (NaN), and factors merge
// only where no rounding can differ.
#include <algorithm>
#include <cmath>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

bool HasTypeOf(const Graph& graph, ValueId value, const Node& node) {
  const TensorType &a = graph.type(value), &b = graph.type(node.outputs[0]);
  return a.dtype == b.dtype && a.dims == b.dims;
}

// `value` in place of the node when their types agree.
ValueId ReplaceBy(Rewriter& rewriter, const Node& node, ValueId value) {
  bool fits = value.valid() && HasTypeOf(rewriter.graph(), value, node);
  return fits && rewriter.Start() ? value : ValueId{};
}

bool IsPowerOfTwo(double value) {
  int exponent = 0;
  return std::isfinite(value) && std::abs(std::frexp(value, &exponent)) == 0.5;
}

ValueId Scalar(Rewriter& rewriter, DType dtype, double value) {
  return AddScalar(rewriter.graph(), dtype, value);
}

// f(c, x) = f(x, c) for a commutative f: constants stand on the right, where rules look for them.
ValueId ConstantsToTheRight(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!node.op->Is(kCommutative) || !IsConstantValue(graph, node.inputs[0]) ||
      IsConstantValue(graph, node.inputs[1]) || !rewriter.Start()) {
    return {};
  }
  return rewriter.Add(node.op->name, {node.inputs[1], node.inputs[0]}, node.attrs);
}

// x + -0 = x; integers: x + 0 = x
ValueId AddZero(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  bool is_float = IsFloat(graph.type(node.outputs[0]).dtype);
  std::optional<double> zero = FindScalar(graph, node.inputs[1]);
  bool matches = zero == 0.0 && (!is_float || std::signbit(*zero));
  return matches ? ReplaceBy(rewriter, node, node.inputs[0]) : ValueId{};
}

// x - 0 = x
ValueId SubZero(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  std::optional<double> zero = FindScalar(graph, node.inputs[1]);
  bool matches = zero == 0.0 && !std::signbit(*zero);
  return matches ? ReplaceBy(rewriter, node, node.inputs[0]) : ValueId{};
}

// x * 1 = x; x / 1 = x
ValueId ByOne(Rewriter& rewriter, const Node& node) {
  bool matches = IsScalar(rewriter.graph(), node.inputs[1], 1.0);
  return matches ? ReplaceBy(rewriter, node, node.inputs[0]) : ValueId{};
}

// x * -1 = -x; x / -1 = -x
ValueId ByMinusOne(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  bool matches = IsScalar(graph, node.inputs[1], -1.0) && HasTypeOf(graph, node.inputs[0], node);
  return matches && rewriter.Start() ? rewriter.Add("neg", {node.inputs[0]}) : ValueId{};
}

// integers: x * 0 = 0
ValueId MulByZero(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  bool matches =
      !IsFloat(graph.type(node.outputs[0]).dtype) && IsScalar(graph, node.inputs[1], 0.0);
  return matches ? ReplaceBy(rewriter, node, node.inputs[1]) : ValueId{};
}

// x / c = x * (1 / c) where 1 / c is exact: c a power of two whose inverse is a normal number
ValueId DivByPowerOfTwo(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const TensorType& type = graph.type(node.outputs[0]);
  constexpr double kLimit = 8192;  // 2^13: its inverse is normal in f16 too
  std::optional<double> divisor = FindScalar(graph, node.inputs[1]);
  bool matches = divisor && IsPowerOfTwo(*divisor) && std::abs(*divisor) <= kLimit &&
                 std::abs(*divisor) >= 1 / kLimit && graph.type(node.inputs[0]).dims == type.dims;
  if (!matches || !rewriter.Start()) return {};
  return rewriter.Add("mul", {node.inputs[0], Scalar(rewriter, type.dtype, 1 / *divisor)});
}

// (x * c) * d = x * (c * d) where neither product rounds: powers of two, both >= 1
ValueId MergeFactors(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* inner = FindNode(graph, node.inputs[0], "mul");
  if (inner == nullptr || !IsFloat(graph.type(node.outputs[0]).dtype)) return {};
  std::optional<double> c = FindScalar(graph, inner->inputs[1]);
  std::optional<double> d = FindScalar(graph, node.inputs[1]);
  auto exact = [](std::optional<double> factor) {
    constexpr double kLimit = 128;  // 2^7: the product of two is finite in f16 too
    return factor && IsPowerOfTwo(*factor) && std::abs(*factor) >= 1 && std::abs(*factor) <= kLimit;
  };
  bool matches = exact(c) && exact(d) && HasTypeOf(graph, inner->inputs[0], node);
  if (!matches || !rewriter.Start()) return {};
  DType dtype = graph.type(node.outputs[0]).dtype;
  return rewriter.Add("mul", {inner->inputs[0], Scalar(rewriter, dtype, *c * *d)});
}

// x * x = square(x)
ValueId MulBySelf(Rewriter& rewriter, const Node& node) {
  bool matches = node.inputs[0] == node.inputs[1];
  return matches && rewriter.Start() ? rewriter.Add("square", {node.inputs[0]}) : ValueId{};
}

// pow(x, c) for the exponents that torch computes without pow (ATen/native/cpu/PowKernel.cpp)
ValueId PowByLiteral(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  ValueId x = node.inputs[0];
  std::optional<double> exponent = FindScalar(graph, node.inputs[1]);
  if (!exponent || !HasTypeOf(graph, x, node)) return {};
  bool is_float = IsFloat(graph.type(x).dtype);
  bool known =
      *exponent == 1 || *exponent == 2 || *exponent == 3 ||
      (is_float && (*exponent == 0.5 || *exponent == -0.5 || *exponent == -1 || *exponent == -2));
  if (!known || !rewriter.Start()) return {};
  if (*exponent == 1) return x;
  if (*exponent == 2) return rewriter.Add("square", {x});
  if (*exponent == 3) return rewriter.Add("mul", {rewriter.Add("square", {x}), x});
  if (*exponent == 0.5) return rewriter.Add("sqrt", {x});
  if (*exponent == -0.5) return rewriter.Add("rsqrt", {x});
  if (*exponent == -1) return rewriter.Add("reciprocal", {x});
  return rewriter.Add("reciprocal", {rewriter.Add("square", {x})});
}

// neg(neg(x)) = x; f(f(x)) = f(x) for f in abs, relu, floor, ceil, trunc, round
ValueId Twice(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], node.op->name);
  if (inner == nullptr) return {};
  bool inverse = node.op->name == "neg";
  return ReplaceBy(rewriter, node, inverse ? inner->inputs[0] : node.inputs[0]);
}

// 1 / sqrt(x) = rsqrt(x), whose scalar body says just that
ValueId ReciprocalOfSqrt(Rewriter& rewriter, const Node& node) {
  const Node* sqrt = FindNode(rewriter.graph(), node.inputs[0], "sqrt");
  return sqrt != nullptr && rewriter.Start() ? rewriter.Add("rsqrt", {sqrt->inputs[0]}) : ValueId{};
}

// not not x = x for bool
ValueId NotNot(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], "logical_not");
  return inner != nullptr ? ReplaceBy(rewriter, node, inner->inputs[0]) : ValueId{};
}

// bools: x and true = x; x or false = x
ValueId LogicWithLiteral(Rewriter& rewriter, const Node& node) {
  bool is_and = node.op->name == "logical_and" || node.op->name == "bitwise_and";
  bool matches = rewriter.graph().type(node.inputs[0]).dtype == DType::kBool &&
                 IsScalar(rewriter.graph(), node.inputs[1], is_and ? 1 : 0);
  return matches ? ReplaceBy(rewriter, node, node.inputs[0]) : ValueId{};
}

// where(not c, x, y) = where(c, y, x)
ValueId WhereNot(Rewriter& rewriter, const Node& node) {
  const Node* inner = FindNode(rewriter.graph(), node.inputs[0], "logical_not");
  bool matches = inner != nullptr && rewriter.graph().type(inner->inputs[0]).dtype == DType::kBool;
  if (!matches || !rewriter.Start()) return {};
  return rewriter.Add("where", {inner->inputs[0], node.inputs[2], node.inputs[1]});
}

// where(true, x, y) = x; where(false, x, y) = y
ValueId WhereLiteral(Rewriter& rewriter, const Node& node) {
  std::optional<double> condition = FindScalar(rewriter.graph(), node.inputs[0]);
  return condition ? ReplaceBy(rewriter, node, node.inputs[*condition != 0 ? 1 : 2]) : ValueId{};
}

// Whether each value of `from` has an exact and equal spelling in `to`.
bool IsWider(DType from, DType to) {
  auto bits = [](DType dtype) -> int {  // of an exact integer, sign excluded
    switch (dtype) {
      case DType::kBool: return 1;
      case DType::kUInt8: return 8;
      case DType::kFloat16: return 11;
      case DType::kBFloat16: return 8;
      case DType::kFloat32: return 24;
      case DType::kFloat64: return 53;
      default: return static_cast<int>(8 * DTypeSize(dtype)) - 1;
    }
  };
  if (from == to) return true;
  if (IsFloat(from))
    return to == DType::kFloat64 || (to == DType::kFloat32 && DTypeSize(from) == 2);
  bool is_signed = from != DType::kBool && from != DType::kUInt8;
  bool can_sign = to != DType::kBool && to != DType::kUInt8;
  return bits(from) <= bits(to) && (!is_signed || can_sign);
}

// cast(x: T, T) = x; cast(cast(x, wider), U) = cast(x, U)
ValueId CastOfCast(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (HasTypeOf(graph, node.inputs[0], node)) return ReplaceBy(rewriter, node, node.inputs[0]);
  const Node* inner = FindNode(graph, node.inputs[0], "cast");
  if (inner == nullptr) return {};
  bool matches = IsWider(graph.type(inner->inputs[0]).dtype, graph.type(node.inputs[0]).dtype);
  return matches && rewriter.Start() ? rewriter.Add("cast", {inner->inputs[0]}, node.attrs)
                                     : ValueId{};
}

// minimum(maximum(x, a), b) = hardtanh(x, a, b), for NaN too
ValueId MinOfMax(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* max = FindNode(graph, node.inputs[0], "maximum");
  if (max == nullptr || CountUses(graph, node.inputs[0]) != 1) return {};
  std::optional<double> low = FindScalar(graph, max->inputs[1]);
  std::optional<double> high = FindScalar(graph, node.inputs[1]);
  bool matches = low && high && HasTypeOf(graph, max->inputs[0], node) &&
                 graph.type(node.outputs[0]).dtype != DType::kBool;
  if (!matches || !rewriter.Start()) return {};
  return rewriter.Add("hardtanh", {max->inputs[0]}, {{"min", *low}, {"max", *high}});
}

// minimum(relu(x), b) = hardtanh(x, 0, b)
ValueId MinOfRelu(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* relu = FindNode(graph, node.inputs[0], "relu");
  std::optional<double> high = FindScalar(graph, node.inputs[1]);
  bool matches = relu != nullptr && high && CountUses(graph, node.inputs[0]) == 1 &&
                 HasTypeOf(graph, relu->inputs[0], node);
  if (!matches || !rewriter.Start()) return {};
  return rewriter.Add("hardtanh", {relu->inputs[0]}, {{"min", 0.0}, {"max", *high}});
}

// maximum(x, 0) = relu(x); hardtanh(x, 0, inf) = relu(x)
ValueId MaxWithZero(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  bool matches = node.op->name == "maximum"
                     ? IsScalar(graph, node.inputs[1], 0.0)
                     : node.attrs.GetFloat("min") == 0 && std::isinf(node.attrs.GetFloat("max")) &&
                           node.attrs.GetFloat("max") > 0;
  matches = matches && HasTypeOf(graph, node.inputs[0], node) &&
            graph.type(node.outputs[0]).dtype != DType::kBool;
  return matches && rewriter.Start() ? rewriter.Add("relu", {node.inputs[0]}) : ValueId{};
}

// f(expand(x), y) = f(x, y) where y alone gives the result its sizes: pointwise nodes broadcast
ValueId DropExpand(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!node.op->Is(kPointwise) || node.inputs.size() < 2) return {};
  const Dims& dims = graph.type(node.outputs[0]).dims;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Node* expand = FindNode(graph, node.inputs[i], "expand");
    if (expand == nullptr) continue;
    std::vector<ValueId> inputs = node.inputs;
    inputs[i] = expand->inputs[0];
    std::vector<const TensorType*> types;
    for (ValueId input : inputs) types.push_back(&graph.type(input));
    if (node.op->infer({.inputs = types, .attrs = node.attrs})[0].dims != dims) continue;
    return rewriter.Start() ? rewriter.Add(node.op->name, std::move(inputs), node.attrs)
                            : ValueId{};
  }
  return {};
}

// f(expand(x)) = expand(f(x)): fewer elements are computed
ValueId SinkExpand(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!node.op->Is(kPointwise) || node.inputs.size() != 1) return {};
  const Node* expand = FindNode(graph, node.inputs[0], "expand");
  if (expand == nullptr || !rewriter.Start()) return {};
  return rewriter.Add("expand", {rewriter.Add(node.op->name, {expand->inputs[0]}, node.attrs)},
                      expand->attrs);
}

// A sum, mean, ... over no dims, or over dims of size 1 that stay, of x is x.
ValueId ReduceNothing(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Dims& dims = graph.type(node.inputs[0]).dims;
  for (int64_t axis : node.attrs.GetInts("axes")) {
    if (dims[axis] != Dim(1)) return {};
  }
  return ReplaceBy(rewriter, node, node.inputs[0]);
}

// A pad by nothing is what it pads.
ValueId PadByNothing(Rewriter& rewriter, const Node& node) {
  const Dims& pads = node.attrs.GetDims("pads");
  bool matches = std::ranges::all_of(pads, [](const Dim& pad) { return pad == Dim(0); });
  return matches ? ReplaceBy(rewriter, node, node.inputs[0]) : ValueId{};
}

// adaptive_avg_pool over sizes that its output's divide = avg_pool, whose windows are all alike
ValueId AdaptiveToAvgPool(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Dims &x = graph.type(node.inputs[0]).dims, &y = graph.type(node.outputs[0]).dims;
  Dims kernel;
  for (size_t i = 2; i < x.size(); ++i) {
    bool divides = x[i].is_static() && y[i].is_static() && y[i].value() > 0 && x[i].value() > 0 &&
                   x[i].value() % y[i].value() == 0;
    if (!divides) return {};
    kernel.push_back(x[i].value() / y[i].value());
  }
  if (!rewriter.Start()) return {};
  return rewriter.Add("avg_pool", {node.inputs[0]},
                      {{"kernel", kernel},
                       {"stride", kernel},
                       {"padding", Dims(kernel.size(), Dim(0))},
                       {"ceil_mode", false},
                       {"count_include_pad", false},
                       {"divisor_override", Dim(0)}});
}

constexpr Rule kRules[] = {
    {"", ConstantsToTheRight},
    {"add", AddZero},
    {"sub", SubZero},
    {"mul", ByOne},
    {"div", ByOne},
    {"mul", ByMinusOne},
    {"div", ByMinusOne},
    {"mul", MulByZero},
    {"div", DivByPowerOfTwo},
    {"mul", MergeFactors},
    {"mul", MulBySelf},
    {"pow", PowByLiteral},
    {"neg", Twice},
    {"abs", Twice},
    {"relu", Twice},
    {"floor", Twice},
    {"ceil", Twice},
    {"trunc", Twice},
    {"round", Twice},
    {"reciprocal", ReciprocalOfSqrt},
    {"logical_not", NotNot},
    {"logical_and", LogicWithLiteral},
    {"bitwise_and", LogicWithLiteral},
    {"logical_or", LogicWithLiteral},
    {"bitwise_or", LogicWithLiteral},
    {"where", WhereNot},
    {"where", WhereLiteral},
    {"cast", CastOfCast},
    {"minimum", MinOfMax},
    {"minimum", MinOfRelu},
    {"maximum", MaxWithZero},
    {"hardtanh", MaxWithZero},
    {"", DropExpand},
    {"", SinkExpand},
    {"adaptive_avg_pool", AdaptiveToAvgPool},
    {"pad", PadByNothing},
    {"sum", ReduceNothing},
    {"mean", ReduceNothing},
    {"prod", ReduceNothing},
    {"amax", ReduceNothing},
    {"amin", ReduceNothing},
};

}  // namespace

bool Simplify(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
