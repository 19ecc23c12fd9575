// Bind: a plan under given symbol values, its constants' addresses filled in.
#pragma once

#include "runtime/device.h"

namespace stator {

// Where the constants lie: one address per Plan::weights, literals and derived.
struct ConstantAddresses {
  std::vector<std::byte*> weights, literals, derived;
};

// Evaluates every size and plans the arena. Raises what CheckPlanSizes does for these symbol
// values. `plan` must outlive the result.
BoundPlan BindPlan(const Plan& plan, SymbolValues symbols, const ConstantAddresses& constants);

// An address for tensors without elements, whose own may be null.
std::byte* NoElements();

// A port under given symbol values; no data.
TensorRef BindPort(const PlanPort& port, const SymbolValues& symbols);

// Bytes from the first element to the end of the last; there is one.
int64_t Extent(const TensorRef& tensor);

// Whether `strides` place the elements of a tensor of these dims as `expected` does: strides of
// dims of size 1 do not matter, and none does when there are no elements.
bool IsSameLayout(std::span<const int64_t> dims, std::span<const int64_t> strides,
                  std::span<const int64_t> expected);

}  // namespace stator
