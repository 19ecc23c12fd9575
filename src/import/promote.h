// Type promotion by torch's rules (https://docs.pytorch.org/docs/stable/tensor_attributes.html):
// a dtype of a higher category (bool < integer < float) wins; within a category tensors of rank >=
// 1 win over 0-d tensors, and those over Python numbers.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "import/conversion.h"

namespace stator {

// A tensor or a Python number.
struct Operand {
  ValueId value;
  std::optional<Scalar> scalar;
};

// torch.promote_types.
DType PromoteTypes(DType a, DType b);
// torch.result_type over all operands.
DType ResultType(const Conversion& c, std::span<const Operand> operands);
// The dtype of true division and of functions such as sin: float32 for integers and bool.
DType ToFloatType(DType dtype);
// Whether `scalar` is exact in `dtype`.
bool IsExact(const Scalar& scalar, DType dtype);

// The argument `name`: a tensor or a number.
Operand GetOperand(const Conversion& c, std::string_view name);
// As a tensor of `dtype`: a cast, or a literal.
ValueId Materialize(Conversion& c, const Operand& operand, DType dtype);

// op(operands...), all cast to `dtype`. Beside a number that a 16-bit float cannot hold exactly,
// arithmetic is computed in float32 and its result cast back, as torch does.
ValueId AddPromoted(Conversion& c, std::string_view op, std::span<const Operand> operands,
                    DType dtype, Attrs attrs = {});

}  // namespace stator
