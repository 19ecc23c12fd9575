#include "api/devices.h"

#include "base/error.h"
#include "base/target.h"
#ifdef STATOR_WITH_CUDA
#include "cuda/run/cuda_device.h"
#include "cuda/run/shared_library.h"
#endif

namespace stator {
namespace {

Device& GetCuda(int ordinal) {
#ifdef STATOR_WITH_CUDA
  return GetCudaDevice(ordinal);
#else
  Fail(ErrorKind::kUnsupported,
       "no engine for cuda:{}: this build of stator was made without CUDA's headers", ordinal);
#endif
}

}  // namespace

Device& GetDevice(std::string_view target, int ordinal) {
  return target.starts_with("cuda") ? GetCuda(ordinal) : CpuDevice();
}

DLDevice ToDLDevice(const Device& device) {
  if (!device.name().starts_with("cuda")) return {kDLCPU, 0};
  return {kDLCUDA, GetOrdinal(device.name())};
}

std::string WhyNoCuda(int ordinal) {
  try {
    GetCuda(ordinal);
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}

void AddCudaFolder([[maybe_unused]] std::string folder) {
#ifdef STATOR_WITH_CUDA
  AddLibraryFolder(std::move(folder));
#endif
}

void OnCudaOutOfMemory([[maybe_unused]] std::function<void()> release) {
#ifdef STATOR_WITH_CUDA
  SetReleaseMemory(std::move(release));
#endif
}

}  // namespace stator
