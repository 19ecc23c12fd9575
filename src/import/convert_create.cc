// Converters of ops that make tensors from numbers and sizes alone.
#include <algorithm>
#include <cmath>

#include "import/conversion.h"
#include "import/promote.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

Scalar Number(double value) { return {.kind = Scalar::Kind::kFloat, .number = value, .size = {}}; }

// full, zeros, ones, empty: `value` is the number as text, or "" to read it from `fill_value`.
// Every value is right for an element of empty.
Values ConvertFull(Conversion& c, std::string_view value) {
  Scalar scalar = value.empty() ? c.GetScalar("fill_value") : Number(value == "1" ? 1 : 0);
  return {c.Full(c.Sizes("size"), c.output_type().dtype, scalar)};
}

// full_like and its kin take the sizes of `self`.
Values ConvertFullLike(Conversion& c, std::string_view value) {
  Scalar scalar = value.empty() ? c.GetScalar("fill_value") : Number(value == "1" ? 1 : 0);
  return {c.Full(c.type(c.Tensor("self")).dims, c.output_type().dtype, scalar)};
}

Values ConvertScalarTensor(Conversion& c, std::string_view) {
  return {c.Literal(c.output_type().dtype, c.GetScalar("s"))};
}

ValueId Arange(Conversion& c, DType dtype, double start, double step, const Dim& size) {
  return c.Add("arange", {}, {{"dtype", dtype}, {"start", start}, {"step", step}, {"size", size}});
}

Values ConvertArange(Conversion& c, std::string_view) {
  const TensorType type = c.output_type();
  Scalar start = c.GetScalar("start", 0);
  double step = c.Float("step", 1);
  // The op keeps both in doubles, exact up to 2^53.
  constexpr double kMaxExact = 0x1p53;
  c.Require(std::abs(step) <= kMaxExact, "arange with a step beyond 2^53");
  if (start.is_static()) {
    c.Require(std::abs(start.value()) <= kMaxExact, "arange from a number beyond 2^53");
    return {Arange(c, type.dtype, start.value(), step, type.dims.at(0))};
  }
  c.Require(!IsFloat(type.dtype), "arange of floats from a symbolic size");
  ValueId range = Arange(c, type.dtype, 0, step, type.dims.at(0));
  return {c.Add("add", {range, c.Literal(type.dtype, start)})};
}

// linspace counts from both ends towards the middle, integers in doubles
// (ATen/native/cpu/RangeFactoriesKernel.cpp); 16-bit floats are counted in float32 here.
Values ConvertLinspace(Conversion& c, std::string_view) {
  const TensorType type = c.output_type();
  constexpr int64_t kMaxLiteral = 1 << 16;
  c.Require(type.dtype != DType::kBool, "linspace of bool");
  c.Require(type.dims.at(0).is_static() && type.dims[0].value() <= kMaxLiteral,
            "linspace of a symbolic or large size");
  auto exact = [&](double x) {
    if (IsInteger(type.dtype)) return std::trunc(x);
    return type.dtype != DType::kFloat64 ? static_cast<double>(static_cast<float>(x)) : x;
  };
  double start = exact(c.Float("start")), end = exact(c.Float("end"));
  int64_t steps = type.dims[0].value();
  double step = steps > 1 ? (end - start) / static_cast<double>(steps - 1) : 0;
  if (!IsInteger(type.dtype)) step = exact(step);
  std::vector<double> values;
  for (int64_t i = 0; i < steps; ++i) {
    values.push_back(i < steps / 2 || steps == 1 ? start + step * static_cast<double>(i)
                                                 : end - step * static_cast<double>(steps - i - 1));
  }
  if (IsInteger(type.dtype)) std::transform(values.begin(), values.end(), values.begin(), exact);
  if (values.empty()) return {c.Full(type.dims, type.dtype, Number(0))};
  return {AddLiteral(c.graph(), type, values)};
}

// The same where start or end is a 0-d tensor.
Values ConvertLinspaceOfTensors(Conversion& c, std::string_view) {
  const TensorType type = c.output_type();
  c.Require(type.dtype != DType::kBool, "linspace of bool");
  c.Require(type.dims.at(0).is_static(), "linspace of a symbolic size");
  int64_t steps = type.dims[0].value();
  DType dtype =
      IsInteger(type.dtype) || type.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  auto bound = [&](std::string_view name) {
    return c.Cast(Materialize(c, GetOperand(c, name), type.dtype), dtype);
  };
  ValueId start = bound("start"), end = bound("end");
  if (steps <= 1) return {c.Expand(c.Cast(start, type.dtype), type.dims)};
  auto literal = [&](int64_t value) { return c.Literal(dtype, static_cast<double>(value)); };
  ValueId step = c.Add("div", {c.Add("sub", {end, start}), literal(steps - 1)});
  ValueId index = Arange(c, dtype, 0, 1, steps);
  ValueId low = c.Add("add", {start, c.Add("mul", {step, index})});
  ValueId rest = c.Add("sub", {literal(steps - 1), index});
  ValueId high = c.Add("sub", {end, c.Add("mul", {step, rest})});
  ValueId is_low = c.Add("lt", {index, literal(steps / 2)});
  return {c.Cast(c.Add("where", {is_low, low, high}), type.dtype)};
}

// eye: one where row and column agree.
Values ConvertEye(Conversion& c, std::string_view) {
  const TensorType type = c.output_type();
  ValueId rows = Arange(c, DType::kInt64, 0, 1, type.dims.at(0));
  ValueId columns = Arange(c, DType::kInt64, 0, 1, type.dims.at(1));
  ValueId same = c.Add("eq", {c.Reshape(rows, {type.dims[0], Dim(1)}), columns});
  return {c.Cast(same, type.dtype)};
}

constexpr std::string_view kRandom = "draws random numbers, which only torch's generator gives";

constexpr Converter kRows[] = {
    {"aten.full.default", ConvertFull},
    {"aten.zeros.default", ConvertFull, "0"},
    {"aten.ones.default", ConvertFull, "1"},
    {"aten.empty.memory_format", ConvertFull, "0"},
    {"aten.empty_permuted.default", ConvertFull, "0"},
    {"aten.new_full.default", ConvertFull},
    {"aten.new_zeros.default", ConvertFull, "0"},
    {"aten.new_ones.default", ConvertFull, "1"},
    {"aten.new_empty.default", ConvertFull, "0"},
    {"aten.full_like.default", ConvertFullLike},
    {"aten.zeros_like.default", ConvertFullLike, "0"},
    {"aten.ones_like.default", ConvertFullLike, "1"},
    {"aten.empty_like.default", ConvertFullLike, "0"},
    {"aten.empty_strided.default", ConvertFull, "0"},
    {"aten.new_empty_strided.default", ConvertFull, "0"},
    {"aten.scalar_tensor.default", ConvertScalarTensor},
    {"aten.arange.default", ConvertArange},
    {"aten.arange.start", ConvertArange},
    {"aten.arange.start_step", ConvertArange},
    {"aten.linspace.default", ConvertLinspace},
    {"aten.linspace.Tensor_Tensor", ConvertLinspaceOfTensors},
    {"aten.linspace.Tensor_Scalar", ConvertLinspaceOfTensors},
    {"aten.linspace.Scalar_Tensor", ConvertLinspaceOfTensors},
    {"aten.eye.default", ConvertEye},
    {"aten.eye.m", ConvertEye},
    {"aten.rand.default", nullptr, kRandom},
    {"aten.rand_like.default", nullptr, kRandom},
    {"aten.randn.default", nullptr, kRandom},
    {"aten.randn_like.default", nullptr, kRandom},
    {"aten.randint.low", nullptr, kRandom},
    {"aten.randperm.default", nullptr, kRandom},
    {"aten.bernoulli.p", nullptr, kRandom},
    {"aten.bernoulli.default", nullptr, kRandom},
    {"aten.randint.default", nullptr, kRandom},
    {"aten.randint_like.default", nullptr, kRandom},
    {"aten.multinomial.default", nullptr, kRandom},
    {"aten.normal_functional.default", nullptr, kRandom},
    {"aten.normal.Tensor_float", nullptr, kRandom},
    {"aten.normal.Tensor_Tensor", nullptr, kRandom},
    {"aten.exponential.default", nullptr, kRandom},
    {"aten.uniform.default", nullptr, kRandom},
    {"aten.rrelu_with_noise_functional.default", nullptr, kRandom},
};

}  // namespace

std::span<const Converter> CreationConverters() { return kRows; }

}  // namespace stator
