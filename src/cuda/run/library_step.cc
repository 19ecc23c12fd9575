#include "cuda/run/library_step.h"

#include "base/error.h"
#include "cuda/run/cudnn_step.h"
#include "cuda/run/gemm.h"

namespace stator {

std::unique_ptr<CudaStep> PrepareLibraryStep(const CudaStepSite& site, CudaLibraries& libraries) {
  const Attr* attr = site.step->attrs.Find("library");
  const auto* name = attr != nullptr ? std::get_if<std::string>(attr) : nullptr;
  if (name != nullptr && *name == "cublaslt" && site.step->kind == StepKind::kGemm) {
    return PrepareCublasLt(site, libraries);
  }
  bool is_cudnn = name != nullptr && *name == "cudnn" &&
                  (site.step->kind == StepKind::kConv || site.step->kind == StepKind::kAttention);
  if (is_cudnn) return PrepareCudnn(site, libraries);
  Fail(ErrorKind::kCorruptFile, "a {} step of library {}", StepKindName(site.step->kind),
       name != nullptr ? *name : "without a name");
}

}  // namespace stator
