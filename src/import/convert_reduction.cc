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

// cummax, cummin: the extremum so far and its index.
Values ConvertPlacedScan(Conversion& c, std::string_view op) {
  ValueId x = c.Tensor("self");
  int rank = c.type(x).rank(), dim = c.DimIndex("dim", rank);
  if (rank == 0) return {x, c.Literal(DType::kInt64, 0)};
  return c.graph().node(c.AddNode(op, {x}, {{"dim", Dim(dim)}})).outputs;
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

// ---- distances
// sqrt(|a|^2 + |b|^2 - 2 a b), of each row of x1 from each row of x2: less exact than the
// differences, and what torch does for many rows.
ValueId EuclideanDistance(Conversion& c, ValueId x1, ValueId x2) {
  DType dtype = c.type(x1).dtype;
  int rank = c.type(x1).rank();
  auto squares = [&](ValueId x) {
    return Reduce(c, "sum", c.Add("square", {x}), {c.type(x).rank() - 1}, true);
  };
  ValueId scaled = c.Add("mul", {x1, c.Literal(dtype, -2)});
  ValueId product = c.Add("matmul", {scaled, c.Transpose(x2, rank - 2, rank - 1)});
  ValueId sum = c.Add("add", {product, squares(x1)});
  sum = c.Add("add", {sum, c.Transpose(squares(x2), rank - 2, rank - 1)});
  return c.Add("sqrt", {c.Add("maximum", {sum, c.Literal(dtype, 0)})});
}

// cdist: the p-norm of the difference of each row of x1[.., P, M] and each row of x2[.., R, M].
Values ConvertCdist(Conversion& c, std::string_view) {
  constexpr int64_t kIfManyRows = 0, kAlways = 1, kManyRows = 25;  // of compute_mode
  const Dims dims = c.output_type().dims;
  DType dtype = c.output_type().dtype;
  ValueId x1 = c.Cast(c.Tensor("x1"), dtype), x2 = c.Cast(c.Tensor("x2"), dtype);
  int rank = static_cast<int>(dims.size());
  const Dim size = c.type(x1).dims.back(), rows1 = dims[rank - 2], rows2 = dims[rank - 1];
  if (size == Dim(0) || NumElements(dims) == Dim(0)) return {c.Full(dims, dtype, Scalar{})};
  auto stack = [&](ValueId x, const Dim& rows) {
    Dims full(dims.begin(), dims.end() - 2);
    full.insert(full.end(), {rows, size});
    return c.Expand(x, full);
  };
  double p = c.Float("p", 2);
  int64_t mode = c.Int("compute_mode", kIfManyRows);
  auto is_few = [](const Dim& rows) { return rows.is_static() && rows.value() <= kManyRows; };
  bool many = !is_few(rows1) || !is_few(rows2);
  if (p == 2 && (mode == kAlways || (mode == kIfManyRows && many))) {
    return {EuclideanDistance(c, stack(x1, rows1), stack(x2, rows2))};
  }
  ValueId difference = c.Add(
      "sub", {c.Unsqueeze(stack(x1, rows1), rank - 1), c.Unsqueeze(stack(x2, rows2), rank - 2)});
  return {VectorNorm(c, difference, p, {rank}, false)};
}

// pdist: the p-norm of the differences of all pairs of rows, by the first of them.
Values ConvertPdist(Conversion& c, std::string_view) {
  constexpr int64_t kMaxRows = 1024;
  ValueId x = c.Tensor("self");
  const Dims dims = c.output_type().dims;
  const Dim rows = c.type(x).dims.at(0);
  c.Require(rows.is_static() && rows.value() <= kMaxRows,
            "pdist of a symbolic number of rows, or of many");
  if (NumElements(dims) == Dim(0) || c.type(x).dims.at(1) == Dim(0)) {
    return {c.Full(dims, c.type(x).dtype, Scalar{})};
  }
  std::vector<int64_t> first, second;
  for (int64_t i = 0; i < rows.value(); ++i) {
    for (int64_t j = i + 1; j < rows.value(); ++j) {
      first.push_back(i);
      second.push_back(j);
    }
  }
  auto pick = [&](const std::vector<int64_t>& indices) {
    std::span<const std::byte> bytes = std::as_bytes(std::span(indices));
    ValueId index =
        c.graph().AddLiteral({.dtype = DType::kInt64, .dims = dims, .order = {}},
                             MakeConstantData(std::vector<std::byte>(bytes.begin(), bytes.end())));
    return c.Add("index_select", {x, index}, {{"dim", Dim(0)}});
  };
  ValueId difference = c.Add("sub", {pick(first), pick(second)});
  return {VectorNorm(c, difference, c.Float("p", 2), {1}, false)};
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
    {"aten._cdist_forward.default", ConvertCdist},
    {"aten.cdist.default", ConvertCdist},
    {"aten._pdist_forward.default", ConvertPdist},
    {"aten.pdist.default", ConvertPdist},
    {"aten.cumsum.default", ConvertScan, "cumsum"},
    {"aten.cummax.default", ConvertPlacedScan, "cummax"},
    {"aten.cummin.default", ConvertPlacedScan, "cummin"},
    {"aten.logcumsumexp.default", ConvertScan, "logcumsumexp"},
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
