#include "runtime/in_place.h"

#include <algorithm>
#include <optional>
#include <set>

#include "ir/op_def.h"
#include "ir/parse.h"

namespace stator {
namespace {

bool IsSameWindow(const PlanTensor& a, const PlanTensor& b) {
  return a.offset == b.offset && a.dims == b.dims && a.strides == b.strides;
}

// Looks at one pair.
class PairChecker {
 public:
  PairChecker(const Plan& plan, InPlace pair)
      : plan_(plan), pair_(pair), port_(plan.outputs[pair.output]) {}

  // Whether the pair is allowed, and of use: something of the input stays where it is.
  bool Check() {
    const PlanPort& input = plan_.inputs[pair_.input];
    if (input.dtype != port_.dtype || input.dims != port_.dims || input.strides != port_.strides) {
      return false;
    }
    bool kept = false;
    for (const Step& step : plan_.steps) {
      bool reads = std::ranges::any_of(step.inputs, [&](int i) { return IsInput(i); });
      bool writes = std::ranges::any_of(step.outputs, [&](int i) { return IsOutput(i); });
      bool in_place = reads && writes && (CopiesInPlace(step) || PutsInPlace(step));
      if (reads && !in_place && (writes || !written_.empty())) return false;
      kept |= in_place;
      for (int i : step.outputs) {
        if (IsOutput(i)) written_.push_back(&plan_.tensors[i]);
      }
    }
    return kept;
  }

 private:
  bool IsInput(int tensor) const {
    const PlanTensor& found = plan_.tensors[tensor];
    return found.storage == StorageKind::kInput && found.index == pair_.input;
  }
  bool IsOutput(int tensor) const {
    const PlanTensor& found = plan_.tensors[tensor];
    return found.storage == StorageKind::kOutput && found.index == pair_.output;
  }

  // A copy of a part to its own place, where nothing was written before.
  bool CopiesInPlace(const Step& step) const {
    if (step.kind != StepKind::kCopy) return false;
    const PlanTensor &from = plan_.tensors[step.inputs[0]], &to = plan_.tensors[step.outputs[0]];
    return IsSameWindow(from, to) && std::ranges::all_of(written_, [&](const PlanTensor* other) {
             return AreApart(to, *other);
           });
  }

  // The dim of which a window takes a range [start, end), and all of the others.
  struct Range {
    size_t dim;
    int64_t start, end;
  };
  std::optional<Range> FindRange(const PlanTensor& window) const {
    if (window.strides != port_.strides || !window.offset.is_static()) return std::nullopt;
    std::optional<size_t> dim;
    for (size_t i = 0; i < window.dims.size(); ++i) {
      if (window.dims[i] == port_.dims[i]) continue;
      if (dim || !window.dims[i].is_static() || !window.strides[i].is_static()) {
        return std::nullopt;
      }
      dim = i;
    }
    if (!dim || window.strides[*dim].value() <= 0) return std::nullopt;
    int64_t start = window.offset.value() / window.strides[*dim].value();
    return Range{.dim = *dim, .start = start, .end = start + window.dims[*dim].value()};
  }

  bool AreApart(const PlanTensor& a, const PlanTensor& b) const {
    std::optional<Range> one = FindRange(a), other = FindRange(b);
    return one && other && one->dim == other->dim &&
           (one->end <= other->start || other->end <= one->start);
  }

  // index_put or scatter, whose first operand alone is the input, from the whole input to the
  // whole output.
  bool PutsInPlace(const Step& step) const {
    if (step.kind != StepKind::kReference || !written_.empty() || step.outputs.size() != 1) {
      return false;
    }
    Graph body = ParseGraph(step.body);
    if (body.nodes().size() != 1) return false;
    const Node& node = body.node(body.first_node());
    if (node.op->name != "index_put" && node.op->name != "scatter") return false;
    const PlanTensor& to = plan_.tensors[step.outputs[0]];
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      bool is_first = body.inputs()[i] == node.inputs[0];
      bool read_again = std::count(node.inputs.begin(), node.inputs.end(), body.inputs()[i]) > 1;
      if (IsInput(step.inputs[i]) != is_first || (is_first && read_again)) return false;
      if (is_first && !IsSameWindow(plan_.tensors[step.inputs[i]], to)) return false;
    }
    return to.offset == Dim(0) && NumElements(to.dims) == NumElements(port_.dims);
  }

  const Plan& plan_;
  InPlace pair_;
  const PlanPort& port_;
  std::vector<const PlanTensor*> written_;  // windows of the output, so far
};

}  // namespace

std::vector<InPlace> FindInPlace(const Plan& plan) {
  std::vector<InPlace> pairs;
  std::set<int> taken;
  for (int output = 0; output < static_cast<int>(plan.outputs.size()); ++output) {
    for (int input = 0; input < static_cast<int>(plan.inputs.size()); ++input) {
      InPlace pair{.output = output, .input = input};
      if (taken.contains(input) || !PairChecker(plan, pair).Check()) continue;
      pairs.push_back(pair);
      taken.insert(input);
      break;
    }
  }
  return pairs;
}

}  // namespace stator
