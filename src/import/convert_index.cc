// Converters of ops that move elements by indices, join tensors or repeat them.
#include <algorithm>

#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

void RequireIndexDType(const Conversion& c, ValueId index) {
  DType dtype = c.type(index).dtype;
  c.Require(dtype != DType::kBool && dtype != DType::kUInt8,
            "a boolean index makes an output whose size only the data tells");
  c.Require(dtype == DType::kInt64 || dtype == DType::kInt32, "an index of 8 or 16 bits");
}

Values ConvertEmbedding(Conversion& c, std::string_view) {
  return {c.Add("embedding", {c.Tensor("weight"), c.Tensor("indices")})};
}

// A number as a list of one, as which torch takes it.
ValueId AsList(Conversion& c, ValueId value) {
  return c.type(value).rank() == 0 ? c.Reshape(value, {Dim(1)}) : value;
}

// Only the joined rows: what else the op returns is for gradients.
Values ConvertEmbeddingBag(Conversion& c, std::string_view) {
  constexpr std::string_view kModes[] = {"sum", "mean", "max"};
  size_t mode = c.Int("mode", 0);
  c.Require(mode < std::size(kModes), "an unknown mode");
  for (int i = 1; i < c.num_outputs(); ++i) c.Require(!c.IsUsed(i), "outputs for gradients");
  Values inputs = {c.Tensor("weight"), c.Tensor("indices"), c.Tensor("offsets")};
  ValueId scales = c.FindTensor("per_sample_weights");
  if (scales.valid()) inputs.push_back(c.Cast(scales, c.type(inputs[0]).dtype));
  int64_t padding = c.Int("padding_idx", -1);
  c.Require(padding >= -1, "a padding_idx from the end");
  Values results = {c.Add("embedding_bag", std::move(inputs),
                          {{"mode", std::string(kModes[mode])},
                           {"include_last_offset", c.Bool("include_last_offset", false)},
                           {"padding_idx", Dim(padding)}})};
  results.resize(c.num_outputs());
  return results;
}

Values ConvertGather(Conversion& c, std::string_view) {
  ValueId self = AsList(c, c.Tensor("self")), index = AsList(c, c.Tensor("index"));
  int dim = c.DimIndex("dim", c.type(self).rank());
  ValueId result = c.Add("gather", {self, index}, {{"dim", Dim(dim)}});
  return {c.Reshape(result, c.output_type().dims)};
}

Values ConvertIndexSelect(Conversion& c, std::string_view) {
  ValueId self = AsList(c, c.Tensor("self")), index = AsList(c, c.Tensor("index"));
  int dim = c.DimIndex("dim", c.type(self).rank());
  ValueId result = c.Add("index_select", {self, index}, {{"dim", Dim(dim)}});
  return {c.type(c.Tensor("self")).rank() == 0 ? c.Reshape(result, {}) : result};
}

// Advanced indexing; `indices` holds one index or none per leading dim.
Values ConvertIndex(Conversion& c, std::string_view) {
  Values inputs = {c.Tensor("self")};
  for (ValueId index : c.Tensors("indices")) {
    if (index.valid()) RequireIndexDType(c, index);
    inputs.push_back(index);
  }
  while (inputs.size() > 1 && !inputs.back().valid()) inputs.pop_back();
  return {inputs.size() == 1 ? inputs[0] : c.Add("index", std::move(inputs))};
}

// self with the slices of `dim` at index[N] replaced by those of `source`, or (accumulate) with
// those added; `source` broadcasts.
ValueId PutSlices(Conversion& c, ValueId self, int dim, ValueId index, ValueId source,
                  bool accumulate = false) {
  Values inputs = {self, c.Cast(source, c.type(self).dtype)};
  inputs.resize(inputs.size() + dim);  // the dims before have no index
  inputs.push_back(index);
  return c.Add("index_put", std::move(inputs), {{"accumulate", accumulate}});
}

// self[mask] = value, for a mask over the leading dims and one value.
ValueId WriteMasked(Conversion& c, ValueId self, ValueId mask, ValueId value) {
  c.Require(c.type(value).num_elements() == Dim(1),
            "index_put of several values by a boolean mask");
  Dims dims = c.type(mask).dims;
  dims.resize(std::max(dims.size(), c.type(self).dims.size()), Dim(1));
  return c.Add("where", {c.Reshape(mask, dims), c.Reshape(value, {}), self});
}

// self[indices] = values, or += values, or a mask in place of the indices.
Values ConvertIndexPut(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), values = c.Cast(c.Tensor("values"), c.type(self).dtype);
  bool accumulate = c.Bool("accumulate", false);
  Values indices = c.Tensors("indices");
  while (!indices.empty() && !indices.back().valid()) indices.pop_back();
  c.Require(!indices.empty(), "index_put without an index");
  if (indices.size() == 1 && c.type(indices[0]).dtype == DType::kBool && !accumulate) {
    return {WriteMasked(c, self, indices[0], values)};
  }
  Values inputs = {self, values};
  for (ValueId index : indices) {
    if (index.valid()) RequireIndexDType(c, index);
    inputs.push_back(index);
  }
  return {c.Add("index_put", std::move(inputs), {{"accumulate", accumulate}})};
}

// index_fill, index_copy, index_add: the slices at index[N] become a value or those of `source`, or
// alpha * source is added to them.
Values ConvertPutSlices(Conversion& c, std::string_view op) {
  const Dims dims = c.type(c.Tensor("self")).dims;
  ValueId self = AsList(c, c.Tensor("self")), index = AsList(c, c.Tensor("index"));
  c.Require(c.type(index).rank() == 1, "slices at an index of more than one dim");
  int dim = c.DimIndex("dim", c.type(self).rank());
  DType dtype = c.type(self).dtype;
  if (op == "fill") {
    ValueId value = c.IsTensor("value") ? c.Cast(c.Tensor("value"), dtype)
                                        : c.Literal(dtype, c.GetScalar("value"));
    return {c.Reshape(PutSlices(c, self, dim, index, value), dims)};
  }
  ValueId source = AsList(c, c.Tensor("source"));
  c.Require(c.type(source).rank() == c.type(self).rank(), "slices of a number");
  if (op == "copy") return {c.Reshape(PutSlices(c, self, dim, index, source), dims)};
  Scalar alpha = c.GetScalar("alpha", 1);
  if (!alpha.is_static() || alpha.value() != 1) {
    c.Require(IsFloat(dtype) || alpha.kind != Scalar::Kind::kFloat, "a fraction of integers");
    source = c.Add("mul", {source, c.Literal(dtype, alpha)});
  }
  return {c.Reshape(PutSlices(c, self, dim, index, source, true), dims)};
}

// take and put: positions in the flattened tensor.
Values ConvertTake(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), index = c.Tensor("index");
  RequireIndexDType(c, index);
  return {c.Add("index", {c.Reshape(self, {c.type(self).num_elements()}), index})};
}

Values ConvertPut(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), index = c.Tensor("index"), source = c.Tensor("source");
  RequireIndexDType(c, index);
  const Dims dims = c.type(self).dims;
  ValueId flat = c.Reshape(self, {c.type(self).num_elements()});
  source = c.Reshape(source, c.type(index).dims);
  return {c.Reshape(PutSlices(c, flat, 0, index, source, c.Bool("accumulate", false)), dims)};
}

// self with its elements under the mask replaced by the first ones of `source`, in order: their
// place there is the number of mask elements before.
Values ConvertMaskedScatter(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), mask = c.Tensor("mask"), source = c.Tensor("source");
  const Dims dims = c.output_type().dims;
  self = c.Expand(self, dims);
  Dim count = c.type(self).num_elements(), num_source = c.type(source).num_elements();
  c.Require(c.type(mask).dtype == DType::kBool && num_source.is_static() && num_source != Dim(0),
            "masked_scatter from a tensor of symbolic size, or without elements");
  mask = c.Reshape(c.Expand(mask, dims), {count});
  ValueId zero = c.Literal(DType::kInt64, 0);
  ValueId seen = c.Add("cumsum", {c.Cast(mask, DType::kInt64)}, {{"dim", Dim(0)}});
  ValueId place = c.Add("where", {mask, c.Add("sub", {seen, c.Literal(DType::kInt64, 1)}), zero});
  ValueId flat = c.Reshape(source, {num_source});
  ValueId taken = c.Add("index_select", {flat, place}, {{"dim", Dim(0)}});
  ValueId result = c.Add("where", {mask, taken, c.Reshape(self, {count})});
  return {c.Reshape(result, dims)};
}

// scatter, scatter_add, scatter_reduce: `reduce` names how elements join, or is "argument".
Values ConvertScatter(Conversion& c, std::string_view reduce) {
  const Dims dims = c.type(c.Tensor("self")).dims;
  ValueId self = AsList(c, c.Tensor("self")), index = AsList(c, c.Tensor("index"));
  int dim = c.DimIndex("dim", c.type(self).rank());
  ValueId source = c.Has("src")
                       ? AsList(c, c.Tensor("src"))
                       : c.Full(c.type(index).dims, c.type(self).dtype, c.GetScalar("value"));
  Attrs attrs = {{"dim", Dim(dim)}};
  std::string name = reduce == "argument" ? c.String("reduce", "") : std::string(reduce);
  if (name == "add") name = "sum";
  if (name == "multiply") name = "prod";
  if (!name.empty()) attrs.Set("reduce", name);
  if (!c.Bool("include_self", true)) attrs.Set("include_self", false);
  return {c.Reshape(c.Add("scatter", {self, index, source}, std::move(attrs)), dims)};
}

// ---- a slice replaced
// self with [start, end) of `dim` replaced by `source`.
ValueId ReplaceRange(Conversion& c, ValueId self, int dim, const Dim& start, const Dim& end,
                     ValueId source) {
  const Dim size = c.type(self).dims.at(dim);
  Values parts;
  if (!(start == Dim(0))) parts.push_back(c.Slice(self, dim, 0, start));
  parts.push_back(c.Cast(source, c.type(self).dtype));
  if (!(end == size)) parts.push_back(c.Slice(self, dim, end, size));
  return parts.size() == 1 ? parts[0] : c.Add("concat", std::move(parts), {{"dim", Dim(dim)}});
}

Values ConvertSliceScatter(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), source = c.Tensor("src");
  int dim = c.DimIndex("dim", c.type(self).rank(), 0);
  int64_t step = c.Int("step", 1);
  const Dim size = c.type(self).dims.at(dim), length = c.type(source).dims.at(dim);
  Dim start = c.Bound("start", 0);
  if (start == Dim(0) && step == 1 && length == size) {
    return {c.Cast(source, c.type(self).dtype)};  // all of it
  }
  c.Require(start.is_static() && size.is_static() && step > 0, "slice_scatter at a symbolic place");
  int64_t first = start.value() < 0 ? start.value() + size.value() : start.value();
  first = std::clamp<int64_t>(first, 0, size.value());
  if (step == 1) return {ReplaceRange(c, self, dim, first, Dim(first) + length, source)};
  ValueId index = c.Add("arange", {},
                        {{"dtype", DType::kInt64},
                         {"start", static_cast<double>(first)},
                         {"step", static_cast<double>(step)},
                         {"size", length}});
  return {PutSlices(c, self, dim, index, source)};
}

Values ConvertSelectScatter(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank());
  Dim index = c.Size("index");
  if (index.is_static() && index.value() < 0) index = index + c.type(self).dims.at(dim);
  return {ReplaceRange(c, self, dim, index, index + Dim(1), c.Unsqueeze(c.Tensor("src"), dim))};
}

// ---- joins
// cat promotes dtypes, and skips 1-d tensors without elements whatever the rank of the others.
// `value` with the output's sizes, apart from dim `dim`, where they are spelled otherwise: torch
// joins tensors whose sizes it has found equal, by a guard.
ValueId FitToOutput(Conversion& c, ValueId value, int dim) {
  const Dims to = c.output_type().dims;
  if (c.type(value).dims.size() != to.size()) return value;
  for (int i = 0; i < static_cast<int>(to.size()); ++i) {
    const Dim from = c.type(value).dims[i];
    bool differs = i != dim && !(from == to[i]) && !from.is_static() && !to[i].is_static();
    if (differs) value = c.Slice(value, i, 0, to[i]);
  }
  return value;
}

Values ConvertConcat(Conversion& c, std::string_view) {
  DType dtype = c.output_type().dtype;
  int rank = c.output_type().rank();
  Values parts;
  for (ValueId part : c.Tensors("tensors")) {
    bool skipped = rank != 1 && c.type(part).dims == Dims{Dim(0)};
    if (!skipped) parts.push_back(c.Cast(part, dtype));
  }
  c.Require(!parts.empty(), "cat of nothing");
  int dim = c.DimIndex("dim", rank, 0);
  for (ValueId& part : parts) part = FitToOutput(c, part, dim);
  return {parts.size() == 1 ? parts[0] : c.Add("concat", std::move(parts), {{"dim", Dim(dim)}})};
}

// diff: each element less the one before it, of what `prepend`, `self` and `append` give together.
Values ConvertDiff(Conversion& c, std::string_view) {
  const DType dtype = c.output_type().dtype;
  int rank = c.output_type().rank(), dim = c.DimIndex("dim", rank, -1);
  c.Require(c.Int("n", 1) == 1, "diff of an order other than 1");
  Values parts;
  for (std::string_view name : {"prepend", "self", "append"}) {
    if (c.Has(name)) parts.push_back(c.Cast(c.Tensor(name), dtype));
  }
  ValueId x = parts[0];
  if (parts.size() > 1) x = c.Add("concat", std::move(parts), {{"dim", Dim(dim)}});
  Dim size = c.type(x).dims.at(dim);
  c.Require(!(size == Dim(0)), "diff of nothing");
  ValueId later = c.Slice(x, dim, 1, size), earlier = c.Slice(x, dim, 0, size - Dim(1));
  return {c.Add(dtype == DType::kBool ? "ne" : "sub", {later, earlier})};
}

Values ConvertStack(Conversion& c, std::string_view) {
  int dim = c.DimIndex("dim", c.output_type().rank(), 0);
  Values parts;
  for (ValueId part : c.Tensors("tensors")) {
    part = c.Unsqueeze(c.Cast(part, c.output_type().dtype), dim);
    parts.push_back(FitToOutput(c, part, dim));
  }
  return {c.Add("concat", std::move(parts), {{"dim", Dim(dim)}})};
}

// meshgrid: each tensor along a dim of its own.
Values ConvertMeshgrid(Conversion& c, std::string_view) {
  Values results = c.Tensors("tensors");
  c.Require(c.String("indexing", "ij") == "ij", "meshgrid with indexing other than \"ij\"");
  for (size_t i = 0; i < results.size(); ++i) {
    Dims column(results.size(), Dim(1));
    column[i] = c.type(results[i]).num_elements();
    results[i] = c.Expand(c.Reshape(results[i], column), c.output_type(static_cast<int>(i)).dims);
  }
  return results;
}

// ---- repeats
// repeat and tile: a dim of size n, repeated r times, is [r, n] expanded and merged.
Values ConvertRepeat(Conversion& c, std::string_view argument) {
  ValueId self = c.Tensor("self");
  Dims repeats = c.Sizes(argument), dims = c.type(self).dims;
  while (repeats.size() < dims.size()) repeats.insert(repeats.begin(), Dim(1));
  while (dims.size() < repeats.size()) dims.insert(dims.begin(), Dim(1));
  Dims split, expanded, merged;
  for (size_t i = 0; i < dims.size(); ++i) {
    split.insert(split.end(), {Dim(1), dims[i]});
    expanded.insert(expanded.end(), {repeats[i], dims[i]});
    merged.push_back(repeats[i] * dims[i]);
  }
  return {c.Reshape(c.Expand(c.Reshape(self, split), expanded), merged)};
}

// repeat_interleave by a number: each element r times in a row.
Values ConvertRepeatInterleave(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  if (!c.Has("dim")) self = c.Reshape(self, {c.type(self).num_elements()});
  int dim = c.DimIndex("dim", c.type(self).rank(), 0);
  c.Require(c.type(self).rank() > 0, "repeat_interleave of a number");
  Dims dims = c.type(self).dims, merged = dims;
  Dim repeats = c.Size("repeats");
  dims.insert(dims.begin() + dim + 1, repeats);
  merged[dim] = merged[dim] * repeats;
  return {c.Reshape(c.Expand(c.Unsqueeze(self, dim + 1), dims), merged)};
}

// roll: the last `shift` slices go to the front.
Values ConvertRoll(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  const Dims result = c.type(self).dims;
  std::vector<int64_t> shifts = c.Ints("shifts");
  std::vector<int64_t> dims = c.Has("dims") ? c.Ints("dims") : std::vector<int64_t>{};
  if (dims.empty()) {
    self = c.Reshape(self, {c.type(self).num_elements()});
    dims = {0};
  }
  c.Require(dims.size() == shifts.size(), "roll with lists of different lengths");
  for (size_t i = 0; i < dims.size(); ++i) {
    int dim = WrapDim(dims[i], c.type(self).rank());
    const Dim size = c.type(self).dims.at(dim);
    c.Require(size.is_static(), "roll of a symbolic size");
    if (size.value() == 0) continue;
    Dim cut = Mod(Dim(-shifts[i]), size);
    if (cut == Dim(0)) continue;
    self = c.Add("concat", {c.Slice(self, dim, cut, size), c.Slice(self, dim, 0, cut)},
                 {{"dim", Dim(dim)}});
  }
  return {c.Reshape(self, result)};
}

Values ConvertFlip(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  std::vector<int> axes;
  for (int64_t dim : c.Ints("dims")) axes.push_back(WrapDim(dim, c.type(self).rank()));
  if (c.type(self).rank() == 0) return {self};
  return {c.Add("flip", {self}, {{"axes", ToDims(axes)}})};
}

Values ConvertTriangle(Conversion& c, std::string_view op) {
  return {c.Add(op, {c.Tensor("self")}, {{"diagonal", Dim(c.Int("diagonal", 0))}})};
}

// What only the data tells the size or the kind of.
constexpr std::string_view kDataSize = "makes an output whose size only the data tells";

constexpr Converter kRows[] = {
    {"aten.nonzero.default", nullptr, kDataSize},
    {"aten.masked_select.default", nullptr, kDataSize},
    {"aten._unique2.default", nullptr, kDataSize},
    {"aten.unique_dim.default", nullptr, kDataSize},
    {"aten.unique_consecutive.default", nullptr, kDataSize},
    {"aten.bincount.default", nullptr, kDataSize},
    {"aten.repeat_interleave.Tensor", nullptr, kDataSize},
    {"aten._local_scalar_dense.default", nullptr, "gives Python a number"},
    {"aten.embedding.default", ConvertEmbedding},
    {"aten._embedding_bag.default", ConvertEmbeddingBag},
    {"aten._embedding_bag_forward_only.default", ConvertEmbeddingBag},
    {"aten.embedding_bag.default", ConvertEmbeddingBag},
    {"aten.embedding_bag.padding_idx", ConvertEmbeddingBag},
    {"aten.gather.default", ConvertGather},
    {"aten.index_select.default", ConvertIndexSelect},
    {"aten.index.Tensor", ConvertIndex},
    {"aten._unsafe_index.Tensor", ConvertIndex},
    {"aten.index_put.default", ConvertIndexPut},
    {"aten._unsafe_index_put.default", ConvertIndexPut},
    {"aten.index_copy.default", ConvertPutSlices, "copy"},
    {"aten.index_fill.int_Scalar", ConvertPutSlices, "fill"},
    {"aten.index_fill.int_Tensor", ConvertPutSlices, "fill"},
    {"aten.index_add.default", ConvertPutSlices, "add"},
    {"aten.take.default", ConvertTake},
    {"aten.put.default", ConvertPut},
    {"aten.masked_scatter.default", ConvertMaskedScatter},
    {"aten.scatter.src", ConvertScatter},
    {"aten.scatter.value", ConvertScatter},
    {"aten.scatter.reduce", ConvertScatter, "argument"},
    {"aten.scatter.value_reduce", ConvertScatter, "argument"},
    {"aten.scatter_add.default", ConvertScatter, "sum"},
    {"aten.scatter_reduce.two", ConvertScatter, "argument"},
    {"aten.slice_scatter.default", ConvertSliceScatter},
    {"aten.select_scatter.default", ConvertSelectScatter},
    {"aten.cat.default", ConvertConcat},
    {"aten.concat.default", ConvertConcat},
    {"aten.diff.default", ConvertDiff},
    {"aten.concatenate.default", ConvertConcat},
    {"aten.stack.default", ConvertStack},
    {"aten.meshgrid.default", ConvertMeshgrid},
    {"aten.meshgrid.indexing", ConvertMeshgrid},
    {"aten.repeat.default", ConvertRepeat, "repeats"},
    {"aten.tile.default", ConvertRepeat, "dims"},
    {"aten.repeat_interleave.self_int", ConvertRepeatInterleave},
    {"aten.roll.default", ConvertRoll},
    {"aten.flip.default", ConvertFlip},
    {"aten.tril.default", ConvertTriangle, "tril"},
    {"aten.triu.default", ConvertTriangle, "triu"},
};

}  // namespace

std::span<const Converter> IndexConverters() { return kRows; }

}  // namespace stator
