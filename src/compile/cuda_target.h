// The CUDA engine as a target of compilation.
#pragma once

#include <string_view>

#include "compile/target.h"

namespace stator {

// `device`: "cuda", "cuda:1", or an arch of base/target.h ("sm_90a") to compile without a device.
const CompileTarget& GetCudaTarget(std::string_view device, const TacticLimits& limits);

}  // namespace stator
