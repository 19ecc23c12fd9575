// Devices by what a plan or an option names, as the public interfaces need them.
//
// In a build without the CUDA engine each function that needs it raises Unsupported.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <dlpack/dlpack.h>

#include "runtime/device.h"

namespace stator {

// The device that runs a plan for `target` ("cpu", "cuda sm_90a"): of CUDA devices that of the
// ordinal. Raises as GetCudaDevice (cuda/run/cuda_device.h).
Device& GetDevice(std::string_view target, int ordinal);

DLDevice ToDLDevice(const Device& device);

// Why there is no CUDA device of this ordinal to run engines on: no driver, too old a GPU, ...;
// empty when there is.
std::string WhyNoCuda(int ordinal);

// One more folder to look for NVIDIA's libraries in (cuda/run/shared_library.h).
void AddCudaFolder(std::string folder);

// Called when the memory of a CUDA device does not suffice, before the last try.
void OnCudaOutOfMemory(std::function<void()> release);

}  // namespace stator
