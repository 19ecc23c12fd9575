// Measures a tactic in place: prepares the step and times it on random data.
//
// In:  a kernel with its operands' layouts, and a tactic. Out: seconds.
// Invariant: bounded in time, so that a tactic that turns out slow does not hold up a compilation.
#pragma once

#include <string>

#include "select/select.h"

namespace stator {

// Seconds of one run: the least of several averages over `num_runs` runs in a row; infinity when
// the tactic cannot run the kernel.
double MeasureTactic(const KernelSite& site, const Tactic& tactic, int num_runs = 1);

// "AuthenticAMD family 25 model 17", or the machine's architecture where there is no cpuid.
std::string CpuModelName();

}  // namespace stator
