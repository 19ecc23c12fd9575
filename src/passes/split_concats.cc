// SplitConcats: a sum of products over a concat is computed part by part, as rotary position
// embeddings are:
//
//   %0 = concat(%a, %b) {dim = 1} : f32[4, 8]
//   %1 = mul(%p, %q)
//   %2 = mul(%0, %s)
//   %3 = add(%1, %2)
// becomes, with %0 to %2 the first halves of %p, %q and %s and %3 to %5 the second ones,
//   %8 = add(mul(%0, %1), mul(%a, %2))
//   %9 = add(mul(%3, %4), mul(%b, %5))
//   %10 = concat(%8, %9) {dim = 1}
//
// What makes %a and %b joins these kernels, and each writes its part of the result in place: two
// launches where there were five. For CUDA, where a launch costs as much as such a kernel.
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// The part [start, end) along `dim` of a value that is broadcast to `rank` dims.
ValueId Slice(Rewriter& rewriter, ValueId value, size_t rank, size_t dim, const Dim& start,
              const Dim& end) {
  const TensorType& type = rewriter.graph().type(value);
  size_t missing = rank - type.rank();
  if (dim < missing || type.dims[dim - missing] == Dim(1)) return value;
  return rewriter.Add("slice", {value},
                      {{"dim", Dim(static_cast<int64_t>(dim - missing))},
                       {"start", start},
                       {"end", end},
                       {"step", Dim(1)}});
}

const Node* FindOnlyReader(const Graph& graph, ValueId value, std::string_view op) {
  return CountUses(graph, value) == 1 ? FindNode(graph, value, op) : nullptr;
}

ValueId SplitSum(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  for (int i : {0, 1}) {
    const Node* product = FindOnlyReader(graph, node.inputs[i], "mul");
    const Node* other = FindOnlyReader(graph, node.inputs[1 - i], "mul");
    if (product == nullptr || other == nullptr) continue;
    for (int j : {0, 1}) {
      const Node* concat = FindOnlyReader(graph, product->inputs[j], "concat");
      const TensorType type = graph.type(node.outputs[0]);
      if (concat == nullptr || graph.type(concat->outputs[0]).dims != type.dims) continue;
      if (!rewriter.Start()) return {};
      size_t dim = concat->attrs.GetInt("dim");
      std::vector<ValueId> parts, inputs = concat->inputs;
      ValueId factor = product->inputs[1 - j];
      std::vector<ValueId> factors = other->inputs;
      Dim start = 0;
      for (ValueId input : inputs) {
        Dim end = start + graph.type(input).dims[dim];
        auto slice = [&](ValueId value) {
          return Slice(rewriter, value, type.rank(), dim, start, end);
        };
        ValueId scaled[2], terms[2];
        scaled[j] = input;
        scaled[1 - j] = slice(factor);
        ValueId left = slice(factors[0]), right = slice(factors[1]);
        terms[i] = rewriter.Add("mul", {scaled[0], scaled[1]});
        terms[1 - i] = rewriter.Add("mul", {left, right});
        parts.push_back(rewriter.Add("add", {terms[0], terms[1]}));
        start = end;
      }
      return rewriter.Add("concat", std::move(parts), {{"dim", Dim(static_cast<int64_t>(dim))}});
    }
  }
  return {};
}

constexpr Rule kRules[] = {{"add", SplitSum}};

}  // namespace

bool SplitConcats(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
