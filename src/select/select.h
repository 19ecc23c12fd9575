// Select: one tactic for each kernel.
//
// In:  kernels with their operands' layouts, the target's tactic providers, and what may be spent.
// Out: a Tactic per kernel: the provider's first guess (level 0), or the fastest of those measured.
// Invariant: with the same timing cache the choice is the same. A kernel that no provider can run
// gets the reference tactic, which can run anything.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plan/plan.h"
#include "select/timing_cache.h"

namespace stator {

// A kernel and where its operands lie.
struct KernelSite {
  const Node* kernel = nullptr;  // a `kernel` node: attribute kind, body
  std::vector<PlanTensor> inputs, outputs;
  bool is_example = false;  // one of the sizes that the kernel will run at
};

// Whether the tensor's content is known when a step is prepared.
bool IsConstant(const PlanTensor& tensor);
// A value for each symbol of a kernel's body, to measure at: any in range does, and the middle is
// as good a guess as any.
SymbolValues GuessSymbols(const Graph& body);

// What tactics may do.
struct TacticLimits {
  int64_t workspace_size = 0;  // most bytes of a kernel's scratch memory; 0: as many as it likes
  bool tf32_matmul = false, tf32_conv = false;  // fp32 products, convolutions may be in TF32
  bool hardware_compatible = false;             // only what other devices of the kind run, too

  auto operator<=>(const TacticLimits&) const = default;
};

// One way to run a kernel.
struct Tactic {
  StepKind kind = StepKind::kReference;
  Attrs attrs;
  double penalty = 1;  // its measured time counts so many times: it rounds worse than others
};

// The seam between the compiler and a device engine: which tactics it has.
class TacticProvider {
 public:
  virtual ~TacticProvider() = default;
  // Names device and library versions: tactics measured under another name do not count.
  virtual std::string key() const = 0;
  // Every way to run the kernel, best guess first; empty when there is none. Never raises.
  virtual std::vector<Tactic> FindTactics(const KernelSite& site) const = 0;
  // How many of a kernel's tactics are measured up to optimization level 3.
  virtual size_t num_few() const { return 3; }
  // What Measure will be asked for, without repeats: what it takes to run a tactic may be made for
  // all at once. Never raises.
  using Trial = std::pair<const KernelSite*, const Tactic*>;
  virtual void Prepare(std::span<const Trial> trials) const { (void)trials; }
  // Seconds that one run takes on random data, measured in place as an average of `num_runs`;
  // infinity when it fails; NaN when it lacked memory, which the next compilation may have.
  virtual double Measure(const KernelSite& site, const Tactic& tactic, int num_runs) const = 0;
};

struct SelectOptions {
  int optimization_level = 3;    // 0: never measure; 1-3: the first num_few(); 4-5: all
  int num_avg_timing_iters = 1;  // runs that a measurement averages
  TimingCache* cache = nullptr;  // may be null
  uint64_t tactic_seed = 0;      // not 0: any candidate, drawn by it and by the site; for tests
};

// One tactic per site.
std::vector<Tactic> SelectTactics(std::span<const KernelSite> sites, const TacticProvider& provider,
                                  const SelectOptions& options);

}  // namespace stator
