// Kernels of a loaded binary, and their launches: on a stream, or set anew in an instantiated
// graph.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "cuda/run/driver.h"

namespace stator {

// A device's context made current in a scope; a context that is current already costs nothing.
class CudaScope {
 public:
  CudaScope(const Driver& driver, CUcontext context) : driver_(driver) {
    CUcontext current = nullptr;
    STATOR_CUDA(driver_, CtxGetCurrent, &current);
    if (current == context) return;
    STATOR_CUDA(driver_, CtxPushCurrent, context);
    pushed_ = true;
  }
  ~CudaScope() {
    CUcontext popped = nullptr;
    if (pushed_) driver_.CtxPopCurrent(&popped);
  }
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;

 private:
  const Driver& driver_;
  bool pushed_ = false;
};

// Lets this thread allocate while any thread captures a stream: what is done so is no part of the
// capture.
class CudaRelaxedCapture {
 public:
  explicit CudaRelaxedCapture(const Driver& driver) : driver_(driver) {
    driver_.ThreadExchangeStreamCaptureMode(&mode_);
  }
  ~CudaRelaxedCapture() { driver_.ThreadExchangeStreamCaptureMode(&mode_); }
  CudaRelaxedCapture(const CudaRelaxedCapture&) = delete;
  CudaRelaxedCapture& operator=(const CudaRelaxedCapture&) = delete;

 private:
  const Driver& driver_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
};

// A binary (cubin, or PTX text ended by a zero byte) loaded into the current context.
class CudaModule {
 public:
  // Raises DeviceError for a binary that the device cannot run.
  CudaModule(const Driver& driver, const void* image);
  // Waits for the device: no kernel of the module runs afterwards. The context need not be current.
  ~CudaModule();
  CudaModule(const CudaModule&) = delete;
  CudaModule& operator=(const CudaModule&) = delete;

  // Raises DeviceError when the binary has no such kernel. `smem`: bytes of dynamic shared memory
  // that a launch of it may take.
  CUfunction GetFunction(const std::string& entry, int smem = 0) const;

 private:
  const Driver& driver_;
  CUcontext context_ = nullptr;
  CUmodule module_ = nullptr;
};

struct KernelLaunch {
  CUfunction function = nullptr;
  std::array<unsigned, 3> grid = {1, 1, 1};
  unsigned block = 1;  // threads
  unsigned smem = 0;   // bytes of dynamic shared memory
  bool pdl = false;    // may start before the kernel before it has ended, for which it waits itself

  bool empty() const { return grid[0] == 0 || grid[1] == 0 || grid[2] == 0; }
};

// `params`: the address of each parameter, which are copied. An empty launch does nothing.
void LaunchKernel(const Driver& driver, const KernelLaunch& launch, void** params, CUstream stream);
// Gives the node of a captured launch, which is not empty, other parameters.
void PatchKernel(const Driver& driver, const KernelLaunch& launch, void** params, CUgraphExec exec,
                 CUgraphNode node);

}  // namespace stator
