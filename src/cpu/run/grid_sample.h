// Sampling at the points of a grid as a step of the CPU engine.
#pragma once

#include <memory>

#include "cpu/run/step.h"

namespace stator {

// One `grid_sample` node over f32; the rest goes to the reference kernel.
std::unique_ptr<PreparedStep> PrepareGridSample(const StepSite& site);

}  // namespace stator
