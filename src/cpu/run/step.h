// A plan step made ready to run on the CPU, and the ways to make one.
//
// In:  a Step with its parsed body and its operands (dims, strides, dtype; data only for
// constants). Out: a PreparedStep that runs on pointers given at each call. Invariants: Run is
// const and keeps no state between calls, so threads may share a prepared step, each with its own
// workspace; Run allocates nothing and opens at most one parallel region.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ir/graph.h"
#include "ir/op_def.h"
#include "plan/plan.h"
#include "runtime/step_loader.h"

namespace stator {

// Pointers of one call: one per step input, one per step output, in the step's order; null for an
// absent optional input. A pointer is to the tensor's first element: its offset is applied already.
struct StepArgs {
  std::byte* const* inputs = nullptr;
  std::byte* const* outputs = nullptr;
  std::byte* ws = nullptr;  // PreparedStep::ws_bytes(), 64-byte aligned
};

class PreparedStep {
 public:
  virtual ~PreparedStep() = default;
  virtual void Run(const StepArgs& args) const = 0;
  // Scratch that one Run needs, in bytes. Fixed once the step is prepared.
  virtual int64_t ws_bytes() const { return 0; }
  // Makes packed copies from the constants' content: before the first Run, and again when the
  // content has changed (the pointers stay). Called with no Run in flight.
  virtual void Pack() {}
  // Whether Pack would do nothing.
  virtual bool IsPacked() const { return true; }
  // Whether Run reads the constant `input` where it lies; false when a packed copy stands for it.
  virtual bool Reads(int /*input*/) const { return true; }
};

// Every Prepare function raises Unsupported, naming the op, for a body that neither it nor the
// reference kernels can run. A body it cannot run well goes to the reference kernels.

// Pointwise nodes over one domain, which the outputs have; inputs broadcast to it.
std::unique_ptr<PreparedStep> PreparePointwise(const StepSite& site);
// Softmax, norms and reductions (keepdim) over the same trailing dims, with pointwise nodes around.
std::unique_ptr<PreparedStep> PrepareRowwise(const StepSite& site);
// Pointwise nodes, then one reduction over any axes.
std::unique_ptr<PreparedStep> PrepareReduce(const StepSite& site);
// matmul or conv, with its epilogue.
std::unique_ptr<PreparedStep> PrepareGemm(const StepSite& site);
std::unique_ptr<PreparedStep> PrepareConv(const StepSite& site);
// attention, any strides.
std::unique_ptr<PreparedStep> PrepareAttention(const StepSite& site);
// One pooling node; row-major and channels-last tensors are fast.
std::unique_ptr<PreparedStep> PreparePool(const StepSite& site);
// output = input, dims equal, any strides.
std::unique_ptr<PreparedStep> PrepareCopy(const StepSite& site);
// embedding or index_select. Run raises InvalidArgument for an index outside its range.
std::unique_ptr<PreparedStep> PrepareGather(const StepSite& site);
// Any body, node by node, by the ops' reference kernels. Run allocates.
std::unique_ptr<PreparedStep> PrepareReference(const StepSite& site);

}  // namespace stator
