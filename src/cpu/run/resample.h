// Resampling as a step of the CPU engine.
#pragma once

#include <memory>

#include "cpu/run/step.h"

namespace stator {

// One `resample` node over floats of 16 or 32 bits; the rest goes to the reference kernel.
std::unique_ptr<PreparedStep> PrepareResample(const StepSite& site);

}  // namespace stator
