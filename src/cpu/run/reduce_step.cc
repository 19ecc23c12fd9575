// PrepareReduce: by the reference kernels.
#include "cpu/run/step.h"

namespace stator {

std::unique_ptr<PreparedStep> PrepareReduce(const StepSite& site) { return PrepareReference(site); }

}  // namespace stator
