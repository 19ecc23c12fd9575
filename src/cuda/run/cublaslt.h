// cuBLASLt as a table of functions, opened at run time, and its handle.
//
// In:  libcublasLt.so, version 12 or newer, found by cuda/run/shared_library.h.
// Out: a CublasLt for the CUDA context that is current when it is made.
// Invariant: a failed call leaves as an Error of kind DeviceError that names the call and the
// status. Threads may share a CublasLt (cuBLAS documentation, "Thread Safety").
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <cublasLt.h>

namespace stator {

// X(name): the function cublasLt<name>.
#define STATOR_CUBLASLT(X)        \
  X(Create)                       \
  X(Destroy)                      \
  X(GetVersion)                   \
  X(GetStatusName)                \
  X(GetStatusString)              \
  X(Matmul)                       \
  X(MatmulDescCreate)             \
  X(MatmulDescDestroy)            \
  X(MatmulDescSetAttribute)       \
  X(MatrixLayoutCreate)           \
  X(MatrixLayoutDestroy)          \
  X(MatrixLayoutSetAttribute)     \
  X(MatmulPreferenceCreate)       \
  X(MatmulPreferenceDestroy)      \
  X(MatmulPreferenceSetAttribute) \
  X(MatmulAlgoGetHeuristic)       \
  X(MatmulAlgoInit)               \
  X(MatmulAlgoCheck)              \
  X(MatmulAlgoConfigSetAttribute) \
  X(MatmulAlgoConfigGetAttribute)

struct CublasLtApi {
#define STATOR_CUBLASLT_MEMBER(name) decltype(&::cublasLt##name) name = nullptr;
  STATOR_CUBLASLT(STATOR_CUBLASLT_MEMBER)
#undef STATOR_CUBLASLT_MEMBER

  // Raises unless `status` is a success; `call` is "cublasLtMatmul".
  void Check(cublasStatus_t status, std::string_view call) const;
};

class CublasLt {
 public:
  // Null when the library is missing or too old, with a sentence that says so in `why_not`.
  static std::unique_ptr<CublasLt> Find(std::string* why_not);
  explicit CublasLt(const CublasLtApi& api);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  const CublasLtApi& api() const { return api_; }
  cublasLtHandle_t handle() const { return handle_; }
  int64_t version() const { return version_; }  // 130401 for 13.4.1

 private:
  CublasLtApi api_;
  cublasLtHandle_t handle_ = nullptr;
  int64_t version_ = 0;
};

// api.Name(args...), with its result checked.
#define STATOR_CALL_CUBLASLT(api, name, ...) (api).Check((api).name(__VA_ARGS__), "cublasLt" #name)

}  // namespace stator
