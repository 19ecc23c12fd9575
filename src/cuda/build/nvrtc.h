// NVRTC, NVIDIA's compiler of CUDA C++ as a library: kernel text to a binary, opened at run time.
//
// In:  a kernel of codegen and the architecture to compile for; no device is needed. Out: a cubin.
// Where it is looked for: cuda/run/shared_library.h. Safe for concurrent calls.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "codegen/cuda_kernel.h"

namespace stator {

class Nvrtc {
 public:
  // The process's NVRTC, opened by the first call; null when there is none that serves, `why_not`
  // (may be null) then saying what was looked for and what to install.
  static const Nvrtc* Find(std::string* why_not = nullptr);

  ~Nvrtc();
  Nvrtc(const Nvrtc&) = delete;
  Nvrtc& operator=(const Nvrtc&) = delete;

  // "13.2"
  const std::string& version() const { return version_; }
  // Whether this version compiles for the architecture.
  bool Supports(const Target& target) const;
  // Machine code, or for kPortableArch PTX ended by a zero byte.
  // Raises DeviceError with the compiler's own words for a text that it rejects; the text is kept
  // in the folder of temporary files, to be sent with a report.
  std::vector<std::byte> Compile(const CudaKernel& kernel, const std::string& arch) const;

 private:
  struct Functions;
  Nvrtc();

  std::unique_ptr<const Functions> functions_;
  std::string version_;
};

}  // namespace stator
