// The conv step: a convolution, plain or transposed, with its epilogue, by oneDNN.
//
// In:  a kernel's body and operands, and the layout to run it in. Out: a prepared step.
#pragma once

#include <memory>
#include <string_view>

#include "cpu/run/step.h"

namespace stator {

// Values of the attribute `layout` of a conv step: how the primitive sees x and the output.
inline constexpr std::string_view kConvLayouts[] = {
    "given",          // as they lie
    "channels_last",  // channels innermost, copied when they lie otherwise
    "any",            // as the primitive likes best, copied when they lie otherwise
    "blocked",        // 16 channels innermost, copied; adds up block by block
    "terms",          // channels innermost, long sums added up in terms (cpu/run/sum_terms.h)
};

// Whether this machine has code for "blocked" (below AVX-512, blocks are added in one chain, too).
bool HasBlockedConvs();

// Null when oneDNN has no optimised implementation of the body in this layout, or when it is the
// same as "given".
std::unique_ptr<PreparedStep> FindConv(const StepSite& site, std::string_view layout);

}  // namespace stator
