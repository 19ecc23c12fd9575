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
// A view that may have gaps is copied whatever its order.
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

}  // namespace

bool PackConvolutions(Rewriter& rewriter) {
  Graph& graph = rewriter.graph();
  std::map<ValueId, ValueId> copies;
  for (NodeId id : graph.nodes()) {
    if (graph.node(id).op->name != "conv") continue;
    for (int i : {0, 1}) {
      ValueId operand = graph.node(id).inputs[i];
      if (IsPacked(graph, operand)) continue;
      if (!rewriter.Start()) return !copies.empty();
      ValueId& copy = copies[operand];
      if (!copy.valid()) {
        rewriter.SetInsertionPoint(id);
        TensorType type = graph.type(operand);
        copy = rewriter.Add("cast", {operand}, {{"dtype", type.dtype}});
        rewriter.SetOrder(copy, ChannelsLastOrder(type.rank()));
      }
      rewriter.SetInput(id, i, copy);
    }
  }
  return !copies.empty();
}

}  // namespace stator
