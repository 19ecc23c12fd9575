// A plan's steps on a CUDA device: launched one by one, or as one CUDA graph.
//
// In:  a bound plan for "cuda <arch>" and some of its steps. Out: a Program.
// The first run of a context launches step by step; the second captures the launches into a CUDA
// graph, which that and all later runs replay, with callers' pointers set anew where they changed.
// Where the pointers of a step cannot be set (CudaStep::hides_pointers) and a call brings others,
// the graph is captured anew, in which the step works on buffers of the program's own, with copies
// at the graph's start and end. What cannot be captured is launched step by step for ever, as is
// all that runs while the caller captures its stream.
// Invariant: an error leaves with the origin of the step.
#pragma once

#include <memory>
#include <span>

#include "cuda/run/cuda_device.h"

namespace stator {

// The device's context is current, as it is whenever the program is called from here on. Raises
// Unsupported naming a step that it cannot run.
std::unique_ptr<Program> LoadCudaProgram(CudaDevice& device, const BoundPlan& bound,
                                         std::span<const Step> steps);

}  // namespace stator
