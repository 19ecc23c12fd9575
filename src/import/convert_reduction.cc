// Converters of reductions, scans, searches and softmax.
#include <cmath>
#include <limits>

#include "import/conversion.h"
#include "import/promote.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// The dims to reduce: the argument `name`, or all when it is absent or an empty list.
std::vector<int> GetAxes(const Conversion& c, std::string_view name, int rank) {
  std::vector<int> axes;
  if (c.Has(name)) {
    for (int64_t dim : c.Ints(name)) axes.push_back(WrapDim(dim, rank));
  }
  if (rank == 0) return {};
  return axes.empty() ? IdentityPerm(rank) : axes;
}

bool KeepDim(const Conversion& c) { return c.Bool("keepdim", false); }

ValueId Reduce(Conversion& c, std::string_view op, ValueId x, const std::vector<int>& axes,
               bool keepdim) {
  return c.Add(op, {x}, {{"axes", ToDims(axes)}, {"keepdim", keepdim}});
}

// sum, mean, prod, and cumsum: the input is cast to the dtype of the result first, as torch does.
Values ConvertFold(Conversion& c, std::string_view op) {
  ValueId x = c.Cast(c.Tensor("self"), c.output_type().dtype);
  return {Reduce(c, op, x, GetAxes(c, "dim", c.type(x).rank()), KeepDim(c))};
}

Values ConvertScan(Conversion& c, std::string_view op) {
  ValueId x = c.Cast(c.Tensor("self"), c.output_type().dtype);
  int rank = c.type(x).rank();
  int dim = c.DimIndex("dim", rank);
  return {rank == 0 ? x : c.Add(op, {x}, {{"dim", Dim(dim)}})};
}

// amax, amin, any, all, and max and min without a dim.
Values ConvertReduce(Conversion& c, std::string_view op) {
  ValueId x = c.Tensor("self");
  ValueId result = Reduce(c, op, x, GetAxes(c, "dim", c.type(x).rank()), KeepDim(c));
  return {c.Cast(result, c.output_type().dtype)};  // any and all of uint8 give uint8
}

// The index of an extremum along one dim, or in the flattened tensor.
ValueId Search(Conversion& c, std::string_view op, ValueId x, std::optional<int> axis,
               bool keepdim) {
  int rank = c.type(x).rank();
  if (rank == 0) return c.Literal(DType::kInt64, 0);
  if (!axis) {
    ValueId flat = c.Reshape(x, {c.type(x).num_elements()});
    ValueId index = c.Add(op, {flat}, {{"axes", Dims{0}}, {"keepdim", false}});
    return keepdim ? c.Reshape(index, Dims(rank, Dim(1))) : index;
  }
  return c.Add(op, {x}, {{"axes", Dims{Dim(*axis)}}, {"keepdim", keepdim}});
}

Values ConvertSearch(Conversion& c, std::string_view op) {
  ValueId x = c.Tensor("self");
  std::optional<int> axis;
  if (c.Has("dim")) axis = c.DimIndex("dim", c.type(x).rank());
  return {Search(c, op, x, axis, KeepDim(c))};
}

// max.dim, min.dim: the extremum and its index.
Values ConvertExtremum(Conversion& c, std::string_view op) {
  ValueId x = c.Tensor("self");
  if (c.type(x).dtype == DType::kBool) x = c.Cast(x, DType::kUInt8);
  int rank = c.type(x).rank(), dim = c.DimIndex("dim", rank);
  bool keepdim = KeepDim(c);
  std::vector<int> axes = rank == 0 ? std::vector<int>{} : std::vector<int>{dim};
  ValueId extremum = Reduce(c, op == "max" ? "amax" : "amin", x, axes, keepdim);
  return {c.Cast(extremum, c.output_type().dtype),
          Search(c, op == "max" ? "argmax" : "argmin", x, dim, keepdim)};
}

// ---- variance
ValueId Variance(Conversion& c, ValueId x, const std::vector<int>& axes, bool keepdim) {
  double correction =
      c.Has("unbiased") ? (c.Bool("unbiased") ? 1.0 : 0.0) : c.Float("correction", 1);
  return c.Add("var", {x},
               {{"axes", ToDims(axes)}, {"correction", correction}, {"keepdim", keepdim}});
}

// var, std, var_mean, std_mean: `op` is the name up to the overload.
Values ConvertVariance(Conversion& c, std::string_view op) {
  ValueId x = c.Tensor("self");
  std::vector<int> axes = GetAxes(c, "dim", c.type(x).rank());
  ValueId spread = Variance(c, x, axes, KeepDim(c));
  if (op.starts_with("std")) spread = c.Add("sqrt", {spread});
  if (!op.ends_with("_mean")) return {spread};
  return {spread, Reduce(c, "mean", x, axes, KeepDim(c))};
}

// ---- norms of vectors
ValueId VectorNorm(Conversion& c, ValueId x, double ord, const std::vector<int>& axes,
                   bool keepdim) {
  DType dtype = c.type(x).dtype;
  ValueId magnitude = c.Add("abs", {x});
  if (std::isinf(ord)) return Reduce(c, ord > 0 ? "amax" : "amin", magnitude, axes, keepdim);
  if (ord == 0) {
    ValueId nonzero = c.Cast(c.Add("ne", {x, c.Literal(dtype, 0)}), dtype);
    return Reduce(c, "sum", nonzero, axes, keepdim);
  }
  if (ord == 1) return Reduce(c, "sum", magnitude, axes, keepdim);
  if (ord == 2) return c.Add("sqrt", {Reduce(c, "sum", c.Add("square", {x}), axes, keepdim)});
  ValueId power = c.Add("pow", {magnitude, c.Literal(dtype, ord)});
  ValueId sum = Reduce(c, "sum", power, axes, keepdim);
  return c.Add("pow", {sum, c.Literal(dtype, 1 / ord)});
}

// linalg_vector_norm and norm; 16-bit floats are squared in float32.
Values ConvertNorm(Conversion& c, std::string_view ord_argument) {
  DType dtype = c.output_type().dtype;
  ValueId x = c.Tensor("self");
  bool half = dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  x = c.Cast(x, half ? DType::kFloat32 : dtype);
  std::vector<int> axes = GetAxes(c, "dim", c.type(x).rank());
  return {c.Cast(VectorNorm(c, x, c.Float(ord_argument, 2), axes, KeepDim(c)), dtype)};
}

// log(sum(exp(x - m))) + m with m the maximum, or 0 where that is infinite.
Values ConvertLogsumexp(Conversion& c, std::string_view) {
  ValueId x = c.Cast(c.Tensor("self"), c.output_type().dtype);
  DType dtype = c.type(x).dtype;
  std::vector<int> axes = GetAxes(c, "dim", c.type(x).rank());
  ValueId max = Reduce(c, "amax", x, axes, true);
  ValueId inf = c.Literal(dtype, std::numeric_limits<double>::infinity());
  ValueId infinite = c.Add("eq", {c.Add("abs", {max}), inf});
  ValueId shift = c.Add("where", {infinite, c.Literal(dtype, 0), max});
  ValueId sum = Reduce(c, "sum", c.Add("exp", {c.Add("sub", {x, shift})}), axes, true);
  ValueId result = c.Add("add", {c.Add("log", {sum}), shift});
  return {c.Reshape(result, c.output_type().dims)};
}

Values ConvertCountNonzero(Conversion& c, std::string_view) {
  ValueId x = c.Tensor("self");
  ValueId nonzero = c.Add("ne", {x, c.Literal(c.type(x).dtype, 0)});
  return {
      Reduce(c, "sum", c.Cast(nonzero, DType::kInt64), GetAxes(c, "dim", c.type(x).rank()), false)};
}

// ---- softmax
Values ConvertSoftmax(Conversion& c, std::string_view op) {
  ValueId x = c.Cast(c.Tensor("self"), c.output_type().dtype);
  int rank = c.type(x).rank(), dim = c.DimIndex("dim", rank);
  if (rank == 0) {
    ValueId row = c.Add(op, {c.Reshape(x, {Dim(1)})}, {{"axis", Dim(0)}});
    return {c.Reshape(row, {})};
  }
  return {c.Add(op, {x}, {{"axis", Dim(dim)}})};
}

// softmax that gives 0 instead of NaN for a row of minus infinity.
Values ConvertSafeSoftmax(Conversion& c, std::string_view) {
  ValueId softmax = ConvertSoftmax(c, "softmax")[0];
  ValueId x = c.Cast(c.Tensor("self"), c.output_type().dtype);
  DType dtype = c.type(x).dtype;
  c.Require(c.type(x).rank() > 0, "_safe_softmax of a number");
  int dim = c.DimIndex("dim", c.type(x).rank());
  ValueId low = c.Literal(dtype, -std::numeric_limits<double>::infinity());
  ValueId masked = Reduce(c, "all", c.Add("eq", {x, low}), {dim}, true);
  return {c.Add("where", {masked, c.Literal(dtype, 0), softmax})};
}

constexpr Converter kRows[] = {
    {"aten.sum.default", ConvertFold, "sum"},
    {"aten.sum.dim_IntList", ConvertFold, "sum"},
    {"aten.mean.default", ConvertFold, "mean"},
    {"aten.mean.dim", ConvertFold, "mean"},
    {"aten.prod.default", ConvertFold, "prod"},
    {"aten.prod.dim_int", ConvertFold, "prod"},
    {"aten.cumsum.default", ConvertScan, "cumsum"},
    {"aten.cumprod.default", ConvertScan, "cumprod"},
    {"aten.amax.default", ConvertReduce, "amax"},
    {"aten.amin.default", ConvertReduce, "amin"},
    {"aten.max.default", ConvertReduce, "amax"},
    {"aten.min.default", ConvertReduce, "amin"},
    {"aten.any.default", ConvertReduce, "any"},
    {"aten.any.dim", ConvertReduce, "any"},
    {"aten.any.dims", ConvertReduce, "any"},
    {"aten.all.default", ConvertReduce, "all"},
    {"aten.all.dim", ConvertReduce, "all"},
    {"aten.all.dims", ConvertReduce, "all"},
    {"aten.argmax.default", ConvertSearch, "argmax"},
    {"aten.argmin.default", ConvertSearch, "argmin"},
    {"aten.max.dim", ConvertExtremum, "max"},
    {"aten.min.dim", ConvertExtremum, "min"},
    {"aten.var.default", ConvertVariance, "var"},
    {"aten.var.dim", ConvertVariance, "var"},
    {"aten.var.correction", ConvertVariance, "var"},
    {"aten.std.default", ConvertVariance, "std"},
    {"aten.std.dim", ConvertVariance, "std"},
    {"aten.std.correction", ConvertVariance, "std"},
    {"aten.var_mean.default", ConvertVariance, "var_mean"},
    {"aten.var_mean.dim", ConvertVariance, "var_mean"},
    {"aten.var_mean.correction", ConvertVariance, "var_mean"},
    {"aten.std_mean.default", ConvertVariance, "std_mean"},
    {"aten.std_mean.dim", ConvertVariance, "std_mean"},
    {"aten.std_mean.correction", ConvertVariance, "std_mean"},
    {"aten.linalg_vector_norm.default", ConvertNorm, "ord"},
    {"aten.norm.Scalar", ConvertNorm, "p"},
    {"aten.norm.ScalarOpt_dim", ConvertNorm, "p"},
    {"aten.norm.ScalarOpt_dim_dtype", ConvertNorm, "p"},
    {"aten.logsumexp.default", ConvertLogsumexp},
    {"aten.count_nonzero.default", ConvertCountNonzero},
    {"aten.count_nonzero.dim_IntList", ConvertCountNonzero},
    {"aten.softmax.int", ConvertSoftmax, "softmax"},
    {"aten._softmax.default", ConvertSoftmax, "softmax"},
    {"aten.log_softmax.int", ConvertSoftmax, "log_softmax"},
    {"aten._log_softmax.default", ConvertSoftmax, "log_softmax"},
    {"aten._safe_softmax.default", ConvertSafeSoftmax},
};

}  // namespace

std::span<const Converter> ReductionConverters() { return kRows; }

}  // namespace stator
