// The dims over which a kernel runs, merged as far as all operands allow, and how many neighbouring
// elements can be read at once.
//
// In:  a domain and the strides with which each operand is read over it (0: repeated).
// Out: dims from the outermost to the innermost in the order in which the first operand lies.
// Invariant: what is merged has no dim of size 1, and one dim at least.
#pragma once

#include "codegen/kernel_text.h"

namespace stator {

struct LoopDims {
  Dims dims;
  std::vector<Dims> strides;  // per operand

  Dim count() const { return NumElements(dims); }
};

// The strides with which an operand of these dims is read over `domain`, numpy-style.
Dims BroadcastStrides(const KernelOperand& operand, const Dims& domain);

// Sorts the dims by the first operand's strides (where sizes are symbolic, by a guess) and merges.
LoopDims MergeDims(const Dims& domain, std::vector<Dims> strides);
// Sorts them so without merging; `order` (may be null): which dim of the domain each one is.
LoopDims SortDims(const Dims& domain, const std::vector<Dims>& strides, std::vector<size_t>* order);
// Merges neighbours, in the order given.
LoopDims MergeInOrder(const Dims& domain, std::vector<Dims> strides);

// Whether the dim is a multiple of `divisor` for every value of its symbols.
bool IsMultiple(const Dim& dim, int64_t divisor);

// Whether the operand can be read `vec` neighbours at once along the innermost dim.
bool IsVectorised(const LoopDims& loop, size_t operand, const KernelOperand& layout, int64_t vec);

// The most elements that can be computed at once, given the operands' strides in the order outputs,
// inputs: the outputs are then written as vectors, the inputs read as vectors where they are
// contiguous.
int FindVec(const CudaSite& site, const LoopDims& loop);

// Names for the coordinates of the flat index `flat` ("i", of the first element), `names[k]` for
// dim k. Writes the lines for those that `used` tells.
void WriteCoordinates(KernelText& text, const LoopDims& loop, std::string_view flat,
                      const std::vector<std::string>& names, const std::vector<bool>& used);

// Whether the operand's offset is the flat index.
bool IsFlat(const LoopDims& loop, size_t operand);
// The operand's offset from its coordinates, or the flat index when there is one.
std::string OffsetText(KernelText& text, const LoopDims& loop, size_t operand,
                       std::string_view flat, const std::vector<std::string>& names);

}  // namespace stator
