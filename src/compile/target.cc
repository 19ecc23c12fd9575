#include "compile/target.h"

#include "base/error.h"
#include "cpu/build/cpu_tactics.h"

namespace stator {

const CompileTarget& GetTarget(std::string_view device) {
  static const CompileTarget cpu = {.name = "cpu",
                                    .tactics = &GetCpuTactics(),
                                    .can_run = CanRunOnCpu,
                                    .find_reason = FindReasonOnCpu};
  if (device == "cpu") return cpu;
  Fail(ErrorKind::kInvalidArgument, "there is no device engine for {}: expected cpu", device);
}

}  // namespace stator
