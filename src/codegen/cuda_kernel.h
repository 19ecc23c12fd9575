// Kernel bodies to CUDA C++ text: pure functions of strings, which need neither CUDA nor a device.
//
// In:  a kernel's kind and body (src/fuse/fuse.h), the layouts of its operands, and the target.
// Out: the ways in which it can be written, and the text of one.
// Invariants: the text includes nothing but kPreludeName; equal arguments give equal text; sizes
// that are static are literals. A kernel reads only inside of its inputs and writes only inside of
// its outputs, which do not overlap its inputs.
//
// Parameters of a kernel, in order: a pointer per present input, a pointer per output (each to the
// tensor's first element), a `long long` per symbol. A launch with a size of 0 in its grid is to be
// left out. A kernel may be launched while the one before it still runs (programmatic dependent
// launch): it waits for it before it reads what is not constant, and before it writes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/target.h"
#include "ir/graph.h"

namespace stator {

// An operand of a step as a kernel sees it.
struct KernelOperand {
  DType dtype = DType::kFloat32;
  Dims dims, strides;   // strides in elements
  int alignment = 16;   // bytes that the first element's address is a multiple of
  bool present = true;  // false: an absent optional input, which has no parameter
  bool constant =
      false;  // written before any launch that this one may overlap: a weight, a literal
};

struct CudaKernel {
  std::string source, entry;
  Dims grid;        // blocks along x, y, z
  int block = 0;    // threads, along x
  int smem = 0;     // bytes of dynamic shared memory
  int cluster = 1;  // blocks, neighbours along x, that run together; the text says so, too
  std::vector<std::string> symbols;
};

// Ways to write the kernel, best guess first, as attributes that MakeCudaKernel takes (`vec`
// elements at once, `block` threads, ...). Empty when there is none. `kind` is a kernel node's, or
// "copy" with an empty body.
std::vector<Attrs> FindCudaVariants(std::string_view kind, const Graph& body,
                                    std::span<const KernelOperand> inputs,
                                    std::span<const KernelOperand> outputs, const Target& target);

// `variant`: one that FindCudaVariants gave for the same arguments, or for the same kernel with
// other values in place of its symbols.
CudaKernel MakeCudaKernel(std::string_view kind, const Graph& body,
                          std::span<const KernelOperand> inputs,
                          std::span<const KernelOperand> outputs, const Target& target,
                          const Attrs& variant);

// The header that every kernel's text includes under this name (src/codegen/prelude.cuh).
inline constexpr std::string_view kPreludeName = "prelude.cuh";
extern const std::string_view kCudaPrelude;

// How the name of every kernel begins, by which tools tell ours from a library's (bench/gpu.sh).
inline constexpr std::string_view kEntryPrefix = "stator_";

// How the names of compiled kernels end in the cache folder.
inline constexpr std::string_view kKernelSuffix = ".kernel";

}  // namespace stator
