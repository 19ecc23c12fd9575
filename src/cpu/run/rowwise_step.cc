// PrepareRowwise: the body as a tape whose tiles are whole rows, so that a softmax, norm or
// reduction reads its row from cache.
#include <algorithm>
#include <numeric>

#include "cpu/run/node_step.h"
#include "cpu/run/tape_step.h"

namespace stator {
namespace {

// The dims a rowwise node or reduction runs along; empty for ops that have no row instruction.
Sizes FindAxes(const Graph& body, const Node& node) {
  int64_t rank = body.type(node.inputs[0]).rank();
  if (node.op->Is(kReduction)) {
    Sizes axes = node.attrs.GetInts("axes");
    std::sort(axes.begin(), axes.end());
    return node.attrs.GetBool("keepdim") ? axes : Sizes();
  }
  if (node.attrs.Find("axis") != nullptr) return {node.attrs.GetInt("axis")};
  if (node.attrs.Find("num_dims") == nullptr) return {};
  Sizes axes(node.attrs.GetInt("num_dims"));
  std::iota(axes.begin(), axes.end(), rank - static_cast<int64_t>(axes.size()));
  return axes;
}

// The dims that all nodes of the body but pointwise ones run along, over values of `rank` dims;
// empty when they differ.
Sizes FindCommonAxes(const Graph& body, int64_t rank) {
  Sizes common;
  for (NodeId id : body.nodes()) {
    const Node& node = body.node(id);
    if (node.op->Is(kPointwise)) continue;
    Sizes axes = FindAxes(body, node);
    bool fits = body.type(node.inputs[0]).rank() == rank && (common.empty() || axes == common);
    if (!fits || axes.empty()) return {};
    common = axes;
  }
  return common;
}

std::unique_ptr<PreparedStep> PrepareOnTape(const StepSite& site) {
  BodyOperands operands = FindOperands(site);
  Sizes domain = FindDomain(operands.tensors);
  Sizes axes = FindCommonAxes(site.body, static_cast<int64_t>(domain.size()));
  bool is_empty = std::find(domain.begin(), domain.end(), 0) != domain.end();
  if (axes.empty() || is_empty) return nullptr;
  LoopNest nest = MakeNestOf(operands, domain);
  for (int64_t axis : axes) nest.inner[axis] = true;
  nest = MakeLoopNest(std::move(nest), operands.first_output, true);
  int last = static_cast<int>(nest.dims.size()) - 1;
  if (std::count(nest.inner.begin(), nest.inner.end(), true) != 1) return nullptr;
  TileShape shape{.column_dim = last, .columns = nest.dims[last]};
  if (last > 0) {
    int64_t fitting = ChooseTileElements(operands) / shape.columns;
    shape.rows = std::clamp<int64_t>(fitting, 1, nest.dims[last - 1]);
    if (shape.rows > 1) shape.row_dim = last - 1;
  }
  return MakeTapeStep(site, std::move(operands), nest, shape);
}

}  // namespace

std::unique_ptr<PreparedStep> PrepareRowwise(const StepSite& site) {
  std::unique_ptr<PreparedStep> step = PrepareOnTape(site);
  return step != nullptr ? std::move(step) : PrepareNode(site);
}

}  // namespace stator
