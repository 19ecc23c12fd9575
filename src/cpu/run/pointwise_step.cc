// PreparePointwise: the body as a tape over the outputs' domain.
#include <algorithm>

#include "cpu/run/tape_step.h"

namespace stator {
namespace {

// Whether a tape computes the body: pointwise nodes alone, every output over the same elements.
bool FitsTape(const StepSite& site) {
  const Sizes& domain = site.outputs[0].dims;
  std::vector<NodeId> nodes = site.body.nodes();
  return site.outputs[0].num_elements() > 0 &&
         std::all_of(site.outputs.begin(), site.outputs.end(),
                     [&](const TensorRef& output) { return output.dims == domain; }) &&
         std::all_of(nodes.begin(), nodes.end(),
                     [&](NodeId id) { return site.body.node(id).op->Is(kPointwise); });
}

}  // namespace

std::unique_ptr<PreparedStep> PreparePointwise(const StepSite& site) {
  if (!FitsTape(site)) return PrepareReference(site);
  BodyOperands operands = FindOperands(site);
  LoopNest nest = MakeNestOf(operands, site.outputs[0].dims);
  nest = MakeLoopNest(std::move(nest), operands.first_output, false);
  TileShape shape = ChooseTileShape(nest, ChooseTileElements(operands));
  std::unique_ptr<PreparedStep> step = MakeTapeStep(site, std::move(operands), nest, shape);
  return step != nullptr ? std::move(step) : PrepareReference(site);
}

}  // namespace stator
