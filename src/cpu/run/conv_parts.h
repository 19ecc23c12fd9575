// A convolution whose long sums are added up in parts, each of some channels of x.
//
// A primitive adds all products of an output element in one chain, whose rounding errors grow with
// the root of its length: 8e-7 of the results' root mean square for 2304 products of normal data,
// 3e-7 in parts of 288. It costs a copy of x and a few passes over the output: 4 % of the time of
// 256 channels of 24 x 24 pixels and a window of 3 x 3 on AVX-512.
#pragma once

#include <functional>
#include <memory>

#include "cpu/run/post_ops.h"
#include "cpu/run/step.h"

namespace stator {

// Prepares the convolution of a part's operands; `adds`: to what the output holds.
using FindPartFn =
    std::function<std::unique_ptr<PreparedStep>(const StepSite&, const FusedBody&, bool adds)>;

// For a body that is a conv alone. Null where it is none of float32 with one group and a
// channels-last output, where its sums are short, and where `find` gives null.
std::unique_ptr<PreparedStep> FindConvParts(const StepSite& site, const FusedBody& fused,
                                            const FindPartFn& find);

}  // namespace stator
