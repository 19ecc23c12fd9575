// A kernel run in two steps: its matmul or conv alone, then the pointwise nodes behind it.
//
// In:  a body that is one matmul or conv and a chain of pointwise nodes. Out: its parts, and a step
// that runs them one after the other. For operands with which no primitive runs the whole.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cpu/run/step.h"

namespace stator {

// Nodes [first, last) of a body as a body of their own, whose inputs are these of the outer body;
// their number stands for the output of the node before `first`.
struct BodyPart {
  Graph body;
  std::vector<int> inputs;
};
BodyPart MakePart(const Graph& body, size_t first, size_t last);

// `values` of the outer body's inputs, `before` for the output of the node before.
template <typename T>
std::vector<T> PickInputs(const BodyPart& part, std::span<const T> values, const T& before) {
  std::vector<T> picked;
  for (int input : part.inputs) {
    picked.push_back(input < std::ssize(values) ? values[input] : before);
  }
  return picked;
}

// Nodes [0, at) as one step, by `first`, and the others as another, by `rest`, which read of the
// former the last one alone.
using PrepareFn = std::function<std::unique_ptr<PreparedStep>(const StepSite&)>;
std::unique_ptr<PreparedStep> MakeSplit(const StepSite& site, size_t at, const PrepareFn& first,
                                        const PrepareFn& rest);

// `find` prepares the first node alone, or gives null, and so does this for a body of one node.
std::unique_ptr<PreparedStep> FindSplit(const StepSite& site, const PrepareFn& find);

}  // namespace stator
