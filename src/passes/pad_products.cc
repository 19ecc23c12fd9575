// PadProducts: products with a constant matrix of an odd number of columns get more of them.
//
//   %0 = matmul(%x, %w) : f16[64, 1021]
//   ->
//   %0 = pad(%w) {mode = "constant", pads = [0, 0, 0, 3], value = 0.0} : f16[96, 1024]
//   %1 = matmul(%x, %0) : f16[64, 1024]
//   %2 = slice(%1) {dim = 1, end = 1021, start = 0, step = 1} : f16[64, 1021]
//
// For CUDA: tensor cores are fed by loads of 16 bytes, which rows of an odd length do not start at.
// A vocabulary of 50257 columns takes cuBLASLt's kernels for 2-byte loads, which on an H100 are a
// fifth as fast (docs/performance.md). The pad runs once, at load; the slice is a window, and dense
// again for who needs it by one copy. A matrix kept transposed, as torch's Linear keeps it, is
// padded by rows. Few rows of x are left alone: a kernel of our own reads the matrix once, as it
// is. PadProductsAlongColumns leaves transposed matrices alone, too, whose rows along the sum are
// aligned as they are: for targets with kernels that store rows of any length
// (codegen/wgmma_kernel.cc).
#include <algorithm>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr int64_t kMultiple = 8;      // elements of 2 bytes: 16 bytes
constexpr int64_t kMinColumns = 256;  // fewer are a small product, and a copy costs a launch
constexpr int64_t kFewRows = 8;       // codegen/gemm_kernel.cc

ValueId PadBehind(Rewriter& rewriter, ValueId value, int dim, int64_t count) {
  Dims pads(2 * rewriter.graph().type(value).rank(), Dim(0));
  pads[2 * dim + 1] = count;
  return rewriter.Add("pad", {value},
                      {{"pads", pads}, {"mode", std::string("constant")}, {"value", 0.0}});
}

bool IsMultipleOfVector(const Dim& dim) { return dim.is_static() && dim.value() % kMultiple == 0; }

ValueId PadColumns(Rewriter& rewriter, const Node& node, bool transposed_too) {
  const Graph& graph = rewriter.graph();
  ValueId x = node.inputs[0], weight = node.inputs[1];
  const TensorType type = graph.type(weight);
  if (type.rank() != 2 || graph.type(x).rank() != 2 || !IsConstantValue(graph, weight)) return {};
  const Dim &rows = graph.type(x).dims[0], &columns = type.dims[1];
  if (DTypeSize(type.dtype) != 2 || !columns.is_static() || columns.value() < kMinColumns) {
    return {};
  }
  const Node* permute = FindNode(graph, weight, "permute");
  bool aligned = permute != nullptr && IsMultipleOfVector(type.dims[0]);
  if (aligned && !transposed_too) return {};
  int64_t missing = (kMultiple - columns.value() % kMultiple) % kMultiple;
  bool few = rows.is_static() && rows.value() <= kFewRows;
  if (missing == 0 || few || !rewriter.Start()) return {};

  ValueId padded;
  if (permute != nullptr) {
    padded = PadBehind(rewriter, permute->inputs[0], 0, missing);
    padded = rewriter.Add("permute", {padded}, {{"perm", Dims{1, 0}}});
  } else {
    padded = PadBehind(rewriter, weight, 1, missing);
  }
  ValueId product = rewriter.Add("matmul", {x, padded}, node.attrs);
  return rewriter.Add("slice", {product},
                      {{"dim", Dim(1)}, {"start", Dim(0)}, {"end", columns}, {"step", Dim(1)}});
}

// slice(y) + bias = slice(y + pad(bias)): the bias stays in the product's epilogue.
ValueId PadBias(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* slice = FindNode(graph, node.inputs[0], "slice");
  const Node* matmul = slice != nullptr ? FindNode(graph, slice->inputs[0], "matmul") : nullptr;
  ValueId bias = node.inputs[1];
  if (matmul == nullptr || CountUses(graph, node.inputs[0]) != 1 ||
      graph.type(node.inputs[0]).rank() != 2 || !IsConstantValue(graph, bias)) {
    return {};
  }
  const Dims &wide = graph.type(slice->inputs[0]).dims, &narrow = graph.type(node.inputs[0]).dims;
  bool behind = slice->attrs.GetDim("dim") == Dim(1) && slice->attrs.GetDim("start") == Dim(0) &&
                slice->attrs.GetDim("step") == Dim(1) && wide[1].is_static() &&
                graph.type(bias).dims == Dims{narrow[1]};
  if (!behind || !rewriter.Start()) return {};
  ValueId padded = PadBehind(rewriter, bias, 0, wide[1].value() - narrow[1].value());
  ValueId sum = rewriter.Add("add", {slice->inputs[0], padded});
  return rewriter.Add("slice", {sum}, slice->attrs);
}

ValueId PadEveryColumns(Rewriter& rewriter, const Node& node) {
  return PadColumns(rewriter, node, true);
}
ValueId PadContiguousColumns(Rewriter& rewriter, const Node& node) {
  return PadColumns(rewriter, node, false);
}

constexpr Rule kRules[] = {
    {"matmul", PadEveryColumns},
    {"add", PadBias},
};
constexpr Rule kRulesAlongColumns[] = {
    {"matmul", PadContiguousColumns},
    {"add", PadBias},
};

}  // namespace

bool PadProducts(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

bool PadProductsAlongColumns(Rewriter& rewriter) {
  return ApplyRules(rewriter, kRulesAlongColumns);
}

}  // namespace stator
