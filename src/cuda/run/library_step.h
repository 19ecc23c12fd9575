// The steps that NVIDIA's libraries run.
#pragma once

#include <memory>

#include "cuda/run/libraries.h"
#include "cuda/run/step.h"

namespace stator {

// The step by the library that its attribute `library` names ("cublaslt" or "cudnn"). Null when it
// is missing or cannot run the step; raises CorruptFile for a name that is none.
std::unique_ptr<CudaStep> PrepareLibraryStep(const CudaStepSite& site, CudaLibraries& libraries);

}  // namespace stator
