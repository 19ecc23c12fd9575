// The conv and attention steps by cuDNN.
//
// In:  a kernel's body and operands. Out: the computation as cuDNN is asked for it, and a prepared
// step. A convolution takes x and w either both channels-last (fast) or both row-major, and runs
// with its epilogue, relu(conv + residual + bias) or a part of it, as one graph: that much cuDNN
// has compiled ahead. Where it has no engine for the whole, the epilogue runs as a second graph.
// Attention is for float16 and bfloat16, with rows dense in memory.
//
// Attributes of the step:
//   engine   cuDNN's engine and its settings (Cudnn::FindEngines); the heuristics' first without it
//   version  of the library that proposed it; under another it is not asked for
//   tf32     whether fp32 convolutions may use TF32 tensor cores
//   workspace  most bytes of scratch memory, a result between two graphs among them; without it,
//              kMaxCudnnWsBytes for each graph
#pragma once

#include <memory>
#include <optional>

#include "cuda/run/cudnn.h"
#include "cuda/run/libraries.h"
#include "cuda/run/step.h"

namespace stator {

// Whether a body is a convolution with such an epilogue, whatever its operands'
// strides.
bool IsCudnnConvBody(const Graph& body);

// A computation, and which of the step's inputs its operands are.
struct CudnnProblem {
  CudnnGraph graph;
  std::vector<int> operands;
  bool is_empty = false;  // the output has no elements
};

// Empty when cuDNN is not to be asked: a dtype, a layout or a node that it does not have. `step` is
// of kind kConv or kAttention.
std::optional<CudnnProblem> FindCudnnProblem(const CudaStepSite& site);

// Null when cuDNN is missing or cannot run the kernel.
std::unique_ptr<CudaStep> PrepareCudnn(const CudaStepSite& site, CudaLibraries& libraries);

}  // namespace stator
