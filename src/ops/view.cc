// Views: each output element is one input element, found by a change of strides where they allow
// it.
#include <algorithm>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// ---- reshape
std::vector<TensorType> InferReshape(const InferContext& context) {
  const TensorType& x = context.input(0);
  const Dims& dims = context.attrs.GetDims("dims");
  for (const Dim& dim : dims) {
    if (dim.is_static() && dim.value() < 0)
      Reject("dims {} has a negative size", DimsToString(dims));
  }
  if (NumElements(dims) != x.num_elements()) {
    Reject("x is {}, which does not reshape to {}", x.ToString(), DimsToString(dims));
  }
  return OneOutput(x.dtype, dims);
}

// Both sides in row-major order of their index: the input is walked as if it were dense.
void ReferenceReshape(const Attrs&, std::span<const TensorRef> inputs,
                      std::span<TensorRef> outputs) {
  HostTensor dense = MakeHostTensor(inputs[0].dtype, inputs[0].dims);
  CopyTensor(inputs[0], dense.ref);
  dense.ref.dims = outputs[0].dims;
  dense.ref.strides = DenseStrides(dense.ref.dims);
  CopyTensor(dense.ref, outputs[0]);
}

// ---- permute
std::vector<TensorType> InferPermute(const InferContext& context) {
  const TensorType& x = context.input(0);
  std::vector<int64_t> perm = GetAxes(context.attrs, "perm", x.rank());
  if (static_cast<int>(perm.size()) != x.rank()) {
    Reject("x is {}, but perm has {} entries", x.ToString(), perm.size());
  }
  Dims dims;
  for (int64_t dim : perm) dims.push_back(x.dims[dim]);
  return OneOutput(x.dtype, dims);
}

void ReferencePermute(const Attrs& attrs, std::span<const TensorRef> inputs,
                      std::span<TensorRef> outputs) {
  Sizes perm = attrs.GetInts("perm");
  TensorRef view = inputs[0];
  view.dims = Pick(inputs[0].dims, perm);
  view.strides = Pick(inputs[0].strides, perm);
  CopyTensor(view, outputs[0]);
}

// ---- expand
std::vector<TensorType> InferExpand(const InferContext& context) {
  const TensorType& x = context.input(0);
  const Dims& dims = context.attrs.GetDims("dims");
  bool fits = dims.size() >= x.dims.size();
  for (size_t i = 0; fits && i < x.dims.size(); ++i) {
    fits = x.dims[i] == Dim(1) || x.dims[i] == dims[dims.size() - x.dims.size() + i];
  }
  if (!fits) Reject("x is {}, which does not expand to {}", x.ToString(), DimsToString(dims));
  return OneOutput(x.dtype, dims);
}

void ReferenceExpand(const Attrs&, std::span<const TensorRef> inputs,
                     std::span<TensorRef> outputs) {
  TensorRef view = inputs[0];
  view.strides = BroadcastStrides(inputs[0], outputs[0].dims);
  view.dims = outputs[0].dims;
  CopyTensor(view, outputs[0]);
}

// ---- slice
std::vector<TensorType> InferSlice(const InferContext& context) {
  const TensorType& x = context.input(0);
  int dim = GetAxis(context.attrs, "dim", x.rank());
  Dim start = context.attrs.GetDim("start"), end = context.attrs.GetDim("end");
  Dim step = context.attrs.GetDim("step");
  if (!step.is_static() || step.value() < 1) Reject("step {} is below 1", step.ToString());
  auto check = [&](const Dim& low, const Dim& high) {
    if (low.is_static() && high.is_static() && low.value() > high.value()) {
      Reject("x is {}, but the slice of dim {} is [{}, {})", x.ToString(), dim, start.ToString(),
             end.ToString());
    }
  };
  check(0, start);
  check(start, end);
  check(end, x.dims[dim]);
  Dims dims = x.dims;
  dims[dim] = FloorDiv(end - start + step - 1, step);
  return OneOutput(x.dtype, dims);
}

void ReferenceSlice(const Attrs& attrs, std::span<const TensorRef> inputs,
                    std::span<TensorRef> outputs) {
  int64_t dim = attrs.GetInt("dim"), start = attrs.GetInt("start"), end = attrs.GetInt("end");
  TensorRef view = inputs[0];
  if (start < 0 || start > end || end > view.dims[dim]) {  // symbolic until now
    Reject("slice [{}, {}) of a dim of {}", start, end, view.dims[dim]);
  }
  view.data += start * view.strides[dim] * static_cast<int64_t>(DTypeSize(view.dtype));
  view.strides[dim] *= attrs.GetInt("step");
  view.dims[dim] = outputs[0].dims[dim];
  CopyTensor(view, outputs[0]);
}

constexpr AttrDef kDimsAttr[] = {{"dims", AttrDef::kInts, true, "sizes of the result"}};
constexpr AttrDef kPermAttr[] = {
    {"perm", AttrDef::kInts, true, "for each dim of the result, the dim of x it is"}};
constexpr AttrDef kSliceAttrs[] = {
    {"dim", AttrDef::kInt, true, "the dim that is cut"},
    {"start", AttrDef::kInt, true, "first index taken; 0 <= start <= end"},
    {"end", AttrDef::kInt, true, "one past the last index; end <= size"},
    {"step", AttrDef::kInt, true, "distance between indices; >= 1"},
};

constexpr OpSample kReshapeSamples[] = {
    {"_[2, 6]", "{dims = [3, 4]}"}, {"_[0, 3]", "{dims = [3, 0, 2]}"},
    {"_[1]", "{dims = []}"},        {"_[]", "{dims = [1, 1]}"},
    {"_[5, 7]", "{dims = [35]}"},   {"_[2, 3, 5]", "{dims = [2, 5, 3]}"},
};
constexpr OpSample kPermuteSamples[] = {
    {"_[2, 3, 5]", "{perm = [2, 0, 1]}"},
    {"_[0, 3]", "{perm = [1, 0]}"},
    {"_[]", "{perm = []}"},
    {"_[1, 7]", "{perm = [0, 1]}"},
    {"_[2, 3, 5, 7]", "{perm = [0, 2, 3, 1]}"},
};
constexpr OpSample kExpandSamples[] = {
    {"_[3, 1]", "{dims = [2, 3, 4]}"},
    {"_[]", "{dims = [2, 1]}"},
    {"_[1, 5]", "{dims = [0, 5]}"},
    {"_[3]", "{dims = [3]}"},
};
constexpr OpSample kSliceSamples[] = {
    {"_[5, 3]", "{dim = 0, start = 1, end = 4, step = 1}"},
    {"_[5, 3]", "{dim = 1, start = 0, end = 3, step = 2}"},
    {"_[7]", "{dim = 0, start = 2, end = 7, step = 3}"},
    {"_[2, 5]", "{dim = 1, start = 3, end = 3, step = 1}"},
    {"_[0, 5]", "{dim = 0, start = 0, end = 0, step = 1}"},
    {"_[1, 1]", "{dim = 0, start = 0, end = 1, step = 1}"},
};

const OpDef kRows[] = {
    {.id = 50,
     .name = "reshape",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kDimsAttr,
     .infer = InferReshape,
     .traits = kView,
     .reference = ReferenceReshape,
     .samples = kReshapeSamples,
     .torch = "x[0].reshape(a['dims'])",
     .doc = "the same elements, in row-major order, with other sizes"},
    {.id = 51,
     .name = "permute",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kPermAttr,
     .infer = InferPermute,
     .traits = kView,
     .reference = ReferencePermute,
     .samples = kPermuteSamples,
     .torch = "x[0].permute(a['perm'])",
     .doc = "dims in another order: dim i of the result is dim perm[i] of x"},
    {.id = 52,
     .name = "expand",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kDimsAttr,
     .infer = InferExpand,
     .traits = kView,
     .reference = ReferenceExpand,
     .samples = kExpandSamples,
     .torch = "x[0].expand(a['dims'])",
     .doc = "x repeated along dims of size 1 and along new leading dims"},
    {.id = 53,
     .name = "slice",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kSliceAttrs,
     .infer = InferSlice,
     .traits = kView,
     .reference = ReferenceSlice,
     .samples = kSliceSamples,
     .torch = "x[0].narrow(a['dim'], a['start'], a['end'] - a['start'])"
              "[(slice(None),) * a['dim'] + (slice(None, None, a['step']),)]",
     .doc = "every step-th index of one dim from start until end"},
};

}  // namespace

std::span<const OpDef> ViewRows() { return kRows; }

}  // namespace stator
