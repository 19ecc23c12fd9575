// Converters of elementwise ops: promotion, numbers as literals, and activations with parameters.
#include <cmath>
#include <limits>

#include "import/conversion.h"
#include "import/promote.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

Scalar Number(double value) { return {.kind = Scalar::Kind::kFloat, .number = value, .size = {}}; }
Operand Value(ValueId value) { return {.value = value, .scalar = {}}; }

// A binary op in the promoted dtype of its operands: arithmetic, comparisons, logic.
Values ConvertBinary(Conversion& c, std::string_view op) {
  Operand operands[] = {GetOperand(c, "self"), GetOperand(c, "other")};
  return {AddPromoted(c, op, operands, ResultType(c, operands))};
}

// add, sub, rsub with alpha: self + alpha * other.
Values ConvertAdd(Conversion& c, std::string_view op) {
  Operand self = GetOperand(c, "self"), other = GetOperand(c, "other");
  Operand both[] = {self, other};
  DType dtype = ResultType(c, both);
  Scalar alpha = c.Has("alpha") ? c.GetScalar("alpha") : Number(1);
  Operand& scaled = op == "rsub" ? self : other;
  if (!alpha.is_static() || alpha.value() != 1) {
    // One rounding only in 16-bit floats.
    DType wide = dtype == DType::kFloat16 || dtype == DType::kBFloat16 ? DType::kFloat32 : dtype;
    Operand product[] = {scaled, {.value = {}, .scalar = alpha}};
    scaled = Value(AddPromoted(c, "mul", product, wide));
    Operand terms[] = {op == "rsub" ? other : self, scaled};
    return {c.Cast(AddPromoted(c, op == "add" ? "add" : "sub", terms, wide), dtype)};
  }
  Operand terms[] = {op == "rsub" ? other : self, op == "rsub" ? self : other};
  return {AddPromoted(c, op == "add" ? "add" : "sub", terms, dtype)};
}

// A quotient or remainder in the dtype of its operands. torch raises where an integer is divided by
// zero, which an engine cannot.
Values ConvertQuotient(Conversion& c, std::string_view op) {
  Operand operands[] = {GetOperand(c, "self"), GetOperand(c, "other")};
  DType dtype = ResultType(c, operands);
  const std::optional<Scalar>& divisor = operands[1].scalar;
  bool known = divisor && divisor->is_static() && divisor->value() != 0;
  c.Require(known || IsFloat(dtype), "torch raises when an integer is divided by zero");
  return {AddPromoted(c, op, operands, dtype)};
}

Values ConvertDiv(Conversion& c, std::string_view) {
  std::string mode = c.String("rounding_mode", "");
  if (mode == "floor") return ConvertQuotient(c, "floor_div");
  if (mode == "trunc") return ConvertQuotient(c, "trunc_div");
  Operand operands[] = {GetOperand(c, "self"), GetOperand(c, "other")};
  DType dtype = ResultType(c, operands);
  return {AddPromoted(c, "div", operands, ToFloatType(dtype))};
}

// Shifts of integers, in true integer arithmetic.
Values ConvertShift(Conversion& c, std::string_view op) {
  Operand operands[] = {GetOperand(c, "self"), GetOperand(c, "other")};
  DType dtype = ResultType(c, operands);
  c.Require(!IsFloat(dtype), "a shift of floats");
  return {AddPromoted(c, op, operands, dtype)};
}

// atan2, copysign: floats of integers too.
Values ConvertAtan2(Conversion& c, std::string_view op) {
  Operand operands[] = {GetOperand(c, "self"), GetOperand(c, "other")};
  return {AddPromoted(c, op, operands, ToFloatType(ResultType(c, operands)))};
}

// Powers that torch computes without pow (ATen/native/cpu/PowKernel.cpp).
ValueId FindSimplePower(Conversion& c, ValueId base, double exponent) {
  auto square = [&] { return c.Add("square", {base}); };
  if (exponent == 1) return base;
  if (exponent == 2) return square();
  if (exponent == 3) return c.Add("mul", {square(), base});
  if (!IsFloat(c.type(base).dtype)) return {};
  if (exponent == 0.5) return c.Add("sqrt", {base});
  if (exponent == -0.5) return c.Add("rsqrt", {base});
  if (exponent == -1) return c.Add("reciprocal", {base});
  if (exponent == -2) return c.Add("reciprocal", {square()});
  return {};
}

Values ConvertPow(Conversion& c, std::string_view) {
  Operand operands[] = {GetOperand(c, "self"), GetOperand(c, "exponent")};
  DType dtype = ResultType(c, operands);
  const Operand& exponent = operands[1];
  if (exponent.scalar && exponent.scalar->is_static() && dtype != DType::kBool) {
    ValueId base = Materialize(c, operands[0], dtype);
    ValueId simple = FindSimplePower(c, base, exponent.scalar->value());
    if (simple.valid()) return {simple};
  }
  return {AddPromoted(c, "pow", operands, dtype)};
}

// where.self, .ScalarSelf, .ScalarOther, .Scalar.
Values ConvertWhere(Conversion& c, std::string_view) {
  Operand branches[] = {GetOperand(c, "self"), GetOperand(c, "other")};
  DType dtype = ResultType(c, branches);
  ValueId condition = c.Cast(c.Tensor("condition"), DType::kBool);
  return {c.Add("where", {condition, Materialize(c, branches[0], dtype),
                          Materialize(c, branches[1], dtype)})};
}

Values ConvertMaskedFill(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  ValueId value = Materialize(c, GetOperand(c, "value"), c.type(self).dtype);
  return {c.Add("where", {c.Cast(c.Tensor("mask"), DType::kBool), value, self})};
}

// clamp, clamp_min, clamp_max with numbers or tensors. NaN passes through, as in torch.
Values ConvertClamp(Conversion& c, std::string_view) {
  std::vector<Operand> operands = {Value(c.Tensor("self"))};
  for (std::string_view bound : {"min", "max"}) {
    if (c.Has(bound)) operands.push_back(GetOperand(c, bound));
  }
  DType dtype = ResultType(c, operands);
  ValueId value = c.Cast(operands[0].value, dtype);
  bool both = operands.size() == 3 && operands[1].scalar && operands[2].scalar;
  if (both && IsFloat(dtype) && IsExact(*operands[1].scalar, dtype) &&
      IsExact(*operands[2].scalar, dtype)) {
    return {c.Add("hardtanh", {value},
                  {{"min", operands[1].scalar->value()}, {"max", operands[2].scalar->value()}})};
  }
  if (c.Has("min")) {
    const Operand& min = operands[1];
    bool zero = min.scalar && min.scalar->is_static() && min.scalar->value() == 0;
    value = zero ? c.Add("relu", {value}) : c.Add("maximum", {value, Materialize(c, min, dtype)});
  }
  if (c.Has("max")) {
    value = c.Add("minimum", {value, Materialize(c, operands.back(), dtype)});
  }
  return {value};
}

Values ConvertHardtanh(Conversion& c, std::string_view op) {
  double min = op == "relu6" ? 0 : c.Float("min_val", -1);
  double max = op == "relu6" ? 6 : c.Float("max_val", 1);
  return {c.Add("hardtanh", {c.Tensor("self")}, {{"min", min}, {"max", max}})};
}

Values ConvertLeakyRelu(Conversion& c, std::string_view) {
  return {c.Add("leaky_relu", {c.Tensor("self")}, {{"slope", c.Float("negative_slope", 0.01)}})};
}

Values ConvertSoftplus(Conversion& c, std::string_view) {
  return {c.Add("softplus", {c.Tensor("self")},
                {{"beta", c.Float("beta", 1)}, {"threshold", c.Float("threshold", 20)}})};
}

// scale * (x above 0, else alpha * (exp(input_scale * x) - 1)).
ValueId AddElu(Conversion& c, ValueId x, double alpha, double scale, double input_scale) {
  DType dtype = c.type(x).dtype;
  auto times = [&](ValueId value, double factor) {
    if (factor == 1) return value;
    Operand product[] = {Value(value), {.value = {}, .scalar = Number(factor)}};
    return AddPromoted(c, "mul", product, dtype);
  };
  if (input_scale == 1) return times(c.Add("elu", {x}, {{"alpha", alpha}}), scale);
  ValueId negative = times(c.Add("expm1", {times(x, input_scale)}), alpha * scale);
  ValueId above = c.Add("gt", {x, c.Literal(dtype, 0)});
  return c.Add("where", {above, times(x, scale), negative});
}

Values ConvertElu(Conversion& c, std::string_view op) {
  if (op == "selu" || c.Has("scale") || c.Has("input_scale")) c.ComputeWide();
  ValueId x = c.Tensor("self");
  // The constants of selu are those of Klambauer et al. 2017.
  if (op == "selu")
    return {AddElu(c, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1)};
  double alpha = c.Float("alpha", 1);
  if (op == "celu") return {AddElu(c, x, alpha, 1, 1 / alpha)};
  return {AddElu(c, x, alpha, c.Float("scale", 1), c.Float("input_scale", 1))};
}

Values ConvertGelu(Conversion& c, std::string_view) {
  std::string approximate = c.String("approximate", "none");
  return {c.Add(approximate == "tanh" ? "gelu_tanh" : "gelu", {c.Tensor("self")})};
}

Values ConvertThreshold(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  DType dtype = c.type(self).dtype;
  ValueId below = c.Add("le", {self, c.Literal(dtype, c.GetScalar("threshold"))});
  return {c.Add("where", {below, c.Literal(dtype, c.GetScalar("value")), self})};
}

// Zero within lambd of zero; beyond, hard keeps the element and soft moves it towards zero.
Values ConvertShrink(Conversion& c, std::string_view op) {
  c.ComputeWide();
  ValueId self = c.Tensor("self");
  DType dtype = c.type(self).dtype;
  ValueId lambd = c.Literal(dtype, c.Float("lambd", 0.5));
  ValueId within = c.Add("le", {c.Add("abs", {self}), lambd});
  ValueId beyond = self;
  if (op == "soft") {
    beyond = c.Add("sub", {self, c.Add("mul", {c.Add("sign", {self}), lambd})});
  }
  return {c.Add("where", {within, c.Literal(dtype, 0), beyond})};
}

Values ConvertGlu(Conversion& c, std::string_view) {
  c.ComputeWide();
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank(), -1);
  Dim half = FloorDiv(c.type(self).dims.at(dim), 2);  // torch has refused an odd size
  ValueId gate = c.Add("sigmoid", {c.Slice(self, dim, half, half + half)});
  return {c.Add("mul", {c.Slice(self, dim, 0, half), gate})};
}

Values ConvertPrelu(Conversion& c, std::string_view op) {
  ValueId self = c.Tensor("self"), weight = c.Tensor("weight");
  int rank = c.type(self).rank();
  if (op == "prelu" && c.type(weight).rank() == 1 && rank > 1) {
    Dims dims(rank, Dim(1));
    dims[1] = c.type(weight).dims[0];
    weight = c.Reshape(weight, dims);
  }
  ValueId above = c.Add("gt", {self, c.Literal(c.type(self).dtype, 0)});
  return {c.Add("where", {above, self, c.Add("mul", {self, weight})})};
}

// min(x, 0) - log(1 + exp(-|x|)), which overflows nowhere.
Values ConvertLogSigmoid(Conversion& c, std::string_view) {
  c.ComputeWide();
  ValueId self = c.Tensor("self");
  ValueId log = c.Add("log1p", {c.Add("exp", {c.Add("neg", {c.Add("abs", {self})})})});
  ValueId low = c.Add("minimum", {self, c.Literal(c.type(self).dtype, 0)});
  return {c.Add("sub", {low, log}), ValueId{}};
}

// addcmul, addcdiv: self + value * (tensor1 op tensor2).
Values ConvertAddc(Conversion& c, std::string_view op) {
  c.ComputeWide();
  Operand self = Value(c.Tensor("self"));
  Operand factors[] = {Value(c.Tensor("tensor1")), Value(c.Tensor("tensor2"))};
  Operand all[] = {self, factors[0], factors[1]};
  DType dtype = ResultType(c, all);
  Operand term = Value(AddPromoted(c, op, factors, dtype));
  Scalar scale = c.Has("value") ? c.GetScalar("value") : Number(1);
  if (!scale.is_static() || scale.value() != 1) {
    Operand product[] = {term, {.value = {}, .scalar = scale}};
    term = Value(AddPromoted(c, "mul", product, dtype));
  }
  Operand sum[] = {self, term};
  return {AddPromoted(c, "add", sum, dtype)};
}

// self + weight * (end - self) below one half, else end - (1 - weight) * (end - self).
Values ConvertLerp(Conversion& c, std::string_view) {
  c.ComputeWide();
  ValueId self = c.Tensor("self"), end = c.Tensor("end");
  DType dtype = c.type(self).dtype;
  ValueId difference = c.Add("sub", {end, self});
  ValueId weight = Materialize(c, GetOperand(c, "weight"), dtype);
  ValueId low = c.Add("add", {self, c.Add("mul", {weight, difference})});
  ValueId rest = c.Add("sub", {c.Literal(dtype, 1), weight});
  ValueId high = c.Add("sub", {end, c.Add("mul", {rest, difference})});
  ValueId is_low = c.Add("lt", {c.Add("abs", {weight}), c.Literal(dtype, 0.5)});
  return {c.Add("where", {is_low, low, high})};
}

Values ConvertNanToNum(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  DType dtype = c.type(self).dtype;
  if (!IsFloat(dtype)) return {self};
  constexpr double kInf = std::numeric_limits<double>::infinity();
  double max = dtype == DType::kFloat16    ? 65504
               : dtype == DType::kBFloat16 ? 0x1.fep127
               : dtype == DType::kFloat32  ? std::numeric_limits<float>::max()
                                           : std::numeric_limits<double>::max();
  ValueId value =
      c.Add("where", {c.Add("isnan", {self}), c.Literal(dtype, c.Float("nan", 0)), self});
  auto replace = [&](double from, double to) {
    ValueId hit = c.Add("eq", {self, c.Literal(dtype, from)});
    value = c.Add("where", {hit, c.Literal(dtype, to), value});
  };
  replace(kInf, c.Float("posinf", max));
  replace(-kInf, c.Float("neginf", -max));
  return {value};
}

Values ConvertIsfinite(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  DType dtype = c.type(self).dtype;
  if (!IsFloat(dtype)) return {c.Full(c.type(self).dims, DType::kBool, Number(1))};
  ValueId inf = c.Literal(dtype, std::numeric_limits<double>::infinity());
  return {c.Add("lt", {c.Add("abs", {self}), inf})};
}

// An op of one tensor that keeps its dtype.
Values ConvertUnary(Conversion& c, std::string_view op) { return {c.Add(op, {c.Tensor("self")})}; }

// floor, ceil, round, trunc of integers are those integers.
Values ConvertRounding(Conversion& c, std::string_view op) {
  ValueId self = c.Tensor("self");
  return {IsFloat(c.type(self).dtype) ? c.Add(op, {self}) : self};
}

Values ConvertFrac(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  return {c.Add("sub", {self, c.Add("trunc", {self})})};
}

// round to a number of decimals, which may be negative.
Values ConvertRoundDecimals(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  DType dtype = c.type(self).dtype;
  int64_t decimals = c.Int("decimals");
  c.Require(IsFloat(dtype) && (dtype == DType::kFloat32 || dtype == DType::kFloat64),
            "round to decimals of a dtype other than float32 and float64");
  c.Require(std::abs(decimals) <= 30, "round to more than 30 decimals");
  ValueId power = c.Literal(dtype, std::pow(10.0, static_cast<double>(std::abs(decimals))));
  ValueId scaled = c.Add(decimals < 0 ? "div" : "mul", {self, power});
  return {c.Add(decimals < 0 ? "mul" : "div", {c.Add("round", {scaled}), power})};
}

// Whether the sign bit is set, that of zeros and NaN too.
Values ConvertSignbit(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  DType dtype = c.type(self).dtype;
  if (IsFloat(dtype)) self = c.Add("copysign", {c.Literal(dtype, 1), self});
  return {c.Add("lt", {self, c.Literal(dtype, 0)})};
}

// self * 2^other.
Values ConvertLdexp(Conversion& c, std::string_view) {
  Operand power[] = {{.value = {}, .scalar = Number(2)}, GetOperand(c, "other")};
  DType dtype = ToFloatType(ResultType(c, power));
  Operand factors[] = {GetOperand(c, "self"), Value(AddPromoted(c, "pow", power, dtype))};
  return {AddPromoted(c, "mul", factors, ResultType(c, factors))};
}

// copy: the content of `src` in the type of `self`.
Values ConvertCopy(Conversion& c, std::string_view) {
  const TensorType type = c.type(c.Tensor("self"));
  return {c.Expand(c.Cast(c.Tensor("src"), type.dtype), type.dims)};
}

Values ConvertFill(Conversion& c, std::string_view op) {
  const TensorType type = c.type(c.Tensor("self"));
  Operand value = op == "zero" ? Operand{.value = {}, .scalar = Number(0)} : GetOperand(c, "value");
  return {c.Expand(Materialize(c, value, type.dtype), type.dims)};
}

constexpr Converter kRows[] = {
    {"aten.add.Tensor", ConvertAdd, "add"},
    {"aten.add.Scalar", ConvertAdd, "add"},
    {"aten.sub.Tensor", ConvertAdd, "sub"},
    {"aten.sub.Scalar", ConvertAdd, "sub"},
    {"aten.subtract.Tensor", ConvertAdd, "sub"},
    {"aten.rsub.Tensor", ConvertAdd, "rsub"},
    {"aten.rsub.Scalar", ConvertAdd, "rsub"},
    {"aten.mul.Tensor", ConvertBinary, "mul"},
    {"aten.mul.Scalar", ConvertBinary, "mul"},
    {"aten.multiply.Tensor", ConvertBinary, "mul"},
    {"aten.div.Tensor", ConvertDiv},
    {"aten.div.Scalar", ConvertDiv},
    {"aten.div.Tensor_mode", ConvertDiv},
    {"aten.div.Scalar_mode", ConvertDiv},
    {"aten.divide.Tensor", ConvertDiv},
    {"aten.true_divide.Tensor", ConvertDiv},
    {"aten.floor_divide.default", ConvertQuotient, "floor_div"},
    {"aten.floor_divide.Scalar", ConvertQuotient, "floor_div"},
    {"aten.remainder.Tensor", ConvertQuotient, "remainder"},
    {"aten.remainder.Scalar", ConvertQuotient, "remainder"},
    {"aten.remainder.Scalar_Tensor", ConvertQuotient, "remainder"},
    {"aten.fmod.Tensor", ConvertQuotient, "fmod"},
    {"aten.fmod.Scalar", ConvertQuotient, "fmod"},
    {"aten.pow.Tensor_Scalar", ConvertPow},
    {"aten.pow.Tensor_Tensor", ConvertPow},
    {"aten.pow.Scalar", ConvertPow},
    {"aten.square.default", ConvertUnary, "square"},
    {"aten.maximum.default", ConvertBinary, "maximum"},
    {"aten.max.other", ConvertBinary, "maximum"},
    {"aten.minimum.default", ConvertBinary, "minimum"},
    {"aten.min.other", ConvertBinary, "minimum"},
    {"aten.atan2.default", ConvertAtan2, "atan2"},
    {"aten.copysign.Tensor", ConvertAtan2, "copysign"},
    {"aten.copysign.Scalar", ConvertAtan2, "copysign"},
    {"aten.hypot.default", ConvertBinary, "hypot"},
    {"aten.fmax.default", ConvertBinary, "fmax"},
    {"aten.fmin.default", ConvertBinary, "fmin"},
    {"aten.ldexp.Tensor", ConvertLdexp},
    {"aten.eq.Tensor", ConvertBinary, "eq"},
    {"aten.eq.Scalar", ConvertBinary, "eq"},
    {"aten.ne.Tensor", ConvertBinary, "ne"},
    {"aten.ne.Scalar", ConvertBinary, "ne"},
    {"aten.lt.Tensor", ConvertBinary, "lt"},
    {"aten.lt.Scalar", ConvertBinary, "lt"},
    {"aten.le.Tensor", ConvertBinary, "le"},
    {"aten.le.Scalar", ConvertBinary, "le"},
    {"aten.gt.Tensor", ConvertBinary, "gt"},
    {"aten.gt.Scalar", ConvertBinary, "gt"},
    {"aten.ge.Tensor", ConvertBinary, "ge"},
    {"aten.ge.Scalar", ConvertBinary, "ge"},
    {"aten.logical_and.default", ConvertBinary, "logical_and"},
    {"aten.logical_or.default", ConvertBinary, "logical_or"},
    {"aten.logical_xor.default", ConvertBinary, "logical_xor"},
    {"aten.bitwise_and.Tensor", ConvertBinary, "bitwise_and"},
    {"aten.bitwise_and.Scalar", ConvertBinary, "bitwise_and"},
    {"aten.__and__.Tensor", ConvertBinary, "bitwise_and"},
    {"aten.__and__.Scalar", ConvertBinary, "bitwise_and"},
    {"aten.bitwise_or.Tensor", ConvertBinary, "bitwise_or"},
    {"aten.bitwise_or.Scalar", ConvertBinary, "bitwise_or"},
    {"aten.__or__.Tensor", ConvertBinary, "bitwise_or"},
    {"aten.__or__.Scalar", ConvertBinary, "bitwise_or"},
    {"aten.bitwise_xor.Tensor", ConvertBinary, "bitwise_xor"},
    {"aten.bitwise_xor.Scalar", ConvertBinary, "bitwise_xor"},
    {"aten.__xor__.Tensor", ConvertBinary, "bitwise_xor"},
    {"aten.__xor__.Scalar", ConvertBinary, "bitwise_xor"},
    {"aten.bitwise_left_shift.Tensor", ConvertShift, "shift_left"},
    {"aten.bitwise_left_shift.Tensor_Scalar", ConvertShift, "shift_left"},
    {"aten.bitwise_left_shift.Scalar_Tensor", ConvertShift, "shift_left"},
    {"aten.__lshift__.Tensor", ConvertShift, "shift_left"},
    {"aten.__lshift__.Scalar", ConvertShift, "shift_left"},
    {"aten.bitwise_right_shift.Tensor", ConvertShift, "shift_right"},
    {"aten.bitwise_right_shift.Tensor_Scalar", ConvertShift, "shift_right"},
    {"aten.bitwise_right_shift.Scalar_Tensor", ConvertShift, "shift_right"},
    {"aten.__rshift__.Tensor", ConvertShift, "shift_right"},
    {"aten.__rshift__.Scalar", ConvertShift, "shift_right"},
    {"aten.where.self", ConvertWhere},
    {"aten.where.ScalarSelf", ConvertWhere},
    {"aten.where.ScalarOther", ConvertWhere},
    {"aten.where.Scalar", ConvertWhere},
    {"aten.masked_fill.Scalar", ConvertMaskedFill},
    {"aten.masked_fill.Tensor", ConvertMaskedFill},
    {"aten.clamp.default", ConvertClamp},
    {"aten.clamp.Tensor", ConvertClamp},
    {"aten.clamp_min.default", ConvertClamp},
    {"aten.clamp_min.Tensor", ConvertClamp},
    {"aten.clamp_max.default", ConvertClamp},
    {"aten.clamp_max.Tensor", ConvertClamp},
    {"aten.clip.default", ConvertClamp},
    {"aten.hardtanh.default", ConvertHardtanh},
    {"aten.relu6.default", ConvertHardtanh, "relu6"},
    {"aten.leaky_relu.default", ConvertLeakyRelu},
    {"aten.softplus.default", ConvertSoftplus},
    {"aten.elu.default", ConvertElu},
    {"aten.selu.default", ConvertElu, "selu"},
    {"aten.celu.default", ConvertElu, "celu"},
    {"aten.gelu.default", ConvertGelu},
    {"aten.threshold.default", ConvertThreshold},
    {"aten.hardshrink.default", ConvertShrink, "hard"},
    {"aten.softshrink.default", ConvertShrink, "soft"},
    {"aten.glu.default", ConvertGlu},
    {"aten.prelu.default", ConvertPrelu, "prelu"},
    {"aten._prelu_kernel.default", ConvertPrelu},
    {"aten.log_sigmoid.default", ConvertLogSigmoid},
    {"aten.log_sigmoid_forward.default", ConvertLogSigmoid},
    {"aten.addcmul.default", ConvertAddc, "mul"},
    {"aten.addcdiv.default", ConvertAddc, "div"},
    {"aten.lerp.Scalar", ConvertLerp},
    {"aten.lerp.Tensor", ConvertLerp},
    {"aten.nan_to_num.default", ConvertNanToNum},
    {"aten.isfinite.default", ConvertIsfinite},
    {"aten.sgn.default", ConvertUnary, "sign"},
    {"aten.floor.default", ConvertRounding, "floor"},
    {"aten.ceil.default", ConvertRounding, "ceil"},
    {"aten.trunc.default", ConvertRounding, "trunc"},
    {"aten.round.default", ConvertRounding, "round"},
    {"aten.frac.default", ConvertFrac},
    {"aten.round.decimals", ConvertRoundDecimals},
    {"aten.signbit.default", ConvertSignbit},
    {"aten.copy.default", ConvertCopy},
    {"aten.fill.Scalar", ConvertFill},
    {"aten.fill.Tensor", ConvertFill},
    {"aten.zero.default", ConvertFill, "zero"},
};

}  // namespace

std::span<const Converter> PointwiseConverters() { return kRows; }

}  // namespace stator
