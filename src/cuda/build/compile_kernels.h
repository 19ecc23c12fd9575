// Compiles the kernels of a plan's steps ahead: from what was chosen for a step to code it
// launches.
//
// In:  a plan whose steps' attributes say how their kernels are written (a variant of
// codegen/cuda_kernel.h), the target, and a folder that keeps binaries. Out: Plan::code, and the
// steps' launches.
// Invariant: equal texts are one code; the same plan gives the same code in the same order.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "codegen/cuda_kernel.h"
#include "plan/plan.h"

namespace stator {

// The operands of a step's or site's kernel. `alignment`: bytes that the address of each storage is
// a multiple of. Weights and literals are constants; in the main steps derived ones too.
std::vector<KernelOperand> MakeKernelOperands(std::span<const PlanTensor> tensors, int alignment,
                                              bool is_prologue);

// Compiles kernels in parallel. `cache_folder`: where binaries are kept between processes (files
// `*.kernel`), an opened cache folder, or empty. Copies get a kernel as well. Steps of libraries
// (attribute `library`) are left as they are. Raises DeviceError when there is no NVRTC, or none
// for the target, and for a kernel that does not compile.
void CompileKernels(Plan& plan, const Target& target, const std::string& cache_folder);

// One kernel, by way of the folder. What the process compiled lately is not compiled again.
std::vector<std::byte> CompileKernel(const CudaKernel& kernel, const Target& target,
                                     const std::string& cache_folder);
// Compiles kernels in parallel, for calls of CompileKernel to come; those that do not compile fail
// there.
void PrecompileKernels(std::span<const CudaKernel> kernels, const Target& target);

}  // namespace stator
