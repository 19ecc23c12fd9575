#include "import/promote.h"

#include <algorithm>
#include <cmath>

namespace stator {
namespace {

int Category(DType dtype) { return dtype == DType::kBool ? 0 : IsFloat(dtype) ? 2 : 1; }

std::optional<DType> Join(std::optional<DType> a, std::optional<DType> b) {
  if (!a || !b) return a ? a : b;
  return PromoteTypes(*a, *b);
}

// A result of higher priority keeps its dtype unless the other is of a higher category.
std::optional<DType> Combine(std::optional<DType> high, std::optional<DType> low) {
  if (!high || !low) return high ? high : low;
  return Category(*low) > Category(*high) ? low : high;
}

DType ScalarType(const Scalar& scalar) {
  switch (scalar.kind) {
    case Scalar::Kind::kBool: return DType::kBool;
    case Scalar::Kind::kInt: return DType::kInt64;
    case Scalar::Kind::kFloat: return DType::kFloat32;
  }
  __builtin_unreachable();
}

// Ops whose number operand torch keeps in float32 beside a 16-bit tensor.
bool KeepsNumbersWide(std::string_view op) {
  return op == "add" || op == "sub" || op == "mul" || op == "div" || op == "pow";
}

bool IsHalf(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

}  // namespace

DType PromoteTypes(DType a, DType b) {
  if (a == b) return a;
  if (Category(a) != Category(b)) return Category(a) > Category(b) ? a : b;
  if (IsFloat(a)) {
    // The two 16-bit formats hold neither one the other.
    if (IsHalf(a) && IsHalf(b)) return DType::kFloat32;
    return std::max(a, b);
  }
  // uint8 with a signed integer needs one more bit than int8 has.
  DType wide = std::max(a, b), narrow = std::min(a, b);
  return narrow == DType::kUInt8 && wide == DType::kInt8 ? DType::kInt16 : wide;
}

DType ResultType(const Conversion& c, std::span<const Operand> operands) {
  std::optional<DType> tensors, zero_dims, numbers;
  for (const Operand& operand : operands) {
    if (operand.scalar) {
      numbers = Join(numbers, ScalarType(*operand.scalar));
    } else {
      const TensorType& type = c.type(operand.value);
      std::optional<DType>& result = type.rank() == 0 ? zero_dims : tensors;
      result = Join(result, type.dtype);
    }
  }
  std::optional<DType> result = Combine(tensors, Combine(zero_dims, numbers));
  STATOR_CHECK(result.has_value(), "promotion without operands");
  return *result;
}

DType ToFloatType(DType dtype) { return IsFloat(dtype) ? dtype : DType::kFloat32; }

bool IsExact(const Scalar& scalar, DType dtype) {
  if (!scalar.is_static()) return false;
  double value = scalar.value();
  if (!std::isfinite(value)) return true;
  if (dtype == DType::kFloat16) return static_cast<double>(float(Float16(float(value)))) == value;
  if (dtype == DType::kBFloat16) return static_cast<double>(float(BFloat16(float(value)))) == value;
  return true;
}

Operand GetOperand(const Conversion& c, std::string_view name) {
  if (c.IsTensor(name)) return {.value = c.Tensor(name), .scalar = {}};
  return {.value = {}, .scalar = c.GetScalar(name)};
}

ValueId Materialize(Conversion& c, const Operand& operand, DType dtype) {
  return operand.scalar ? c.Literal(dtype, *operand.scalar) : c.Cast(operand.value, dtype);
}

ValueId AddPromoted(Conversion& c, std::string_view op, std::span<const Operand> operands,
                    DType dtype, Attrs attrs) {
  DType compute = dtype;
  for (const Operand& operand : operands) {
    bool wide = operand.scalar && !IsExact(*operand.scalar, dtype) && KeepsNumbersWide(op);
    if (IsHalf(dtype) && wide) compute = DType::kFloat32;
  }
  std::vector<ValueId> inputs;
  for (const Operand& operand : operands) inputs.push_back(Materialize(c, operand, compute));
  ValueId result = c.Add(op, std::move(inputs), std::move(attrs));
  return c.type(result).dtype == compute ? c.Cast(result, dtype) : result;
}

}  // namespace stator
