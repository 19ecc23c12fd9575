// Rows that move elements by indices: gathers, scatters, joins, padding.
//
// Elements are moved unread, so every row takes every dtype. Indices are i32 or i64; one that is
// out of range raises InvalidArgument when it is met.
#include <algorithm>
#include <optional>

#include "ops/indexing.h"
#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// An index into dim `dim` of x; in torch's words where it is none.
int64_t CheckedIndex(const TensorRef& index, int64_t offset, const TensorRef& x, int64_t dim,
                     bool from_end = false) {
  int64_t value = ReadIndex(index, offset), size = x.dims[dim];
  if (value < (from_end ? -size : 0) || value >= size) {
    Reject("index {} is out of bounds for dimension {} with size {}", value, dim, size);
  }
  return value < 0 ? value + size : value;
}

// ---- embedding: y[i..., :] = weight[indices[i...], :]
std::vector<TensorType> InferEmbedding(const InferContext& context) {
  const TensorType &weight = context.input(0), &indices = context.input(1);
  RequireIndex(indices, "indices");
  if (weight.rank() != 2) Reject("weight is {}, expected 2 dims", weight.ToString());
  Dims dims = indices.dims;
  dims.push_back(weight.dims[1]);
  return OneOutput(weight.dtype, std::move(dims));
}

void ReferenceEmbedding(const Attrs&, std::span<const TensorRef> inputs,
                        std::span<TensorRef> outputs) {
  const TensorRef &weight = inputs[0], &indices = inputs[1], &y = outputs[0];
  DispatchSize(weight.dtype, [&](auto element) {
    using T = decltype(element);
    std::span<const int64_t> y_strides = std::span(y.strides).first(indices.dims.size());
    ForEachOffset<2>(indices.dims, {indices.strides, y_strides}, [&](const auto& at) {
      const T* row = Data<T>(weight) + CheckedIndex(indices, at[0], weight, 0) * weight.strides[0];
      for (int64_t i = 0; i < weight.dims[1]; ++i) {
        Data<T>(y)[at[1] + i * y.strides.back()] = row[i * weight.strides[1]];
      }
    });
  });
}

// ---- gather: y[i, j, k] = x[i, index[i, j, k], k] for dim 1
void RequireIndexDims(const TensorType& index, const TensorType& bound, int skip,
                      std::string_view name) {
  bool fits = index.rank() == bound.rank();
  for (int i = 0; fits && i < index.rank(); ++i) {
    const Dim &a = index.dims[i], &b = bound.dims[i];
    fits = i == skip || a == b || (a.is_static() && b.is_static() && a.value() <= b.value());
  }
  if (!fits) Reject("index is {}, which exceeds {} {}", index.ToString(), name, bound.ToString());
}

std::vector<TensorType> InferGather(const InferContext& context) {
  const TensorType &x = context.input(0), &index = context.input(1);
  RequireIndex(index, "index");
  RequireIndexDims(index, x, GetAxis(context.attrs, "dim", x.rank()), "x");
  return OneOutput(x.dtype, index.dims);
}

// The strides of a tensor but for one dim, whose position an index gives.
Sizes StridesWithout(const TensorRef& tensor, int64_t dim) {
  Sizes strides = tensor.strides;
  strides[dim] = 0;
  return strides;
}

void ReferenceGather(const Attrs& attrs, std::span<const TensorRef> inputs,
                     std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &index = inputs[1], &y = outputs[0];
  int64_t dim = attrs.GetInt("dim");
  Sizes x_strides = StridesWithout(x, dim);
  DispatchSize(x.dtype, [&](auto element) {
    using T = decltype(element);
    ForEachOffset<3>(index.dims, {index.strides, x_strides, y.strides}, [&](const auto& at) {
      int64_t position = CheckedIndex(index, at[0], x, dim);
      Data<T>(y)[at[2]] = Data<T>(x)[at[1] + position * x.strides[dim]];
    });
  });
}

// ---- index_select: y[i, j, k] = x[i, index[j], k] for dim 1
std::vector<TensorType> InferIndexSelect(const InferContext& context) {
  const TensorType &x = context.input(0), &index = context.input(1);
  RequireIndex(index, "index");
  if (index.rank() != 1) Reject("index is {}, expected 1 dim", index.ToString());
  Dims dims = x.dims;
  dims[GetAxis(context.attrs, "dim", x.rank())] = index.dims[0];
  return OneOutput(x.dtype, std::move(dims));
}

void ReferenceIndexSelect(const Attrs& attrs, std::span<const TensorRef> inputs,
                          std::span<TensorRef> outputs) {
  TensorRef index = inputs[1];  // seen as broadcast over all dims but `dim`
  int64_t dim = attrs.GetInt("dim"), stride = index.strides[0];
  for (int64_t i = 0; i < index.dims[0]; ++i) {  // as torch, even where there is nothing to read
    CheckedIndex(index, i * stride, inputs[0], dim);
  }
  index.dims = outputs[0].dims;
  index.strides.assign(index.dims.size(), 0);
  index.strides[dim] = stride;
  const TensorRef seen[] = {inputs[0], index};
  ReferenceGather(attrs, seen, outputs);
}

// ---- scatter: y = x, then y[i, index[i, j, k], k] = src[i, j, k] for dim 1, or the sum, product,
// mean or extremum of both
std::vector<TensorType> InferScatter(const InferContext& context) {
  const TensorType &x = context.input(0), &index = context.input(1), &src = context.input(2);
  RequireIndex(index, "index");
  if (src.dtype != x.dtype) Reject("src is {}, expected {}", src.ToString(), DTypeName(x.dtype));
  RequireIndexDims(index, x, GetAxis(context.attrs, "dim", x.rank()), "x");
  RequireIndexDims(index, src, -1, "src");
  std::optional<Reduce> reduce = FindReduce(context.attrs);
  if (!reduce) Reject("reduce is \"{}\"", context.attrs.GetString("reduce"));
  if (*reduce != Reduce::kNone) RequireNumber(x, "x");
  return OneOutput(x.dtype, x.dims);
}

template <typename Sum>
Sum Join(Reduce reduce, Sum a, Sum b) {
  switch (reduce) {
    case Reduce::kProd: return a * b;
    case Reduce::kMax: return a != a || a > b ? a : b;
    case Reduce::kMin: return a != a || a < b ? a : b;
    default: return a + b;
  }
}

// An integer mean is rounded to minus infinity.
template <typename Sum>
Sum DivideByCount(Sum sum, int64_t count) {
  if constexpr (std::is_same_v<Sum, double>) {
    return sum / static_cast<double>(count);
  } else {
    using Wide = scalar::Int<int64_t>;
    return floor_div(Wide(sum.value), Wide(count)).value;
  }
}

// y[to] = src[from], or (reduce) all src for one element of y joined, with y's own if
// `include_self`. `each` calls its argument with (to, the same in a dense y, from).
template <typename T, typename Each>
void ScatterInto(Reduce reduce, bool include_self, const TensorRef& y, const T* src, Each&& each) {
  T* data = Data<T>(y);
  if (reduce == Reduce::kNone) {
    each([&](int64_t to, int64_t, int64_t from) { data[to] = src[from]; });
    return;
  }
  if constexpr (!std::is_same_v<T, bool>) {  // which the type rule leaves to kNone
    using Sum = Accumulator<T>;
    std::vector<Sum> sums(y.num_elements());
    std::vector<int64_t> counts(y.num_elements());
    each([&](int64_t to, int64_t dense, int64_t from) {
      Sum value = ToAccumulator(src[from]);
      if (counts[dense] == 0 && include_self) {
        value = Join<Sum>(reduce, ToAccumulator(data[to]), value);
        counts[dense] = 1;
      } else if (counts[dense] > 0) {
        value = Join<Sum>(reduce, sums[dense], value);
      }
      sums[dense] = value;
      ++counts[dense];
    });
    Sizes dense = DenseStrides(y.dims);
    ForEachOffset<2>(y.dims, {y.strides, dense}, [&](const auto& at) {
      if (counts[at[1]] == 0) return;
      Sum sum = sums[at[1]];
      if (reduce == Reduce::kMean) sum = DivideByCount<Sum>(sum, counts[at[1]]);
      data[at[0]] = scalar::CastTo<T>(sum);
    });
  }
}

void ReferenceScatter(const Attrs& attrs, std::span<const TensorRef> inputs,
                      std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &index = inputs[1], &src = inputs[2], &y = outputs[0];
  int64_t dim = attrs.GetInt("dim");
  const Attr* include_self = attrs.Find("include_self");
  Sizes y_strides = StridesWithout(y, dim), dense = DenseStrides(y.dims);
  int64_t dense_step = dense[dim];
  dense[dim] = 0;
  CopyTensor(x, y);
  DispatchDType(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    ScatterInto<T>(*FindReduce(attrs), include_self == nullptr || std::get<bool>(*include_self), y,
                   Data<T>(src), [&](auto&& visit) {
                     ForEachOffset<4>(index.dims, {index.strides, y_strides, dense, src.strides},
                                      [&](const auto& at) {
                                        int64_t position = CheckedIndex(index, at[0], x, dim);
                                        visit(at[1] + position * y.strides[dim],
                                              at[2] + position * dense_step, at[3]);
                                      });
                   });
  });
}

// ---- index: advanced indexing (ops/indexing.h)
std::vector<TensorType> InferIndex(const InferContext& context) {
  const TensorType& x = context.input(0);
  int num_indices = static_cast<int>(context.inputs.size()) - 1;
  if (num_indices > x.rank()) Reject("{} indices for x, which is {}", num_indices, x.ToString());
  IndexPlan plan = PlanIndex(
      x.rank(), [&](int i) { return i < num_indices && context.inputs[i + 1] != nullptr; });
  Dims broadcast, dims;
  for (int64_t dim : plan.indexed) {
    RequireIndex(context.input(dim + 1), "index");
    broadcast = BroadcastDims(broadcast, context.input(dim + 1).dims);
  }
  for (int64_t dim : plan.kept) dims.push_back(x.dims[dim]);
  dims.insert(dims.begin() + plan.num_before, broadcast.begin(), broadcast.end());
  return OneOutput(x.dtype, std::move(dims));
}

// The elements that `indices` name, of `x` and of the tensor x[indices] of these dims and strides.
struct IndexWalk {
  std::vector<std::array<int64_t, 2>> tuples;  // per index tuple: offset in x, offset in x[indices]
  Sizes kept_dims, kept_x_strides, kept_y_strides;
};

IndexWalk WalkIndex(const TensorRef& x, std::span<const TensorRef> indices,
                    std::span<const int64_t> y_dims, std::span<const int64_t> y_strides) {
  IndexPlan plan = PlanIndex(static_cast<int>(x.dims.size()), [&](size_t i) {
    return i < indices.size() && indices[i].data != nullptr;
  });
  size_t num_index_dims = y_dims.size() - plan.kept.size();
  IndexWalk walk;
  Sizes index_dims, index_y_strides;
  for (size_t i = 0; i < y_dims.size(); ++i) {
    bool is_index_dim = i >= plan.num_before && i < plan.num_before + num_index_dims;
    (is_index_dim ? index_dims : walk.kept_dims).push_back(y_dims[i]);
    (is_index_dim ? index_y_strides : walk.kept_y_strides).push_back(y_strides[i]);
  }
  walk.kept_x_strides = Pick(x.strides, plan.kept);
  ForEachOffset<1>(index_dims, {index_y_strides}, [&](const auto& at) {
    walk.tuples.push_back({0, at[0]});
  });
  for (int64_t dim : plan.indexed) {
    const TensorRef& index = indices[dim];
    Sizes strides = BroadcastStrides(index, index_dims);
    size_t position = 0;
    ForEachOffset<1>(index_dims, {strides}, [&](const auto& at) {
      int64_t element = CheckedIndex(index, at[0], x, dim, true);
      walk.tuples[position++][0] += element * x.strides[dim];
    });
  }
  return walk;
}

// Calls fn(offset in x, offset in x[indices]) for each element.
template <typename Fn>
void ForEachIndexed(const IndexWalk& walk, Fn&& fn) {
  for (const auto& [x_offset, y_offset] : walk.tuples) {
    ForEachOffset<2>(walk.kept_dims, {walk.kept_x_strides, walk.kept_y_strides},
                     [&, x_offset = x_offset, y_offset = y_offset](const auto& at) {
                       fn(x_offset + at[0], y_offset + at[1]);
                     });
  }
}

void ReferenceIndex(const Attrs&, std::span<const TensorRef> inputs, std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  IndexWalk walk = WalkIndex(x, inputs.subspan(1), y.dims, y.strides);
  DispatchSize(x.dtype, [&](auto element) {
    using T = decltype(element);
    ForEachIndexed(walk, [&](int64_t from, int64_t to) { Data<T>(y)[to] = Data<T>(x)[from]; });
  });
}

// ---- index_put: y = x, then y[indices] = values or y[indices] += values
std::vector<TensorType> InferIndexPut(const InferContext& context) {
  const TensorType &x = context.input(0), &values = context.input(1);
  if (values.dtype != x.dtype) {
    Reject("values are {}, expected {}", values.ToString(), DTypeName(x.dtype));
  }
  std::vector<const TensorType*> inputs = {&x};
  inputs.insert(inputs.end(), context.inputs.begin() + 2, context.inputs.end());
  Dims indexed = InferIndex({.inputs = inputs, .attrs = context.attrs})[0].dims;
  if (BroadcastDims(values.dims, indexed) != indexed) {
    Reject("values are {}, which do not broadcast to x[indices] of {}", values.ToString(),
           TensorType{.dtype = x.dtype, .dims = indexed, .order = {}}.ToString());
  }
  return OneOutput(x.dtype, x.dims);
}

// The dims of x[indices].
Sizes IndexedDims(const TensorRef& x, std::span<const TensorRef> indices) {
  IndexPlan plan = PlanIndex(static_cast<int>(x.dims.size()), [&](size_t i) {
    return i < indices.size() && indices[i].data != nullptr;
  });
  Dims broadcast;
  for (int64_t dim : plan.indexed) {
    broadcast = BroadcastDims(broadcast, Dims(indices[dim].dims.begin(), indices[dim].dims.end()));
  }
  Sizes dims = Pick(x.dims, plan.kept), index_dims = EvalDims(broadcast, {});
  dims.insert(dims.begin() + plan.num_before, index_dims.begin(), index_dims.end());
  return dims;
}

void ReferenceIndexPut(const Attrs& attrs, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  const TensorRef &values = inputs[1], &y = outputs[0];
  std::span<const TensorRef> indices = inputs.subspan(2);
  CopyTensor(inputs[0], y);
  Sizes dims = IndexedDims(y, indices), strides = BroadcastStrides(values, dims);
  IndexWalk walk = WalkIndex(y, indices, dims, strides);
  TensorRef dense_y = y;
  dense_y.strides = DenseStrides(y.dims);
  bool accumulate = attrs.GetBool("accumulate");
  IndexWalk dense = accumulate ? WalkIndex(dense_y, indices, dims, strides) : IndexWalk{};
  DispatchDType(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!accumulate) {
      ForEachIndexed(walk,
                     [&](int64_t to, int64_t from) { Data<T>(y)[to] = Data<T>(values)[from]; });
      return;
    }
    std::vector<Accumulator<T>> sums(y.num_elements());
    ForEachOffset<2>(y.dims, {y.strides, dense_y.strides},
                     [&](const auto& at) { sums[at[1]] = ToAccumulator(Data<T>(y)[at[0]]); });
    ForEachIndexed(dense, [&](int64_t to, int64_t from) {
      sums[to] = sums[to] + ToAccumulator(Data<T>(values)[from]);
    });
    ForEachOffset<2>(y.dims, {y.strides, dense_y.strides},
                     [&](const auto& at) { Data<T>(y)[at[0]] = scalar::CastTo<T>(sums[at[1]]); });
  });
}

// ---- concat
std::vector<TensorType> InferConcat(const InferContext& context) {
  RequireSameDType(context);
  const TensorType& first = context.input(0);
  int dim = GetAxis(context.attrs, "dim", first.rank());
  Dims dims = first.dims;
  dims[dim] = 0;
  for (const TensorType* input : context.inputs) {
    if (input == nullptr) Reject("an input is absent");
    bool fits = input->rank() == first.rank();
    for (int i = 0; fits && i < first.rank(); ++i) fits = i == dim || input->dims[i] == dims[i];
    if (!fits) {
      Reject("inputs are {} and {}, which do not join at dim {}", first.ToString(),
             input->ToString(), dim);
    }
    dims[dim] = dims[dim] + input->dims[dim];
  }
  return OneOutput(first.dtype, std::move(dims));
}

void ReferenceConcat(const Attrs& attrs, std::span<const TensorRef> inputs,
                     std::span<TensorRef> outputs) {
  int64_t dim = attrs.GetInt("dim"), start = 0;
  for (const TensorRef& input : inputs) {
    TensorRef part = outputs[0];
    part.dims = input.dims;
    part.data += start * part.strides[dim] * static_cast<int64_t>(DTypeSize(part.dtype));
    CopyTensor(input, part);
    start += input.dims[dim];
  }
}

// ---- pad
std::vector<TensorType> InferPad(const InferContext& context) {
  const TensorType& x = context.input(0);
  const Dims& pads = context.attrs.GetDims("pads");
  const std::string& mode = context.attrs.GetString("mode");
  if (mode != "constant" && mode != "reflect" && mode != "replicate") {
    Reject("mode is \"{}\", expected \"constant\", \"reflect\" or \"replicate\"", mode);
  }
  if (static_cast<int>(pads.size()) != 2 * x.rank()) {
    Reject("{} pads for x, which is {}: expected two per dim", pads.size(), x.ToString());
  }
  Dims dims = x.dims;
  for (int i = 0; i < x.rank(); ++i) {
    for (const Dim& pad : {pads[2 * i], pads[2 * i + 1]}) {
      if (mode == "constant" || !pad.is_static()) continue;
      bool fits = pad.value() >= 0;
      if (pad.value() > 0 && x.dims[i].is_static()) {
        fits = fits && (mode == "reflect" ? pad.value() < x.dims[i].value() : x.dims[i] != Dim(0));
      }
      if (!fits)
        Reject("pad {} of mode {} on a dim of {}", pad.ToString(), mode, x.dims[i].ToString());
    }
    dims[i] = x.dims[i] + pads[2 * i] + pads[2 * i + 1];
    if (dims[i].is_static() && dims[i].value() < 0) Reject("padded size {}", dims[i].ToString());
  }
  return OneOutput(x.dtype, std::move(dims));
}

void ReferencePad(const Attrs& attrs, std::span<const TensorRef> inputs,
                  std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  if (y.num_elements() == 0) return;
  Sizes pads = attrs.GetInts("pads");
  std::vector<Sizes> sources;
  for (size_t i = 0; i < x.dims.size(); ++i) {
    sources.push_back(PadSources(x.dims[i], pads[2 * i], y.dims[i], attrs.GetString("mode")));
  }
  Sizes dense = DenseStrides(y.dims);
  DispatchDType(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    T value = scalar::CastTo<T>(attrs.GetFloat("value"));
    ForEachOffset<2>(y.dims, {y.strides, dense}, [&](const auto& at) {
      int64_t offset = 0;
      bool inside = true;
      for (size_t i = 0; i < sources.size(); ++i) {
        int64_t source = sources[i][at[1] / dense[i] % y.dims[i]];
        inside = inside && source >= 0;
        offset += source * x.strides[i];
      }
      Data<T>(y)[at[0]] = inside ? Data<T>(x)[offset] : value;
    });
  });
}

// ---- flip
std::vector<TensorType> InferFlip(const InferContext& context) {
  GetAxes(context.attrs, "axes", context.input(0).rank());
  return OneOutput(context.input(0).dtype, context.input(0).dims);
}

void ReferenceFlip(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  TensorRef view = inputs[0];
  if (view.num_elements() == 0) return;
  for (int64_t axis : attrs.GetInts("axes")) {
    view.data +=
        (view.dims[axis] - 1) * view.strides[axis] * static_cast<int64_t>(DTypeSize(view.dtype));
    view.strides[axis] = -view.strides[axis];
  }
  CopyTensor(view, outputs[0]);
}

// ---- roll
std::vector<TensorType> InferRoll(const InferContext& context) {
  if (context.attrs.GetInts("shifts").size() != context.input(0).dims.size()) {
    Fail(ErrorKind::kInvalidArgument, "{} shifts of x of rank {}",
         context.attrs.GetInts("shifts").size(), context.input(0).dims.size());
  }
  return OneOutput(context.input(0).dtype, context.input(0).dims);
}

void ReferenceRoll(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  struct Part {
    TensorRef from, to;
  };
  if (inputs[0].num_elements() == 0) return;
  std::vector<Part> parts = {{inputs[0], outputs[0]}};
  std::vector<int64_t> shifts = attrs.GetInts("shifts");
  int64_t bytes = static_cast<int64_t>(DTypeSize(inputs[0].dtype));
  auto cut = [&](TensorRef tensor, size_t dim, int64_t start, int64_t size) {
    tensor.data += start * tensor.strides[dim] * bytes;
    tensor.dims[dim] = size;
    return tensor;
  };
  for (size_t dim = 0; dim < shifts.size(); ++dim) {
    int64_t size = inputs[0].dims[dim], shift = (shifts[dim] % size + size) % size;
    if (shift == 0) continue;
    std::vector<Part> halves;
    for (const Part& part : parts) {  // those that move up, and those that come round
      halves.push_back(
          {cut(part.from, dim, 0, size - shift), cut(part.to, dim, shift, size - shift)});
      halves.push_back({cut(part.from, dim, size - shift, shift), cut(part.to, dim, 0, shift)});
    }
    parts = std::move(halves);
  }
  for (const Part& part : parts) CopyTensor(part.from, part.to);
}

// ---- tril, triu: zeros above or below a diagonal of the last two dims
std::vector<TensorType> InferTriangle(const InferContext& context) {
  RequireRank(context.input(0), 2, "x");
  return OneOutput(context.input(0).dtype, context.input(0).dims);
}

template <bool upper>
void ReferenceTriangle(const Attrs& attrs, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  int64_t diagonal = attrs.GetInt("diagonal");
  Sizes difference(x.dims.size(), 0);  // as strides: column - row
  difference[x.dims.size() - 2] = -1;
  difference[x.dims.size() - 1] = 1;
  DispatchSize(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<3>(x.dims, {x.strides, y.strides, difference}, [&](const auto& at) {
      bool kept = upper ? at[2] >= diagonal : at[2] <= diagonal;
      Data<T>(y)[at[1]] = kept ? Data<T>(x)[at[0]] : T{0};
    });
  });
}

// ---- rows
constexpr AttrDef kDimAttr[] = {{"dim", AttrDef::kInt, true, "the dim that is indexed"}};
constexpr AttrDef kScatterAttrs[] = {
    {"dim", AttrDef::kInt, true, "the dim that is indexed"},
    {"reduce", AttrDef::kString, false,
     "\"sum\", \"prod\", \"mean\", \"amax\" or \"amin\" of src and x; absent: src takes x's place"},
    {"include_self", AttrDef::kBool, false, "false: x takes no part where src is written"},
};
constexpr AttrDef kIndexPutAttrs[] = {
    {"accumulate", AttrDef::kBool, true, "whether values are added to what is there"}};
constexpr AttrDef kConcatAttrs[] = {{"dim", AttrDef::kInt, true, "the dim that grows"}};
constexpr AttrDef kPadAttrs[] = {
    {"pads", AttrDef::kInts, true, "begin and end of dim 0, of dim 1, ..."},
    {"mode", AttrDef::kString, true,
     "\"constant\" (pads may be negative), \"reflect\", "
     "\"replicate\""},
    {"value", AttrDef::kFloat, true, "the constant"},
};
constexpr AttrDef kFlipAttrs[] = {{"axes", AttrDef::kInts, true, "the dims that are reversed"}};
constexpr AttrDef kRollAttrs[] = {
    {"shifts", AttrDef::kInts, true, "of each dim: how far its elements move up, and round"}};
constexpr AttrDef kTriangleAttrs[] = {
    {"diagonal", AttrDef::kInt, true, "0 is the main one, above it is positive"}};

constexpr OpSample kEmbeddingSamples[] = {
    {"_[7, 5], i64[2, 3]", "", 0, 7}, {"_[7, 1], i32[4]", "", 0, 7},  {"_[3, 5], i64[]", "", 0, 3},
    {"_[3, 5], i64[0, 2]", "", 0, 3}, {"_[1, 33], i64[1]", "", 0, 1},
};
constexpr OpSample kGatherSamples[] = {
    {"_[4, 5], i64[4, 3]", "{dim = 1}", 0, 5},
    {"_[4, 5], i64[6, 5]", "{dim = 0}", 0, 4},
    {"_[2, 3, 7], i64[1, 2, 9]", "{dim = 2}", 0, 7},
    {"_[5], i64[0]", "{dim = 0}", 0, 5},
    {"_[1], i64[3]", "{dim = 0}", 0, 1},
    {"_[4, 5], i32[4, 3]", "{dim = 1}", 0, 5},
};
constexpr OpSample kIndexSelectSamples[] = {
    {"_[4, 5], i64[3]", "{dim = 1}", 0, 5},    {"_[4, 5], i32[7]", "{dim = 0}", 0, 4},
    {"_[2, 3, 7], i64[2]", "{dim = 1}", 0, 3}, {"_[5], i64[0]", "{dim = 0}", 0, 5},
    {"_[1], i64[1]", "{dim = 0}", 0, 1},
};
constexpr OpSample kScatterSamples[] = {
    {"_[4, 5], i64[4, 3], _[4, 3]", "{dim = 1}", 0, 5},
    {"_[4, 5], i64[2, 5], _[3, 5]", "{dim = 0}", 0, 4},
    {"_[2, 3, 7], i64[1, 2, 9], _[1, 2, 9]", "{dim = 2}", 0, 7},
    {"_[5], i64[0], _[0]", "{dim = 0}", 0, 5},
    {"_[1], i64[1], _[1]", "{dim = 0}", 0, 1},
    {"_[4, 5], i64[4, 9], _[4, 9]", R"({dim = 1, reduce = "sum"})", 0, 5},
    {"_[4, 5], i64[6, 5], _[7, 5]", R"({dim = 0, reduce = "sum", include_self = false})", 0, 4},
    {"_[4, 5], i32[4, 9], _[4, 9]", R"({dim = 1, reduce = "prod"})", 0, 3},
    {"_[2, 3, 7], i64[1, 2, 9], _[1, 2, 9]", R"({dim = 2, reduce = "mean"})", 0, 4},
    {"_[4, 5], i64[4, 9], _[4, 9]", R"({dim = 1, reduce = "mean", include_self = false})", 0, 5},
    {"_[4, 5], i64[4, 9], _[4, 9]", R"({dim = 1, reduce = "amax"})", 0, 5},
    {"_[4, 5], i64[4, 9], _[4, 9]", R"({dim = 1, reduce = "amin", include_self = false})", 0, 5},
    {"_[0, 5], i64[0, 3], _[0, 3]", R"({dim = 1, reduce = "sum"})", 0, 5},
};
constexpr OpSample kIndexPutSamples[] = {
    {"_[4, 5, 6], _[4, 5, 6], i64[4]", "{accumulate = true}", -4, 4},
    {"_[4, 5, 6], _[6], i64[3], i64[2, 1]", "{accumulate = true}", -4, 4},
    {"_[4, 5, 6], _[], none, i64[2, 3]", "{accumulate = true}", -4, 4},
    {"_[4, 5], _[2, 5], i64[2], none", "{accumulate = true}", -4, 4},
    {"_[4, 5, 6], _[2, 3, 5], i64[3], none, i64[2, 1]", "{accumulate = true}", -4, 4},
    {"_[4, 5], _[], i64[], i64[]", "{accumulate = false}", -4, 4},
    {"_[4, 5], _[5], i32[1]", "{accumulate = false}", -4, 4},
    {"_[4, 5], _[0, 5], i64[0]", "{accumulate = false}", -4, 4},
    {"_[4, 0], _[3, 0], i64[3]", "{accumulate = true}", -4, 4},
};
constexpr OpSample kIndexSamples[] = {
    {"_[4, 5, 6], i64[3]", "", -4, 4},
    {"_[4, 5, 6], i64[3], i64[2, 1]", "", -4, 4},
    {"_[4, 5, 6], none, i64[2, 3]", "", -4, 4},
    {"_[4, 5, 6], i64[3], none, i64[2, 1]", "", -4, 4},
    {"_[4, 5, 6], none, i32[3], i32[3]", "", -4, 4},
    {"_[4, 5, 6, 7], none, i64[2], i64[1]", "", -4, 4},
    {"_[4, 5], i64[], i64[]", "", -4, 4},
    {"_[4, 5], i64[0]", "", -4, 4},
    {"_[4, 0], i64[3]", "", -4, 4},
    {"_[4, 5, 6], none, none, i64[3]", "", -4, 4},
};
constexpr OpSample kConcatSamples[] = {
    {"_[4, 5], _[4, 3]", "{dim = 1}"},       {"_[1, 5], _[3, 5], _[2, 5]", "{dim = 0}"},
    {"_[2, 3, 1], _[2, 0, 1]", "{dim = 1}"}, {"_[7]", "{dim = 0}"},
    {"_[0, 3], _[0, 2]", "{dim = 1}"},       {"_[1], _[0]", "{dim = 0}"},
};
constexpr OpSample kPadSamples[] = {
    {"_[3, 4]", R"({mode = "constant", pads = [1, 2, 0, 3], value = 2.0})"},
    {"_[3, 4]", R"({mode = "constant", pads = [-1, 0, 2, -2], value = 0.0})"},
    {"_[2, 3, 5, 4]", R"({mode = "reflect", pads = [0, 0, 0, 0, 2, 4, 3, 1], value = 0.0})"},
    {"_[2, 3, 5]", R"({mode = "replicate", pads = [0, 0, 0, 0, 2, 4], value = 0.0})"},
    {"_[1, 2, 3, 1]", R"({mode = "replicate", pads = [0, 0, 0, 0, 1, 0, 0, 7], value = 0.0})"},
    {"_[0, 2]", R"({mode = "constant", pads = [1, 1, 0, 1], value = 1.0})"},
    {"_[1]", R"({mode = "constant", pads = [0, 0], value = 1.0})"},
    {"_[3, 3]", R"({mode = "constant", pads = [1, 1, 1, 3], value = 9.0})"},
};
constexpr OpSample kFlipSamples[] = {
    {"_[4, 5]", "{axes = [1]}"}, {"_[2, 3, 7]", "{axes = [0, 2]}"}, {"_[4, 5]", "{axes = []}"},
    {"_[0, 3]", "{axes = [0]}"}, {"_[1]", "{axes = [0]}"},          {"_[5, 5]", "{axes = [1, 0]}"},
};
constexpr OpSample kRollSamples[] = {
    {"_[3, 5]", "{shifts = [0, 2]}"},        {"_[2, 3, 7]", "{shifts = [1, -1, 0]}"},
    {"_[4, 16]", "{shifts = [-5, 0]}"},      {"_[0, 3]", "{shifts = [1, 1]}"},
    {"_[2, 9, 16]", "{shifts = [0, 3, 0]}"}, {"_[1]", "{shifts = [3]}"},
};
constexpr OpSample kTriangleSamples[] = {
    {"_[4, 5]", "{diagonal = 0}"}, {"_[2, 5, 3]", "{diagonal = 1}"}, {"_[4, 4]", "{diagonal = -2}"},
    {"_[0, 3]", "{diagonal = 0}"}, {"_[1, 1]", "{diagonal = 1}"},    {"_[1, 7]", "{diagonal = 9}"},
};

OpDef MakeRow(int id, std::string_view name, int min_inputs, int max_inputs, TypeRule infer,
              ReferenceFn reference, std::span<const AttrDef> attrs,
              std::span<const OpSample> samples, std::string_view torch, std::string_view doc) {
  return {.id = id,
          .name = name,
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .attrs = attrs,
          .infer = infer,
          .reference = reference,
          .samples = samples,
          .torch = torch,
          .doc = doc};
}

OpDef WithTraits(OpDef op, uint32_t traits) {
  op.traits = traits;
  return op;
}

const OpDef kRows[] = {
    WithTraits(
        MakeRow(600, "embedding", 2, 2, InferEmbedding, ReferenceEmbedding, {}, kEmbeddingSamples,
                "torch.nn.functional.embedding(x[1], x[0])", "rows of weight[V, D] at indices"),
        kStructured),
    WithTraits(MakeRow(601, "gather", 2, 2, InferGather, ReferenceGather, kDimAttr, kGatherSamples,
                       "torch.gather(x[0], a['dim'], x[1])",
                       "y[.., i, ..] = x[.., index[.., i, ..], ..] along one dim"),
               kStructured),
    MakeRow(
        602, "index", 1, -1, InferIndex, ReferenceIndex, {}, kIndexSamples,
        "torch.ops.aten.index(x[0], [i if i is None else i.long() for i in x[1:]])",
        "advanced indexing: one index or none per leading dim; indices broadcast, negative ones "
        "count from the end"),
    WithTraits(MakeRow(603, "index_select", 2, 2, InferIndexSelect, ReferenceIndexSelect, kDimAttr,
                       kIndexSelectSamples, "torch.index_select(x[0], a['dim'], x[1])",
                       "the slices of one dim at index[N]"),
               kStructured),
    MakeRow(604, "scatter", 3, 3, InferScatter, ReferenceScatter, kScatterAttrs, kScatterSamples,
            "(lambda i: torch.scatter(x[0], a['dim'], i, x[2]) if 'reduce' not in a else "
            "torch.scatter_reduce(x[0], a['dim'], i, x[2], a['reduce'], "
            "include_self=a.get('include_self', True)))(x[1].long())",
            "x with src written at index along one dim, or joined with what is there; of equal "
            "indices the last one wins"),
    MakeRow(605, "concat", 1, -1, InferConcat, ReferenceConcat, kConcatAttrs, kConcatSamples,
            "torch.cat(x, a['dim'])", "the inputs one after the other along one dim"),
    MakeRow(606, "pad", 1, 1, InferPad, ReferencePad, kPadAttrs, kPadSamples,
            "(lambda p, n, c: torch.nn.functional.pad(x[0], p[:2 * (n if c or any(p[2 * n - 2:]) "
            "else n - 1 if n == 2 or any(p[2 * n - 4:2 * n - 2]) else n - 2)], a['mode'], "
            "a['value'] if c else None))([p for d in reversed(range(x[0].dim())) for p in "
            "a['pads'][2 * d:2 * d + 2]], x[0].dim(), a['mode'] == 'constant')",
            "x with a border of a constant, of its mirror image or of its edge"),
    MakeRow(607, "flip", 1, 1, InferFlip, ReferenceFlip, kFlipAttrs, kFlipSamples,
            "torch.flip(x[0], a['axes'])", "x with some dims reversed"),
    MakeRow(614, "roll", 1, 1, InferRoll, ReferenceRoll, kRollAttrs, kRollSamples,
            "torch.roll(x[0], a['shifts'], list(range(x[0].dim())))",
            "x with the elements of some dims moved round"),
    MakeRow(608, "tril", 1, 1, InferTriangle, ReferenceTriangle<false>, kTriangleAttrs,
            kTriangleSamples, "torch.tril(x[0], a['diagonal'])",
            "zeros above a diagonal of the last two dims"),
    MakeRow(609, "triu", 1, 1, InferTriangle, ReferenceTriangle<true>, kTriangleAttrs,
            kTriangleSamples, "torch.triu(x[0], a['diagonal'])",
            "zeros below a diagonal of the last two dims"),
    MakeRow(610, "index_put", 3, -1, InferIndexPut, ReferenceIndexPut, kIndexPutAttrs,
            kIndexPutSamples,
            "torch.ops.aten.index_put(x[0], [i if i is None else i.long() for i in x[2:]], x[1], "
            "a['accumulate'])",
            "x with values, which broadcast, written or added where index reads; of equal indices "
            "the last one wins"),
};

}  // namespace

std::optional<Reduce> FindReduce(const Attrs& attrs) {
  constexpr std::string_view kNames[] = {"none", "sum", "prod", "mean", "amax", "amin"};
  const Attr* name = attrs.Find("reduce");
  if (name == nullptr) return Reduce::kNone;
  auto it = std::find(std::begin(kNames), std::end(kNames), std::get<std::string>(*name));
  if (it == std::end(kNames)) return std::nullopt;
  return static_cast<Reduce>(it - std::begin(kNames));
}

Sizes PadSources(int64_t size, int64_t begin, int64_t padded, const std::string& mode) {
  Sizes sources(padded);
  for (int64_t i = 0; i < padded; ++i) {
    int64_t source = i - begin;
    if (mode == "replicate") source = std::clamp<int64_t>(source, 0, size - 1);
    if (mode == "reflect" && source < 0) source = -source;
    if (mode == "reflect" && source >= size) source = 2 * (size - 1) - source;
    bool inside = source >= 0 && source < size;
    if (!inside && mode != "constant") Reject("pad exceeds a dim of {}", size);
    sources[i] = inside ? source : -1;
  }
  return sources;
}

std::span<const OpDef> IndexRows() { return kRows; }

}  // namespace stator
