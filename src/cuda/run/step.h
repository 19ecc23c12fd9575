// A plan step made ready to run on a CUDA device, and the ways to make one.
//
// In:  a Step with its parsed body and its operands (dims, strides, dtype; addresses for constants
// only). Out: a CudaStep that enqueues its work on a stream, for pointers given at each call.
// Invariants: Launch is const and keeps no state between calls, so threads may share a step, each
// with its own workspace; it allocates nothing, waits for nothing, and may be captured into a CUDA
// graph. The device's context is current in every call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/run/kernel.h"
#include "ir/graph.h"
#include "ir/op_def.h"
#include "plan/plan.h"

namespace stator {

// Device addresses of one call: one per step input, one per step output, in the step's order. An
// address is of the tensor's first element.
struct CudaStepArgs {
  std::byte* const* inputs = nullptr;
  std::byte* const* outputs = nullptr;
  std::byte* ws = nullptr;  // CudaStep::ws_bytes(), 256-byte aligned
  CUstream stream = nullptr;
  // Whether a kernel may be launched before the work ahead of it on the stream is over, for which
  // it waits itself. Not where it waits for other streams, too.
  bool may_start_early = true;
};

class CudaStep {
 public:
  virtual ~CudaStep() = default;
  virtual void Launch(const CudaStepArgs& args) const = 0;
  // Scratch that one Launch needs, in bytes. Fixed once the step is prepared.
  virtual int64_t ws_bytes() const { return 0; }
  // Enqueues the making of packed copies from the constants' content: before the first Launch, and
  // again when the content has changed (the addresses stay). Called with no Launch in flight.
  virtual void Pack(CUstream /*stream*/) {}
  // Whether Launch reads the constant `input` where it lies; false when a packed copy stands for
  // it.
  virtual bool Reads(int /*input*/) const { return true; }
  // Bytes of packed copies held.
  virtual int64_t packed_bytes() const { return 0; }
  // True when a captured launch's pointers cannot be set anew: then the program gives it buffers of
  // its own in place of callers' inputs and outputs, with copies around.
  virtual bool hides_pointers() const { return true; }
  // Gives `node`, the one node that a captured Launch made, the pointers of `args`. Only for a step
  // that does not hide its pointers.
  virtual void Patch(CUgraphExec exec, CUgraphNode node, const CudaStepArgs& args) const;
};

// What a step is prepared from. `step`, `symbols` and constants' data outlive the prepared step;
// the rest is copied. The constants' content may still change until Pack.
struct CudaStepSite {
  const Step* step = nullptr;
  Graph body;  // at the symbols' values; inputs and outputs match the step's in number
  std::vector<TensorRef> inputs;
  std::vector<TensorRef> outputs;
  const SymbolValues* symbols = nullptr;
};

// A step that launches a kernel of Plan::code, which `module` holds. Its constants are read in
// place.
std::unique_ptr<CudaStep> PrepareKernel(const CudaStepSite& site, const StepLaunch& launch,
                                        const Driver& driver,
                                        std::shared_ptr<const CudaModule> module,
                                        const std::string& entry);

}  // namespace stator
