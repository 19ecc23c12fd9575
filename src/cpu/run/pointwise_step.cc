// PreparePointwise: by the reference kernels.
#include "cpu/run/step.h"

namespace stator {

std::unique_ptr<PreparedStep> PreparePointwise(const StepSite& site) { return PrepareReference(site); }

}  // namespace stator
