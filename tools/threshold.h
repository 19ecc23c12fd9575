// Decisions on their threshold: what a judge (tools/judge.h) has to try besides random values.
//
// In:  a node, and its operands in an undisturbed and in a disturbed evaluation.
// Out: the disturbed operands, with some elements on the threshold.
// Invariant: an element moves there only from beyond it, so that its error spans the threshold: for
//            any, all, logical operators and casts to bool, elements whose two values have opposite
//            signs become 0; for comparisons, pairs that compare otherwise than before become
//            equal. Random values meet neither.
#pragma once

#include <random>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "ops/tensor.h"

namespace stator {

// Makes `operands` refer to tensors that it returns, where it moves elements: each that may move
// does by chance. `result_dims`: of the node's result.
std::vector<HostTensor> MeetThresholds(const Node& node, std::span<const TensorRef> undisturbed,
                                       std::span<TensorRef> operands, const Sizes& result_dims,
                                       std::mt19937_64& random);

}  // namespace stator
