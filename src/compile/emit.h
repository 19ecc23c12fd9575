// Emit: placed steps and their tactics become a Plan.
//
// In:  a Placement, and one Tactic for each of its steps that runs a kernel (in order, prologue
// first). Out: a Plan that passes CheckPlan. Deterministic: equal input gives equal bytes.
#pragma once

#include <string>
#include <vector>

#include "compile/place.h"
#include "select/select.h"

namespace stator {

Plan Emit(const Graph& kernels, Placement placement, const std::vector<Tactic>& tactics,
          std::string target);

}  // namespace stator
