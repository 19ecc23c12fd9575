// Which outputs of a plan may lie in the memory of an input: state that a call updates.
//
// In:  a plan. Out: pairs of an output and an input, with which a call may be given the input's
// memory for the output. The input is then gone when the call returns.
// Invariant: with the output there, the steps compute what they do with it elsewhere, on a device
// whose steps of kind reference read all of an operand before they write it, or write indexed
// elements where the rest lies already: the CPU engine.
#pragma once

#include <vector>

#include "plan/plan.h"

namespace stator {

struct InPlace {
  int output = 0, input = 0;  // positions in the plan's lists
};

// At most one pair for an output, and one for an input. Pairs are of equal dtypes, dims and
// strides. Nothing reads the input once the output is being written, but for two kinds of steps:
// index_put or scatter from the whole input to the whole output, and copies of a part to the same
// place.
std::vector<InPlace> FindInPlace(const Plan& plan);

}  // namespace stator
