#include "compile/target.h"

#include "base/error.h"
#include "cpu/build/cpu_tactics.h"
#ifdef STATOR_WITH_CUDA
#include "compile/cuda_target.h"
#endif

namespace stator {

const CompileTarget& GetTarget(std::string_view device) {
  static const CompileTarget cpu = {.name = "cpu",
                                    .tactics = &GetCpuTactics(),
                                    .can_run = CanRunOnCpu,
                                    .find_reason = FindReasonOnCpu,
                                    .is_reference = IsReferenceOnCpu,
                                    .finish = nullptr};
  if (device == "cpu") return cpu;
#ifdef STATOR_WITH_CUDA
  return GetCudaTarget(device);
#else
  Fail(ErrorKind::kUnsupported,
       "no engine for {}: this build of stator was made without CUDA's headers", device);
#endif
}

}  // namespace stator
