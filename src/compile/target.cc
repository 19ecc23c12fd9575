#include "compile/target.h"

#include "base/error.h"
#include "cpu/build/cpu_tactics.h"
#ifdef STATOR_WITH_CUDA
#include "compile/cuda_target.h"
#endif

namespace stator {

namespace {

const CompileTarget& GetCpuTarget(bool hardware_compatible) {
  auto make = [](bool compatible) {
    return CompileTarget{.name = "cpu",
                         .tactics = &GetCpuTactics(compatible),
                         .can_run = CanRunOnCpu,
                         .find_reason = FindReasonOnCpu,
                         .is_reference = IsReferenceOnCpu,
                         .finish = nullptr};
  };
  static const CompileTarget of_any_cpu = make(true), of_this_cpu = make(false);
  return hardware_compatible ? of_any_cpu : of_this_cpu;
}

}  // namespace

const CompileTarget& GetTarget(std::string_view device, const TacticLimits& limits) {
  if (device == "cpu") return GetCpuTarget(limits.hardware_compatible);
#ifdef STATOR_WITH_CUDA
  return GetCudaTarget(device, limits);
#else
  Fail(ErrorKind::kUnsupported,
       "no engine for {}: this build of stator was made without CUDA's headers", device);
#endif
}

}  // namespace stator
