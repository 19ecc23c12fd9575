// NVIDIA's libraries as one CUDA context uses them.
//
// In:  what cuda/run/shared_library.h finds. Out: cuBLASLt and cuDNN, each opened on first use.
// Invariant: a missing library is warned about once, with what to install, and is null from then
// on: whoever asks then makes a poorer choice (kernels of our own). Threads may share it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace stator {

class CublasLt;
class Cudnn;

class CudaLibraries {
 public:
  // For the context that is current when a library is first asked for; always the same one.
  CudaLibraries();
  // With libraries made elsewhere; null: missing.
  CudaLibraries(std::unique_ptr<CublasLt> cublaslt, std::unique_ptr<Cudnn> cudnn);
  ~CudaLibraries();

  const CublasLt* FindCublasLt();
  const Cudnn* FindCudnn();
  // "cuBLASLt 130401, cuDNN 92600": tactics measured under another key do not count.
  std::string key();

 private:
  std::mutex mutex_;
  std::optional<std::unique_ptr<CublasLt>> cublaslt_;
  std::optional<std::unique_ptr<Cudnn>> cudnn_;
};

}  // namespace stator
