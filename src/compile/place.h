// Place: decides where each value of a kernel graph lies in memory.
//
// In:  a KernelGraph (kernel nodes and view nodes).
// Out: storages, and the steps to run in order, each with its operands as strided windows.
// Invariants: a view node becomes a window on its input's storage; where strides cannot say it (a
// reshape across a gap), a copy step comes first. A kernel's result that the caller gets is written
// straight into the caller's tensor when the layouts agree, else copied there by a last step; a
// pointwise result that only a concat reads is written straight into its window of the whole.
// Kernels that read constants alone go to the prologue.
#pragma once

#include <vector>

#include "ir/graph.h"
#include "plan/plan.h"

namespace stator {

struct PlacedStep {
  const Node* kernel = nullptr;  // of the kernel graph; null for a copy
  std::vector<PlanTensor> inputs, outputs;
  Origin origin;
};

struct Placement {
  std::vector<PlanPort> inputs, outputs;
  std::vector<PlanWeight> weights;
  std::vector<ConstantData> literals;
  std::vector<Dim> derived_bytes, arena_bytes;
  std::vector<PlacedStep> prologue, steps;
};

// `kernels` must outlive the result.
Placement Place(const Graph& kernels);

// The window that a view node's output is on its input, or empty when strides cannot express it.
// Strides of a reshape: a run of dims that lie densely in memory may be split and merged freely.
std::optional<PlanTensor> FindView(const Node& view, const TensorType& type,
                                   const PlanTensor& input);

}  // namespace stator
