// PrepareKernel: a step that is one kernel of the plan's own code.

#include <climits>

#include "base/error.h"
#include "base/knobs.h"
#include "cuda/run/step.h"

namespace stator {
namespace {

constexpr size_t kMaxParams = 128;  // of 8 bytes, within the 4 KB that every device takes

class KernelStep final : public CudaStep {
 public:
  KernelStep(const Driver& driver, std::shared_ptr<const CudaModule> module,
             const KernelLaunch& launch, int num_inputs, int num_outputs,
             std::vector<int64_t> symbols)
      : driver_(driver),
        module_(std::move(module)),
        launch_(launch),
        num_inputs_(num_inputs),
        num_outputs_(num_outputs),
        symbols_(std::move(symbols)) {}

  void Launch(const CudaStepArgs& args) const override {
    Params params(*this, args);
    KernelLaunch launch = launch_;
    launch.pdl &= args.may_start_early;
    LaunchKernel(driver_, launch, params.addresses, args.stream);
  }

  bool hides_pointers() const override { return false; }

  void Patch(CUgraphExec exec, CUgraphNode node, const CudaStepArgs& args) const override {
    Params params(*this, args);
    PatchKernel(driver_, launch_, params.addresses, exec, node);
  }

 private:
  struct Params {
    Params(const KernelStep& step, const CudaStepArgs& args) {
      size_t count = 0;
      for (int i = 0; i < step.num_inputs_; ++i) {
        addresses[count++] = const_cast<std::byte**>(&args.inputs[i]);
      }
      for (int i = 0; i < step.num_outputs_; ++i) {
        addresses[count++] = const_cast<std::byte**>(&args.outputs[i]);
      }
      for (const int64_t& symbol : step.symbols_) {
        addresses[count++] = const_cast<int64_t*>(&symbol);
      }
    }
    void* addresses[kMaxParams];
  };

  const Driver& driver_;
  std::shared_ptr<const CudaModule> module_;  // holds the function
  KernelLaunch launch_;
  int num_inputs_ = 0, num_outputs_ = 0;
  std::vector<int64_t> symbols_;
};

unsigned GridSize(const StepLaunch& launch, int axis, const SymbolValues& symbols) {
  int64_t size = launch.grid[axis].Eval(symbols);
  int64_t max =
      axis == 0 ? INT_MAX : USHRT_MAX;  // CUDA C++ Programming Guide, "Compute Capabilities"
  if (size < 0 || size > max) {
    Fail(ErrorKind::kUnsupported, "a grid of {} = {} blocks in dimension {}, expected 0 to {}",
         launch.grid[axis].ToString(), size, axis, max);
  }
  return static_cast<unsigned>(size);
}

}  // namespace

void CudaStep::Patch(CUgraphExec, CUgraphNode, const CudaStepArgs&) const {
  STATOR_CHECK(false, "a step that hides its pointers is given others");
}

std::unique_ptr<CudaStep> PrepareKernel(const CudaStepSite& site, const StepLaunch& launch,
                                        const Driver& driver,
                                        std::shared_ptr<const CudaModule> module,
                                        const std::string& entry) {
  std::vector<int64_t> symbols;
  for (const std::string& name : launch.symbols) {
    symbols.push_back(Dim::Symbol(name).Eval(*site.symbols));
  }
  size_t num_params = site.inputs.size() + site.outputs.size() + symbols.size();
  if (num_params > kMaxParams) {
    Fail(ErrorKind::kUnsupported, "a kernel with {} parameters, more than {}", num_params,
         kMaxParams);
  }
  KernelLaunch kernel{.function = module->GetFunction(entry, launch.smem),
                      .grid = {},
                      .block = static_cast<unsigned>(launch.block),
                      .smem = static_cast<unsigned>(launch.smem),
                      .pdl = launch.pdl && GetIntKnob("STATOR_PDL") != 0};
  for (int axis = 0; axis < 3; ++axis) kernel.grid[axis] = GridSize(launch, axis, *site.symbols);
  return std::make_unique<KernelStep>(driver, std::move(module), kernel,
                                      static_cast<int>(site.inputs.size()),
                                      static_cast<int>(site.outputs.size()), std::move(symbols));
}

}  // namespace stator
