// What the graph shows of an attention mask: bool (true: the key is seen) or float (added to the
// scores, -inf hides).
#pragma once

#include <cstdint>
#include <functional>

#include "ir/graph.h"

namespace stator {

// The literal that a mask is, seen through expands; else null.
const Value* FindMaskLiteral(const Graph& graph, ValueId mask);

// Whether each row of a literal mask leaves a key; an `inverted` bool mask hides where it is true.
bool LeavesKeys(const Value& mask, bool inverted);

// Whether a literal mask hides just the keys for which `hidden(query, key)`, and adds nothing to
// the others. Queries and keys are counted in the mask's last two dims.
bool HidesJust(const Value& mask, const std::function<bool(int64_t, int64_t)>& hidden);

// Whether no element of a float mask is -inf or NaN as far as the graph shows: weights, finite
// literals chosen by a condition, and sums and products of such with casts of integers and bools.
bool IsFinite(const Graph& graph, ValueId mask);

}  // namespace stator
