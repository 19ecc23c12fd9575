#include "cuda/run/cublaslt.h"

#include "base/error.h"
#include "base/log.h"
#include "cuda/run/shared_library.h"

namespace stator {
namespace {

constexpr int64_t kMinVersion = 120000;

}  // namespace

void CublasLtApi::Check(cublasStatus_t status, std::string_view call) const {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  Fail(ErrorKind::kDeviceError, "{} failed with {}: {}", call, GetStatusName(status),
       GetStatusString(status));
}

std::unique_ptr<CublasLt> CublasLt::Find(std::string* why_not) {
  constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
  std::string reason;
  std::optional<SharedLibrary> library = SharedLibrary::Find(kNames, &reason);
  if (!library) {
    *why_not = fmt::format("cuBLASLt is missing ({}): install nvidia-cublas", reason);
    return nullptr;
  }
  CublasLtApi api;
  const char* missing = nullptr;
#define STATOR_CUBLASLT_FIND(name)                                                 \
  api.name = library->FindFunction<decltype(&::cublasLt##name)>("cublasLt" #name); \
  if (api.name == nullptr) missing = "cublasLt" #name;
  STATOR_CUBLASLT(STATOR_CUBLASLT_FIND)
#undef STATOR_CUBLASLT_FIND
  if (missing != nullptr) {
    *why_not = fmt::format("{} has no {}: expected cuBLAS 12 or newer", library->path(), missing);
    return nullptr;
  }
  int64_t version = static_cast<int64_t>(api.GetVersion());
  if (version < kMinVersion) {
    *why_not =
        fmt::format("{} is version {}: expected cuBLAS 12 or newer", library->path(), version);
    return nullptr;
  }
  Log().debug("cuBLASLt {} is {}", version, library->path());
  try {
    return std::make_unique<CublasLt>(api);
  } catch (const Error& error) {
    *why_not = fmt::format("cuBLASLt cannot be used: {}", error.message());
    return nullptr;
  }
}

CublasLt::CublasLt(const CublasLtApi& api) : api_(api) {
  STATOR_CALL_CUBLASLT(api_, Create, &handle_);
  version_ = static_cast<int64_t>(api_.GetVersion());
}

CublasLt::~CublasLt() { api_.Destroy(handle_); }

}  // namespace stator
