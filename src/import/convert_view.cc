// Converters of views, copies and casts: what changes where elements lie, or their dtype.
#include <algorithm>
#include <array>
#include <numeric>
#include <set>

#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// `sizes` with its -1, if any, resolved so that it holds as many elements as `value`.
Dims ResolveSizes(const Conversion& c, ValueId value, Dims sizes) {
  auto unknown = std::find(sizes.begin(), sizes.end(), Dim(-1));
  if (unknown == sizes.end()) return sizes;
  Dim known = 1;
  for (const Dim& size : sizes) {
    if (!(size == Dim(-1))) known = known * size;
  }
  // With an element count of 0 the -1 is ambiguous, and torch has refused it already.
  c.Require(!(known == Dim(0)), "a size of -1 beside a size of 0");
  *unknown = FloorDiv(c.type(value).num_elements(), known);
  return sizes;
}

Values ConvertReshape(Conversion& c, std::string_view size_argument) {
  ValueId self = c.Tensor("self");
  return {c.Reshape(self, ResolveSizes(c, self, c.Sizes(size_argument)))};
}

Values ConvertViewAs(Conversion& c, std::string_view) {
  return {c.Reshape(c.Tensor("self"), c.type(c.Tensor("other")).dims)};
}

Values ConvertTranspose(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  bool axis = c.Has("axis0");
  int dim0 = c.DimIndex(axis ? "axis0" : "dim0", rank);
  int dim1 = c.DimIndex(axis ? "axis1" : "dim1", rank);
  return {rank == 0 ? self : c.Transpose(self, dim0, dim1)};
}

// t, numpy_T, mT: reverses the last `count` dims ("2" or "all").
Values ConvertReverseDims(Conversion& c, std::string_view count) {
  ValueId self = c.Tensor("self");
  std::vector<int> perm = IdentityPerm(c.type(self).rank());
  std::reverse(count == "2" && perm.size() > 2 ? perm.end() - 2 : perm.begin(), perm.end());
  return {c.Permute(self, perm)};
}

Values ConvertPermute(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  std::vector<int> perm;
  for (int64_t dim : c.Ints("dims")) perm.push_back(WrapDim(dim, c.type(self).rank()));
  return {c.Permute(self, perm)};
}

Values ConvertMovedim(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  std::vector<int64_t> source = c.Ints("source"), destination = c.Ints("destination");
  c.Require(source.size() == destination.size(), "movedim with lists of different lengths");
  std::vector<int> perm(rank, -1);
  std::set<int> moved;
  for (size_t i = 0; i < source.size(); ++i) {
    int dim = WrapDim(source[i], rank);
    perm.at(WrapDim(destination[i], rank)) = dim;
    moved.insert(dim);
  }
  int next = 0;
  for (int& dim : perm) {
    if (dim >= 0) continue;
    while (moved.contains(next)) ++next;
    dim = next++;
  }
  return {c.Permute(self, perm)};
}

// Sizes of -1 keep the size of the tensor.
Values ConvertExpand(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  if (c.Has("other")) return {c.Expand(self, c.type(c.Tensor("other")).dims)};
  Dims sizes = c.Sizes("size");
  const Dims& dims = c.type(self).dims;
  c.Require(sizes.size() >= dims.size(), "expand to a lower rank");
  size_t lead = sizes.size() - dims.size();
  for (size_t i = lead; i < sizes.size(); ++i) {
    if (sizes[i] == Dim(-1)) sizes[i] = dims[i - lead];
  }
  return {c.Expand(self, sizes)};
}

// An index counted from the front. A symbolic one is not negative: torch guards on its sign and
// writes size + index when it is.
Dim WrapIndex(const Dim& index, const Dim& size) {
  return index.is_static() && index.value() < 0 ? size + index : index;
}

Values ConvertSelect(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank());
  Dim size = c.type(self).dims.at(dim);
  Dim index = WrapIndex(c.Size("index"), size);
  return {c.Squeeze(c.Slice(self, dim, index, index + Dim(1)), dim)};
}

// A slice bound in [0, size].
Dim ClipBound(const Dim& bound, const Dim& size) {
  if (bound.is_static() && size.is_static()) {
    int64_t value = bound.value() < 0 ? bound.value() + size.value() : bound.value();
    return std::clamp<int64_t>(value, 0, size.value());
  }
  if (bound.is_static() && bound.value() < 0) return Max(size + bound, 0);
  return bound == Dim(0) ? bound : Min(bound, size);
}

// With symbolic sizes, the length that torch derived tells whether a bound needs clipping.
Values ConvertSlice(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank(), 0);
  const Dim size = c.type(self).dims.at(dim);
  int64_t step = c.Int("step", 1);
  c.Require(step > 0, "slice with a step that is not positive");
  Dim start = c.Bound("start", 0), end = c.Bound("end", size);
  Dim clipped_start = ClipBound(start, size), clipped_end = ClipBound(end, size);
  if (clipped_start.is_static() && clipped_end.is_static()) {
    if (clipped_end.value() < clipped_start.value()) clipped_end = clipped_start;
  } else {
    const Dim& length = c.output_type().dims.at(dim);
    if (length == Dim(0)) return {c.Slice(self, dim, 0, 0)};
    start = WrapIndex(start, size), end = WrapIndex(end, size);
    for (const Dim& candidate : {end, size}) {
      if (FloorDiv(candidate - start + Dim(step - 1), Dim(step)) == length) {
        return {c.Slice(self, dim, start, candidate, step)};
      }
    }
  }
  return {c.Slice(self, dim, clipped_start, clipped_end, step)};
}

Values ConvertNarrow(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank());
  Dim start = WrapIndex(c.Size("start"), c.type(self).dims.at(dim));
  return {c.Slice(self, dim, start, start + c.Size("length"))};
}

// Parts of `self` along `dim`, as long as torch says.
Values SplitAs(Conversion& c, ValueId self, int dim, const Dims& sizes) {
  Values parts;
  Dim start = 0;
  for (const Dim& size : sizes) {
    parts.push_back(c.Slice(self, dim, start, start + size));
    start = start + size;
  }
  return parts;
}

// split, split_with_sizes, chunk: the part sizes are those of the outputs.
Values ConvertSplit(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank(), 0);
  Dims sizes;
  for (int i = 0; i < c.num_outputs(); ++i) sizes.push_back(c.output_type(i).dims.at(dim));
  return SplitAs(c, self, dim, sizes);
}

Values ConvertUnbind(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank(), 0);
  Values parts = SplitAs(c, self, dim, Dims(c.num_outputs(), Dim(1)));
  for (ValueId& part : parts) part = c.Squeeze(part, dim);
  return parts;
}

Values ConvertUnsqueeze(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  return {c.Unsqueeze(self, c.DimIndex("dim", c.type(self).rank() + 1))};
}

Values ConvertSqueeze(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  std::set<int> dims;
  if (c.Has("dim")) {
    for (int64_t dim : c.Ints("dim")) dims.insert(WrapDim(dim, rank));
  } else {
    for (int i = 0; i < rank; ++i) dims.insert(i);
  }
  Dims sizes;
  for (int i = 0; i < rank; ++i) {
    const Dim& size = c.type(self).dims[i];
    if (!dims.contains(i) || !(size == Dim(1))) sizes.push_back(size);
  }
  return {c.Reshape(self, sizes)};
}

// The order of dims that puts the arguments dim1 and dim2 last.
std::vector<int> MatricesLast(const Conversion& c, int rank) {
  int dim1 = c.DimIndex("dim1", rank, 0), dim2 = c.DimIndex("dim2", rank, 1);
  std::vector<int> perm;
  for (int dim = 0; dim < rank; ++dim) {
    if (dim != dim1 && dim != dim2) perm.push_back(dim);
  }
  perm.insert(perm.end(), {dim1, dim2});
  return perm;
}

// A dim with `count` zeros added at its end, or taken away.
ValueId PadEnd(Conversion& c, ValueId x, int dim, const Dim& count) {
  Dims pads(2 * c.type(x).rank(), Dim(0));
  pads[2 * dim + 1] = count;
  return c.Add("pad", {x}, {{"pads", pads}, {"mode", std::string("constant")}, {"value", 0.0}});
}

// In the row-major elements of a matrix of m columns, neighbours on a diagonal are m + 1 apart.
Values ConvertDiagonal(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  ValueId matrices = c.Permute(self, MatricesLast(c, rank));
  Dims dims = c.type(matrices).dims;
  int64_t offset = c.Int("offset", 0);
  int64_t row = std::max<int64_t>(-offset, 0), column = std::max<int64_t>(offset, 0);
  if (!dims[rank - 2].is_static() || !dims[rank - 1].is_static()) {
    // As many rows of m + 1 as there are elements on the diagonal, which is their first column.
    Dim elements = dims[rank - 2] * dims[rank - 1], width = dims[rank - 1] + 1;
    Dim start = Dim(row) * dims[rank - 1] + column, count = c.output_type().dims.back();
    dims.resize(rank - 2);
    Dims flat = dims, lines = dims;
    flat.push_back(elements);
    lines.insert(lines.end(), {count, width});
    ValueId x = PadEnd(c, c.Reshape(matrices, flat), rank - 2, start + count * width - elements);
    x = c.Reshape(c.Slice(x, rank - 2, start, start + count * width), lines);
    return {c.Squeeze(c.Slice(x, rank - 1, 0, 1), rank - 1)};
  }
  int64_t rows = dims[rank - 2].value(), columns = dims[rank - 1].value();
  int64_t count = std::max<int64_t>(std::min(rows - row, columns - column), 0);
  dims.resize(rank - 2);
  dims.push_back(rows * columns);
  ValueId flat = c.Reshape(matrices, dims);
  if (count == 0) return {c.Slice(flat, rank - 2, 0, 0)};
  int64_t start = row * columns + column;
  return {c.Slice(flat, rank - 2, start, start + (count - 1) * (columns + 1) + 1, columns + 1)};
}

Values ConvertFlatten(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  Dims dims = c.type(self).dims;
  if (dims.empty()) return {c.Reshape(self, {Dim(1)})};
  int start = c.DimIndex("start_dim", c.type(self).rank(), 0);
  int end = c.DimIndex("end_dim", c.type(self).rank(), -1);
  c.Require(start <= end, "flatten with its dims out of order");
  Dim merged = NumElements(Dims(dims.begin() + start, dims.begin() + end + 1));
  dims.erase(dims.begin() + start + 1, dims.begin() + end + 1);
  dims[start] = merged;
  return {c.Reshape(self, dims)};
}

Values ConvertUnflatten(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int dim = c.DimIndex("dim", c.type(self).rank());
  Dims dims = c.type(self).dims, sizes = c.Sizes("sizes");
  auto unknown = std::find(sizes.begin(), sizes.end(), Dim(-1));
  if (unknown != sizes.end()) {
    *unknown = 1;
    *unknown = FloorDiv(dims.at(dim), NumElements(sizes));
  }
  dims.erase(dims.begin() + dim);
  dims.insert(dims.begin() + dim, sizes.begin(), sizes.end());
  return {c.Reshape(self, dims)};
}

// unfold: windows of a dim, each as a new last dim. Those that overlap are gathered.
Values ConvertUnfold(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  int64_t size = c.Int("size"), step = c.Int("step");
  c.Require(rank > 0, "windows of a number");
  int dim = c.DimIndex("dimension", rank);
  Dims dims = c.type(self).dims;
  c.Require(dims[dim].is_static() && size > 0 && step > 0, "windows of a symbolic size");
  int64_t count = (dims[dim].value() - size) / step + 1;
  if (step == size) {
    self = c.Slice(self, dim, 0, count * size);
  } else {
    std::vector<double> positions;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < size; ++j) positions.push_back(static_cast<double>(i * step + j));
    }
    ValueId index = AddLiteral(
        c.graph(), {.dtype = DType::kInt64, .dims = {Dim(count * size)}, .order = {}}, positions);
    self = c.Add("index_select", {self, index}, {{"dim", Dim(dim)}});
  }
  dims[dim] = size;
  dims.insert(dims.begin() + dim, Dim(count));
  std::vector<int> perm = IdentityPerm(rank + 1);
  perm.erase(perm.begin() + dim + 1);
  perm.push_back(dim + 1);
  return {c.Permute(c.Reshape(self, dims), perm)};
}

Values ConvertIdentity(Conversion& c, std::string_view argument) {
  return {c.Tensor(argument.empty() ? "self" : argument)};
}

// to.*, _to_copy, type_as, and the shorthands of Tensor: a cast to the dtype torch says. Layout and
// memory format do not show in values. prims names its argument otherwise.
Values ConvertTo(Conversion& c, std::string_view argument) {
  return {c.Cast(c.Tensor(argument.empty() ? "self" : argument), c.output_type().dtype)};
}

// dropout in evaluation, or with nothing to drop.
Values ConvertDropout(Conversion& c, std::string_view) {
  bool identity = !c.Bool("train", true) || c.Float("p", 0.5) == 0;
  c.Require(identity, "dropout draws random numbers: call model.eval() first");
  return {c.Tensor(c.Has("input") ? "input" : "self"), ValueId{}};  // dropout_ names it self
}

// The dims before the last three, then `dims`.
Dims WithBatch(const Conversion& c, ValueId image, std::initializer_list<Dim> dims) {
  Dims result(c.type(image).dims.begin(), c.type(image).dims.end() - 3);
  result.insert(result.end(), dims);
  return result;
}

// `image` seen as [batch..., five dims], whose five dims change places.
ValueId PermuteFive(Conversion& c, ValueId image, const std::array<int, 5>& perm) {
  int rank = c.type(image).rank();
  std::vector<int> full = IdentityPerm(rank);
  for (int i = 0; i < 5; ++i) full[rank - 5 + i] = rank - 5 + perm[i];
  return c.Permute(image, full);
}

// pixel_shuffle: channels C*r*r of r*r sub-pixels become an image r times as large.
Values ConvertPixelShuffle(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  Dim r = c.Int("upscale_factor");
  const Dims& dims = c.type(self).dims;
  c.Require(dims.size() >= 3 && r.value() > 0, "pixel_shuffle of a rank below 3");
  const Dim height = dims.end()[-2], width = dims.end()[-1];
  Dim channels = FloorDiv(dims.end()[-3], r * r);
  ValueId split = c.Reshape(self, WithBatch(c, self, {channels, r, r, height, width}));
  return {c.Reshape(PermuteFive(c, split, {0, 3, 1, 4, 2}),
                    WithBatch(c, self, {channels, height * r, width * r}))};
}

// The inverse: r*r sub-pixels become channels.
Values ConvertPixelUnshuffle(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  Dim r = c.Int("downscale_factor");
  const Dims& dims = c.type(self).dims;
  c.Require(dims.size() >= 3 && r.value() > 0, "pixel_unshuffle of a rank below 3");
  const Dim channels = dims.end()[-3];
  Dim height = FloorDiv(dims.end()[-2], r), width = FloorDiv(dims.end()[-1], r);
  ValueId split = c.Reshape(self, WithBatch(c, self, {channels, height, r, width, r}));
  return {c.Reshape(PermuteFive(c, split, {0, 2, 4, 1, 3}),
                    WithBatch(c, self, {channels * r * r, height, width}))};
}

// channel_shuffle: channels [groups, C / groups] become [C / groups, groups].
Values ConvertChannelShuffle(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  Dim groups = c.Int("groups");
  const Dims dims = c.type(self).dims;
  c.Require(dims.size() >= 3 && groups.value() > 0, "channel_shuffle of a rank below 3");
  Dims split = dims;
  split[1] = FloorDiv(dims[1], groups);
  split.insert(split.begin() + 1, groups);
  return {c.Reshape(c.Transpose(c.Reshape(self, split), 1, 2), dims)};
}

Values ConvertBroadcastTensors(Conversion& c, std::string_view) {
  Values results = c.Tensors("tensors");
  for (size_t i = 0; i < results.size(); ++i) {
    results[i] = c.Expand(results[i], c.output_type(static_cast<int>(i)).dims);
  }
  return results;
}

// self with `src` on a diagonal: element i of it lies in row i of the matrix, or, below the main
// diagonal, in column i.
Values ConvertDiagonalScatter(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), src = c.Tensor("src");
  int rank = c.type(self).rank();
  std::vector<int> perm = MatricesLast(c, rank), inverse(rank);
  for (int dim = 0; dim < rank; ++dim) inverse[perm[dim]] = dim;
  ValueId matrices = c.Permute(self, perm);
  const Dims dims = c.type(matrices).dims;
  int64_t offset = c.Int("offset", 0);
  int along = offset >= 0 ? rank - 2 : rank - 1;
  ValueId line = PadEnd(c, src, rank - 2, dims[along] - c.type(src).dims.back());
  ValueId spread = c.Expand(c.Unsqueeze(line, offset >= 0 ? rank - 1 : rank - 2), dims);
  auto range = [&](double start, const Dim& size) {
    return c.Add("arange", {},
                 {{"dtype", DType::kInt64}, {"start", start}, {"step", 1.0}, {"size", size}});
  };
  ValueId row = c.Unsqueeze(range(static_cast<double>(offset), dims[rank - 2]), 1);
  ValueId on_diagonal = c.Add("eq", {row, range(0, dims[rank - 1])});
  return {c.Permute(c.Add("where", {on_diagonal, spread, matrices}), inverse)};
}

constexpr Converter kRows[] = {
    {"aten.view.default", ConvertReshape, "size", Alias::kView},
    {"aten._unsafe_view.default", ConvertReshape, "size"},
    {"aten.reshape.default", ConvertReshape, "shape", Alias::kReshape},
    {"aten._reshape_alias.default", ConvertReshape, "size", Alias::kView},
    {"aten.view_as.default", ConvertViewAs, "", Alias::kView},
    {"aten.reshape_as.default", ConvertViewAs, "", Alias::kReshape},
    {"aten.transpose.int", ConvertTranspose, "", Alias::kView},
    {"aten.swapaxes.default", ConvertTranspose, "", Alias::kView},
    {"aten.swapdims.default", ConvertTranspose, "", Alias::kView},
    {"aten.t.default", ConvertReverseDims, "all", Alias::kView},
    {"aten.numpy_T.default", ConvertReverseDims, "all", Alias::kView},
    {"aten.mT.default", ConvertReverseDims, "2", Alias::kView},
    {"aten.permute.default", ConvertPermute, "", Alias::kView},
    {"aten.movedim.int", ConvertMovedim, "", Alias::kView},
    {"aten.movedim.intlist", ConvertMovedim, "", Alias::kView},
    {"aten.moveaxis.int", ConvertMovedim, "", Alias::kView},
    {"aten.moveaxis.intlist", ConvertMovedim, "", Alias::kView},
    {"aten.expand.default", ConvertExpand, "", Alias::kView},
    {"aten.expand_as.default", ConvertExpand, "", Alias::kView},
    {"aten.broadcast_to.default", ConvertExpand, "", Alias::kView},
    {"aten.broadcast_tensors.default", ConvertBroadcastTensors},
    {"aten.select.int", ConvertSelect, "", Alias::kView},
    {"aten.slice.Tensor", ConvertSlice, "", Alias::kView},
    {"aten.narrow.default", ConvertNarrow, "", Alias::kView},
    {"aten.split.Tensor", ConvertSplit, "", Alias::kView},
    {"aten.split.sizes", ConvertSplit, "", Alias::kView},
    {"aten.split_with_sizes.default", ConvertSplit, "", Alias::kView},
    {"aten.unsafe_split.Tensor", ConvertSplit},
    {"aten.chunk.default", ConvertSplit, "", Alias::kView},
    {"aten.unsafe_chunk.default", ConvertSplit},
    {"aten.tensor_split.sections", ConvertSplit, "", Alias::kView},
    {"aten.tensor_split.indices", ConvertSplit, "", Alias::kView},
    {"aten.unbind.int", ConvertUnbind, "", Alias::kView},
    {"aten.unsqueeze.default", ConvertUnsqueeze, "", Alias::kView},
    {"aten.squeeze.default", ConvertSqueeze, "", Alias::kView},
    {"aten.squeeze.dim", ConvertSqueeze, "", Alias::kView},
    {"aten.squeeze.dims", ConvertSqueeze, "", Alias::kView},
    {"aten.flatten.using_ints", ConvertFlatten, "", Alias::kReshape},
    {"aten.unflatten.int", ConvertUnflatten, "", Alias::kView},
    {"aten.alias.default", ConvertIdentity, "", Alias::kView},
    {"aten.detach.default", ConvertIdentity, "", Alias::kView},
    {"aten.positive.default", ConvertIdentity, "", Alias::kView},
    {"aten.conj.default", ConvertIdentity, "", Alias::kView},
    {"aten.resolve_conj.default", ConvertIdentity, "", Alias::kView},
    {"aten.resolve_neg.default", ConvertIdentity, "", Alias::kView},
    {"aten.lift_fresh.default", ConvertIdentity, "", Alias::kView},
    {"aten.lift_fresh_copy.default", ConvertIdentity},
    {"aten.lift.default", ConvertIdentity},
    {"aten.clone.default", ConvertIdentity},
    {"aten.contiguous.default", ConvertIdentity, "", Alias::kContiguous},
    {"aten.to.dtype", ConvertTo, "", Alias::kTo},
    {"aten.to.device", ConvertTo, "", Alias::kTo},
    {"aten.to.dtype_layout", ConvertTo, "", Alias::kTo},
    {"aten.to.other", ConvertTo, "", Alias::kTo},
    {"aten.to.prim_Device", ConvertTo, "", Alias::kTo},
    {"aten.type_as.default", ConvertTo, "", Alias::kTo},
    {"aten._to_copy.default", ConvertTo},
    {"aten._cast_Float.default", ConvertTo, "", Alias::kTo},
    {"prims.convert_element_type.default", ConvertTo, "a"},
    {"aten.dropout.default", ConvertDropout, "", Alias::kView},
    {"aten.feature_dropout.default", ConvertDropout, "", Alias::kView},
    {"aten.alpha_dropout.default", ConvertDropout, "", Alias::kView},
    {"aten.feature_alpha_dropout.default", ConvertDropout, "", Alias::kView},
    {"aten.native_dropout.default", ConvertDropout},
    {"aten.pixel_shuffle.default", ConvertPixelShuffle},
    {"aten.pixel_unshuffle.default", ConvertPixelUnshuffle},
    {"aten.channel_shuffle.default", ConvertChannelShuffle},
    // What shares memory in ways that no op of ours can follow.
    {"aten.as_strided.default", nullptr, "as_strided reads memory, not dims", Alias::kUnknown},
    {"aten.unfold.default", ConvertUnfold, "", Alias::kUnknown},
    {"aten.diagonal.default", ConvertDiagonal, "", Alias::kView},
    {"aten.diagonal_scatter.default", ConvertDiagonalScatter},
    {"aten.view.dtype", nullptr, "a view as another dtype reads raw bytes", Alias::kUnknown},
    {"aten.view_as_real.default", nullptr, "complex numbers", Alias::kUnknown},
    {"aten.view_as_complex.default", nullptr, "complex numbers", Alias::kUnknown},
    {"aten.real.default", nullptr, "complex numbers", Alias::kUnknown},
    {"aten.imag.default", nullptr, "complex numbers", Alias::kUnknown},
    {"aten._conj.default", nullptr, "complex numbers", Alias::kUnknown},
    {"aten._neg_view.default", nullptr, "complex numbers", Alias::kUnknown},
};

}  // namespace

std::span<const Converter> ViewConverters() { return kRows; }

}  // namespace stator
