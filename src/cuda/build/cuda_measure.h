// Measures a tactic on a CUDA device: prepares the step and times its launches on random data.
//
// In:  a kernel with its operands' layouts, and a tactic. Out: seconds of one launch.
// Invariant: launches are timed inside of a captured graph, so that what they cost the host does
// not count, and are bounded in time.
#pragma once

#include "base/target.h"
#include "codegen/cuda_kernel.h"
#include "cuda/run/cuda_device.h"
#include "cuda/run/step.h"
#include "select/select.h"

namespace stator {

// What a step would be prepared from: constants have no data.
class MeasureSite {
 public:
  MeasureSite(const KernelSite& site, const Tactic& tactic);
  MeasureSite(const MeasureSite&) = delete;

  const CudaStepSite& site() const { return site_; }
  CudaStepSite& site() { return site_; }

 private:
  Step step_;
  SymbolValues symbols_;
  CudaStepSite site_;
};

// The kernel that is measured for a tactic of our own.
CudaKernel WriteTrialKernel(const KernelSite& site, const Tactic& tactic, const Target& target);

// Infinity when the tactic cannot run the kernel.
double MeasureCudaTactic(const KernelSite& site, const Tactic& tactic, const Target& target,
                         CudaDevice& device, int num_runs);

}  // namespace stator
