// A fused step that never hides a NaN.
//
// oneDNN's relu, clip and their kin are x86 minima and maxima, which drop a NaN that torch keeps.
// They raise the processor's invalid-operation flag when they do (Intel SDM, MAXPS: "Invalid,
// including QNaN source operand"). So the fused step runs first, and where a thread shows the flag,
// the kernel runs again in two steps: the operation alone, then its post-ops by the pointwise step.
#pragma once

#include <memory>

#include "cpu/run/onednn.h"
#include "cpu/run/step.h"

namespace stator {

// Whether this processor tells of dropped NaNs.
bool HasInvalidFlag();

// `fused` is the step of `fusion`, which runs the body of `site`; the post-ops stand for the nodes
// from position `first_node` on. A call that meets NaNs allocates.
std::unique_ptr<PreparedStep> MakeExact(std::unique_ptr<OneDnnStep> fused, Fusion fusion,
                                        const StepSite& site, size_t first_node);

}  // namespace stator
