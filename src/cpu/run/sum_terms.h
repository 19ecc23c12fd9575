// A long sum of products, added up in terms: each of some channels of x and of the weights.
//
// In:  the fusion of a convolution or linear layer of float32. Out: the same in several primitives,
// each of which adds to what the one before left in the output.
// One primitive adds all products of an output element in one chain, whose rounding errors grow
// with the root of its length. The root mean square of the errors, in parts of that of the results,
// for normal data on AVX-512: 8e-7 for 2304 products in one chain, 3e-7 in terms of 288, and 2.2e-7
// by PyTorch; 5e-7 for 768 in one, 2.9e-7 in terms of 256, 2.5e-7 by PyTorch. It costs a copy of x
// and passes over the output: 3 to 5 % of the time of 256 channels of 24 x 24 pixels and a window
// of 3 x 3, 2 % of that of 128 rows times 768 x 768.
#pragma once

#include <cstdint>
#include <functional>

#include "cpu/run/onednn.h"

namespace stator {

// From which length on a sum is long.
inline constexpr int64_t kLongSum = 512;

// Creates the primitive of so many channels, of a dense x whose channels are innermost; with the
// bias, or without.
using MakeTermFn = std::function<dnnl::primitive_desc(int64_t channels, bool has_bias,
                                                      const dnnl::memory::desc& weights,
                                                      const dnnl::primitive_attr& attr)>;

// Splits a fusion that has no post-ops yet. The second dim of x and of the weights is that of the
// channels. False where the sums are short or the channels few.
bool SplitSum(Fusion& fusion, const MakeTermFn& make);

}  // namespace stator
