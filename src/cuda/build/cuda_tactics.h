// What the CUDA engine can run, and how: the compile side of src/cuda/run.
//
// In:  kernels with their operands' layouts. Out: tactics (src/select), best guess first: NVIDIA's
// libraries (cuBLASLt for products, cuDNN for convolutions and attention), then kernels of our own,
// each a variant of codegen/cuda_kernel.h that cuda/build/compile_kernels.h compiles.
// Invariant: without a device, or without a library, there are fewer tactics and none is measured.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/target.h"
#include "cuda/run/cuda_device.h"
#include "select/select.h"

namespace stator {

class CudaTactics final : public TacticProvider {
 public:
  // `device`: one that runs this target's code, or null. Outlived by it.
  CudaTactics(Target target, CudaDevice* device, const TacticLimits& limits = {});

  const Target& target() const { return target_; }
  std::string key() const override;
  std::vector<Tactic> FindTactics(const KernelSite& site) const override;
  // A trial takes milliseconds, and a library's second guess is often the better one.
  size_t num_few() const override { return 6; }
  void Prepare(std::span<const Trial> trials) const override;
  double Measure(const KernelSite& site, const Tactic& tactic, int num_runs) const override;

 private:
  std::vector<Tactic> FindLibraryTactics(const KernelSite& site, StepKind kind) const;
  std::vector<Tactic> FindOwnTactics(const KernelSite& site, StepKind kind) const;

  Target target_;
  CudaDevice* device_;
  TacticLimits limits_;
};

// Whether one kernel of this kind can run `body`. Asked by fuse before an epilogue grows.
bool CanRunOnCuda(const Target& target, std::string_view kind, const Graph& body);

// Why the CUDA engine cannot run a node of an imported graph, or empty when it can.
std::string FindReasonOnCuda(const Target& target, const Graph& graph, const Node& node);

}  // namespace stator
