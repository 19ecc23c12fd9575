// MatchRolls: the end of a dim put before its start is a roll, and rolls of rolls are one.
//
//   %0 = slice(%x) {dim = 1, start = 3, end = 8, step = 1}
//   %1 = slice(%x) {dim = 1, start = 0, end = 3, step = 1}
//   %2 = concat(%0, %1) {dim = 1}
// becomes
//   %0 = roll(%x) {shifts = [0, -3]}
//
// For CUDA, where each part of a concat is a launch: a window shifted along two dims was four.
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

ValueId ConcatToRoll(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (node.inputs.size() != 2) return {};
  const Node *end = FindNode(graph, node.inputs[0], "slice"),
             *start = FindNode(graph, node.inputs[1], "slice");
  if (end == nullptr || start == nullptr || end->inputs[0] != start->inputs[0]) return {};
  ValueId x = end->inputs[0];
  Dim dim = node.attrs.GetDim("dim"), cut = end->attrs.GetDim("start");
  const TensorType& type = graph.type(x);
  bool matches = end->attrs.GetDim("dim") == dim && start->attrs.GetDim("dim") == dim &&
                 end->attrs.GetDim("step") == Dim(1) && start->attrs.GetDim("step") == Dim(1) &&
                 start->attrs.GetDim("start") == Dim(0) && start->attrs.GetDim("end") == cut &&
                 cut.is_static() && end->attrs.GetDim("end") == type.dims[dim.value()];
  if (!matches || !rewriter.Start()) return {};
  Dims shifts(type.dims.size(), Dim(0));
  shifts[dim.value()] = Dim(-cut.value());
  return rewriter.Add("roll", {x}, {{"shifts", shifts}});
}

ValueId MergeRolls(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const Node* inner = FindNode(graph, node.inputs[0], "roll");
  if (inner == nullptr || CountUses(graph, node.inputs[0]) != 1 || !rewriter.Start()) return {};
  Dims shifts = node.attrs.GetDims("shifts");
  for (size_t d = 0; d < shifts.size(); ++d) {
    shifts[d] = shifts[d] + inner->attrs.GetDims("shifts")[d];
  }
  return rewriter.Add("roll", {inner->inputs[0]}, {{"shifts", shifts}});
}

constexpr Rule kRules[] = {{"concat", ConcatToRoll}, {"roll", MergeRolls}};

}  // namespace

bool MatchRolls(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
