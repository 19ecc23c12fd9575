// Copies on the device between tensors of any strides, by a kernel of our own.
//
// In:  two tensors of equal dtype and dims. Out: launches whose parameters may be set anew in a
// graph. Invariant: dims that lie behind each other in both tensors are one, and elements that lie
// next to each other in both are moved up to 16 bytes at a time.
#pragma once

#include <memory>
#include <vector>

#include "cuda/run/kernel.h"
#include "ir/op_def.h"

namespace stator {

class CudaCopier {
 public:
  // Loads the kernel into the current context.
  explicit CudaCopier(const Driver& driver);

  // A copy between tensors of these layouts, ready for any addresses that are multiples of
  // `alignment` bytes (and of the element's size).
  struct Copy {
    static constexpr int kMaxRank = 8;
    KernelLaunch launch;
    unsigned count = 0, rank = 0;                                    // of the kernel's elements
    unsigned dims[kMaxRank] = {};                                    // innermost first
    int64_t from_strides[kMaxRank] = {}, to_strides[kMaxRank] = {};  // in bytes
    int64_t from_offset = 0, to_offset = 0;                          // in bytes
  };
  // One after the other: more than one for more than 2^31 elements or 8 dims, none without
  // elements.
  std::vector<Copy> Make(const TensorRef& from, const TensorRef& to, int alignment) const;
  // The bytes from the first to the last one of a tensor, gaps included, to a buffer laid out
  // alike.
  std::vector<Copy> MakeDense(int64_t bytes, int alignment) const;

  void Launch(const Copy& copy, const std::byte* from, std::byte* to, CUstream stream) const;
  void Patch(const Copy& copy, const std::byte* from, std::byte* to, CUgraphExec exec,
             CUgraphNode node) const;

 private:
  std::vector<Copy> MakeHalves(const TensorRef& from, const TensorRef& to, int alignment) const;

  const Driver& driver_;
  std::unique_ptr<CudaModule> module_;
  CUfunction functions_[5] = {};  // for elements of 1, 2, 4, 8 and 16 bytes
};

// The kernels' text, PTX.
std::string CudaCopierText();

}  // namespace stator
