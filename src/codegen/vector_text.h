// VectorText: reads and writes of operands by a thread that computes `vec` neighbouring elements.
//
// In:  the loop's dims with the operands in the order outputs, inputs, and the names of a thread's
// coordinates. Out: statements, and expressions for element `j` of the vector.
// Invariant: an operand that is contiguous along the innermost dim is moved as one vector, one that
// repeats there is read once, any other element by element.
#pragma once

#include "codegen/loop_dims.h"

namespace stator {

class VectorText {
 public:
  // `flat`: the name of the flat index over all dims, or empty when there is none. `moved`: whether
  // elements are moved unread, as unsigned integers.
  VectorText(KernelText& text, const LoopDims& loop, int vec, std::string flat,
             std::vector<std::string> coordinates, bool moved = false)
      : text_(text),
        loop_(loop),
        vec_(vec),
        flat_(std::move(flat)),
        coordinates_(std::move(coordinates)),
        moved_(moved) {}

  // Coordinates that some operand needs besides the flat index.
  std::vector<bool> FindUsed() const;

  // Writes the read of input `i` and returns its element.
  std::string Load(size_t i);
  // What an element of output `i` is assigned to; written for vectors by Declare before and by
  // Store after the loop over them.
  std::string Target(size_t i) const;
  void Declare(size_t i);
  void Store(size_t i, const std::string& where = "");

  // "x0_at + 8 * i0 + j"
  std::string InputAddress(size_t i);
  bool IsContiguous(size_t i) const { return InputStride(i) == Dim(1); }
  std::string InputType(size_t i) const { return TypeOf(text_.site().inputs[i].dtype); }

 private:
  size_t num_outputs() const { return text_.site().outputs.size(); }
  const Dim& InputStride(size_t i) const { return loop_.strides[num_outputs() + i].back(); }
  std::string TypeOf(DType dtype) const { return moved_ ? MovedType(dtype) : ElementType(dtype); }
  std::string Offset(size_t operand) const;

  KernelText& text_;
  const LoopDims& loop_;
  int vec_;
  std::string flat_;
  std::vector<std::string> coordinates_;
  bool moved_;
};

}  // namespace stator
