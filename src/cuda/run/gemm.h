// The gemm step by cuBLASLt: matmul with what its epilogues can do.
//
// In:  a kernel's body and operands. Out: a prepared step, or the number of ways to run it.
// A launch computes act(alpha * a b + beta * residual + bias), accumulated in fp32 (fp64 for
// fp64), where act is none, relu or the tanh form of gelu: cuBLASLt knows no other.
//
// Attributes of the step:
//   candidate  which of the algorithms that cuBLASLt's heuristics propose, best guess first
//   version    of the library that proposed it; under another the first candidate is taken
//   tf32       whether fp32 products may use TF32 tensor cores
//   alignment  bytes that all operands' addresses are multiples of
//   workspace  most bytes of scratch memory; kMaxGemmWsBytes without it
#pragma once

#include <memory>

#include "cuda/run/cublaslt.h"
#include "cuda/run/libraries.h"
#include "cuda/run/step.h"

namespace stator {

// Workspace that an algorithm may ask for: what cuBLAS takes on Hopper by itself.
inline constexpr int64_t kMaxGemmWsBytes = int64_t{32} << 20;

// Whether a body is what one launch computes, whatever its operands' strides.
bool IsCublasLtBody(const Graph& body);

// Whether such a body's operands lie as cuBLASLt takes them.
bool IsCublasLtSite(const CudaStepSite& site);

// How many algorithms cuBLASLt proposes; 0 when it cannot run the kernel.
int CountGemmCandidates(const CudaStepSite& site, const CublasLt& cublaslt);

// Null when cuBLASLt is missing or cannot run the kernel.
std::unique_ptr<CudaStep> PrepareCublasLt(const CudaStepSite& site, CudaLibraries& libraries);

}  // namespace stator
