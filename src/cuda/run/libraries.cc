#include "cuda/run/libraries.h"

#include "base/log.h"
#include "cuda/run/cublaslt.h"
#include "cuda/run/cudnn.h"

namespace stator {
namespace {

// The library, searched for on the first call.
template <typename Library>
Library* FindOnce(std::optional<std::unique_ptr<Library>>& slot) {
  if (!slot) {
    std::string why_not;
    slot = Library::Find(&why_not);
    if (*slot == nullptr) WarnOnce(why_not + "; kernels of Stator's own are used instead");
  }
  return slot->get();
}

}  // namespace

CudaLibraries::CudaLibraries() = default;
CudaLibraries::CudaLibraries(std::unique_ptr<CublasLt> cublaslt, std::unique_ptr<Cudnn> cudnn)
    : cublaslt_(std::move(cublaslt)), cudnn_(std::move(cudnn)) {}
CudaLibraries::~CudaLibraries() = default;

const CublasLt* CudaLibraries::FindCublasLt() {
  std::lock_guard lock(mutex_);
  return FindOnce(cublaslt_);
}

const Cudnn* CudaLibraries::FindCudnn() {
  std::lock_guard lock(mutex_);
  return FindOnce(cudnn_);
}

std::string CudaLibraries::key() {
  const CublasLt* cublaslt = FindCublasLt();
  const Cudnn* cudnn = FindCudnn();
  return fmt::format("cuBLASLt {}, cuDNN {}", cublaslt != nullptr ? cublaslt->version() : 0,
                     cudnn != nullptr ? cudnn->version() : 0);
}

}  // namespace stator
