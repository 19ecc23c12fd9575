// What the CPU engine can run, and how: the compile side of src/cpu/run.
//
// In:  kernels with their operands' layouts. Out: tactics (src/select), best guess first.
// Invariant: whatever the reference kernels can compute, the CPU engine can run.
#pragma once

#include <string>
#include <string_view>

#include "select/select.h"

namespace stator {

class CpuTactics final : public TacticProvider {
 public:
  // `hardware_compatible`: only tactics that every CPU with AVX2 has.
  explicit CpuTactics(bool hardware_compatible) : hardware_compatible_(hardware_compatible) {}

  std::string key() const override;
  std::vector<Tactic> FindTactics(const KernelSite& site) const override;
  double Measure(const KernelSite& site, const Tactic& tactic, int num_runs) const override;

 private:
  bool hardware_compatible_;
};

const CpuTactics& GetCpuTactics(bool hardware_compatible = false);

// Whether a tactic other than the reference one can run `body` as one kernel of this kind ("gemm",
// "conv", ...). Asked by fuse before an epilogue grows.
bool CanRunOnCpu(std::string_view kind, const Graph& body);

// Why the CPU engine cannot run a node of an imported graph, or empty when it can.
std::string FindReasonOnCpu(const Graph& graph, const Node& node);

// Whether the CPU engine runs a node by its op's reference kernel, element after element.
bool IsReferenceOnCpu(const Graph& graph, const Node& node);

}  // namespace stator
