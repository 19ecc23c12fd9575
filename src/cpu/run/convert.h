// A tensor's elements in another floating type: oneDNN's own reorders between float32 and the types
// of 16 bits take one element at a time on processors that do not compute in those.
//
// In:  how the tensor lies and how it is to lie. Out: a step with one input and one output.
#pragma once

#include <memory>

#include <oneapi/dnnl/dnnl.hpp>

#include "cpu/run/step.h"

namespace stator {

// Null unless just one side is float32, the other one float16 or bfloat16, and both are strided.
std::unique_ptr<PreparedStep> FindConversion(const dnnl::memory::desc& from,
                                             const dnnl::memory::desc& to);

}  // namespace stator
