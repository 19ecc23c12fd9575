// PatchesToProducts: convolutions whose windows lie side by side are products of the patches.
//
//   %0 = conv(%x, %w, %b) {stride = [4, 4], ..} : f16[2, 96, 8, 8]    // w: f16[96, 16, 4, 4]
//   ->
//   %0 = reshape(%x) {dims = [2, 16, 8, 4, 8, 4]}
//   %1 = permute(%0) {perm = [0, 2, 4, 3, 5, 1]}
//   %2 = reshape(%1) {dims = [128, 256]}                              // a patch in each row
//   %3 = permute(%w) {perm = [0, 2, 3, 1]}
//   %4 = permute(reshape(%3) {dims = [96, 256]}) {perm = [1, 0]}
//   %5 = add(matmul(%2, %4), %b)
//   %6 = permute(reshape(%5) {dims = [2, 8, 8, 96]}) {perm = [0, 3, 1, 2]}
//
// For CUDA: the stem of a ViT takes cuDNN 58 us on an H100 at batch 1 (docs/performance.md), with
// its three channels padded to eight; the patches are one copy, and the product's rows are what a
// transformer reads next. Each element of x is in one patch, so that none is copied twice. A
// convolution of single pixels (squeeze and excitation) is such a product, too.
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr int64_t kMinPatch = 4;  // elements of a channel: a 2 x 2 window
// From here on a pixel's channels are neighbours in a patch, as they lie between convolutions; the
// few of an image lie apart.
constexpr int64_t kManyChannels = 8;

bool AreAll(const std::vector<int64_t>& numbers, int64_t number) {
  for (int64_t each : numbers) {
    if (each != number) return false;
  }
  return true;
}

ValueId ConvToProduct(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Attrs& attrs = node.attrs;
  ValueId weight = node.inputs[1];
  if (attrs.GetBool("transposed") || !(attrs.GetDim("groups") == Dim(1)) ||
      graph.type(node.inputs[0]).rank() != 4)
    return {};
  const Dims x = graph.type(node.inputs[0]).dims, w = graph.type(weight).dims;
  bool constant =
      IsConstantValue(graph, weight) && IsStatic(w) && x[2].is_static() && x[3].is_static();
  if (!constant) return {};
  std::vector<int64_t> stride = attrs.GetInts("stride");
  bool side_by_side = AreAll(attrs.GetInts("padding"), 0) && AreAll(attrs.GetInts("dilation"), 1) &&
                      w[2] == Dim(stride[0]) && w[3] == Dim(stride[1]) &&
                      x[2].value() % stride[0] == 0 && x[3].value() % stride[1] == 0;
  bool is_pixel = x[2] == Dim(1) && x[3] == Dim(1);  // a product as it is
  if (!side_by_side || (stride[0] * stride[1] < kMinPatch && !is_pixel) || !rewriter.Start()) {
    return {};
  }

  Dim rows = x[2].value() / stride[0], columns = x[3].value() / stride[1];
  Dim patch = w[1] * w[2] * w[3];
  auto reshape = [&](ValueId value, Dims dims) {
    return rewriter.Add("reshape", {value}, {{"dims", std::move(dims)}});
  };
  auto permute = [&](ValueId value, Dims perm) {
    return rewriter.Add("permute", {value}, {{"perm", std::move(perm)}});
  };
  ValueId bias = node.inputs.size() > 2 ? node.inputs[2] : ValueId{};
  ValueId patches = reshape(node.inputs[0], {x[0], x[1], rows, w[2], columns, w[3]});
  bool planar = w[1].value() < kManyChannels;
  Dims order = planar ? Dims{0, 2, 4, 1, 3, 5} : Dims{0, 2, 4, 3, 5, 1};
  patches = reshape(permute(patches, order), {x[0] * rows * columns, patch});
  if (!planar) weight = permute(weight, {0, 2, 3, 1});
  ValueId matrix = reshape(weight, {w[0], patch});
  ValueId product = rewriter.Add("matmul", {patches, permute(matrix, {1, 0})});
  if (bias.valid()) product = rewriter.Add("add", {product, bias});
  return permute(reshape(product, {x[0], rows, columns, w[0]}), {0, 3, 1, 2});
}

constexpr Rule kRules[] = {{"conv", ConvToProduct}};

}  // namespace

bool PatchesToProducts(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
