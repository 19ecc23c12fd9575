// A CUDA device as the runtime sees one.
//
// In:  plans for "cuda <arch>", whose kernels were compiled ahead. Out: programs that run on a
// caller's stream (cuda/run/cuda_program.h).
// Invariants: the device's primary context is used, which PyTorch and the CUDA runtime use as well,
// so memory and streams are theirs and ours alike; it is current in the calling thread only during
// a call. All work that no caller waits for (prologue, packing) is on one stream of the device's
// own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/hash.h"
#include "cuda/run/copy.h"
#include "cuda/run/kernel.h"
#include "cuda/run/libraries.h"
#include "runtime/device.h"

namespace stator {

class CudaDevice final : public Device {
 public:
  // Raises DeviceError for an ordinal that there is not, and Unsupported for a device of a compute
  // capability below 8.0.
  CudaDevice(const Driver& driver, int ordinal);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  // ---- Device
  std::string_view name() const override { return name_; }  // "cuda:0"
  // Raises Unsupported, naming both, for code of an architecture that this device cannot run.
  std::unique_ptr<Program> Load(const BoundPlan& bound, std::span<const Step> steps) override;
  std::byte* Allocate(int64_t bytes) override;
  void Free(std::byte* data) override;
  void Copy(const TensorRef& from, const TensorRef& to, DeviceStream stream) override;
  int64_t alignment() const override { return kAlignment; }
  bool reads_host_memory() const override { return false; }
  ConstantData BringConstant(const ConstantData& data) override;
  ConstantData BringToHost(const ConstantData& data) override;
  DeviceStream stream() override { return stream_; }
  void Finish() override;
  StreamKey FindKey(DeviceStream stream) override;

  // ---- for programs
  const Driver& driver() const { return driver_; }
  CUcontext context() const { return context_; }
  const CudaCopier& copier() const { return *copier_; }
  int ordinal() const { return ordinal_; }
  const std::string& model() const { return model_; }
  // Of the compute capability: 9 and 0.
  int major() const { return major_; }
  int minor() const { return minor_; }
  // "sm_90"
  std::string arch() const;
  // Used with the context current alone.
  CudaLibraries& libraries() { return libraries_; }
  // The code loaded; equal binaries are loaded once, and unloaded with the last program that has
  // them.
  std::shared_ptr<const CudaModule> LoadModule(const PlanCode& code);

  // Addresses of callers' tensors and of weights are multiples of this many bytes.
  static constexpr int64_t kAlignment = 16;

 private:
  void CheckArch(const std::string& arch) const;

  const Driver& driver_;
  const int ordinal_;
  const std::string name_;
  std::string model_;  // "NVIDIA H100 80GB HBM3"
  int major_ = 0, minor_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  std::unique_ptr<CudaCopier> copier_;
  CudaLibraries libraries_;
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const CudaModule>> modules_;  // by hash of the binary
};

// The device of an ordinal, by the driver of the process: one object each, for ever. Raises
// DeviceError without a driver (cuda/run/driver.h) or device, Unsupported for one that is too old.
CudaDevice& GetCudaDevice(int ordinal);

// Called when the memory of a device does not suffice, before the second and last try: frees what a
// caller's own allocator keeps unused.
void SetReleaseMemory(std::function<void()> release);

}  // namespace stator
