// PackConvolutions: the operands of convolutions channels-last, by copies where they are not.
//
//   %0 = conv(%x, %w) : f16[1, 8, 4, 4]@0231
//   ->
//   %0 = cast(%x) {dtype = f16} : f16[1, 3, 4, 4]@0231
//   %1 = cast(%w) {dtype = f16} : f16[8, 3, 3, 3]@0231
//   %2 = conv(%0, %1) : f16[1, 8, 4, 4]@0231
//
// For CUDA, where one layout of all operands is fast: a copy of a weight is made once, at load, and
// that of an activation costs one pass over it, or nothing when it joins the kernel that makes it.
// A view that may have gaps is copied whatever its order. Channels of 16 bits that are fewer than
// 8, those of an image, get zeros with the copy: tensor cores are fed by loads of 16 bytes.
//
//   %0 = pad(%x) {mode = "constant", pads = [0, 0, 0, 5, 0, 0, 0, 0], value = 0.0}
#include <algorithm>
#include <map>

#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// Whether a tensor of these dims lies the same in row-major and channels-last order.
bool IsEitherOrder(const Dims& dims) {
  return dims[1] == Dim(1) ||
         std::all_of(dims.begin() + 2, dims.end(), [](const Dim& dim) { return dim == Dim(1); });
}

bool IsPacked(const Graph& graph, ValueId value) {
  const TensorType& type = graph.type(value);
  std::optional<DimOrder> order = FindMemoryOrder(graph, value);
  if (!order) return false;
  return order == ChannelsLastOrder(type.rank()) || (order->empty() && IsEitherOrder(type.dims));
}

// Zeros that a convolution's channels lack to fill a load.
int64_t CountMissingChannels(const Graph& graph, const Node& conv) {
  constexpr int64_t kLoad = 8;
  const TensorType &x = graph.type(conv.inputs[0]), &w = graph.type(conv.inputs[1]);
  bool plain = conv.attrs.GetDim("groups") == Dim(1) && !conv.attrs.GetBool("transposed");
  if (!plain || DTypeSize(x.dtype) != 2 || !IsStatic(x.dims) || !IsStatic(w.dims)) return 0;
  int64_t channels = w.dims[1].value();
  return channels < kLoad && NumElements(w.dims).value() > channels ? kLoad - channels : 0;
}

}  // namespace

bool PackConvolutions(Rewriter& rewriter) {
  Graph& graph = rewriter.graph();
  std::map<std::pair<ValueId, int64_t>, ValueId> copies;  // by operand and zeros added
  for (NodeId id : graph.nodes()) {
    if (graph.node(id).op->name != "conv") continue;
    int64_t missing = CountMissingChannels(graph, graph.node(id));
    for (int i : {0, 1}) {
      ValueId operand = graph.node(id).inputs[i];
      if (IsPacked(graph, operand) && missing == 0) continue;
      if (!rewriter.Start()) return !copies.empty();
      ValueId& copy = copies[{operand, missing}];
      if (!copy.valid()) {
        rewriter.SetInsertionPoint(id);
        TensorType type = graph.type(operand);
        if (missing > 0) {
          Dims pads(2 * type.rank(), Dim(0));
          pads[3] = missing;
          copy = rewriter.Add("pad", {operand},
                              {{"pads", pads}, {"mode", std::string("constant")}, {"value", 0.0}});
        } else {
          copy = rewriter.Add("cast", {operand}, {{"dtype", type.dtype}});
        }
        rewriter.SetOrder(copy, ChannelsLastOrder(type.rank()));
      }
      rewriter.SetInput(id, i, copy);
    }
  }
  return !copies.empty();
}

}  // namespace stator
