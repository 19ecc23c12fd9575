#include "cpu/run/step.h"

namespace stator {

std::unique_ptr<PreparedStep> PreparePool(const StepSite& site) { return PrepareReference(site); }

}  // namespace stator
