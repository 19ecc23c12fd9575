// FindView: view nodes as strided windows.

#include <algorithm>

#include "base/error.h"
#include "compile/place.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// Strides of `dims` over memory laid out as (old_dims, old_strides), or empty. Dims of size 1 do
// not matter; the others are merged into dense runs, and each run must be covered by whole new
// dims.
std::optional<Dims> FindReshapeStrides(const Dims& old_dims, const Dims& old_strides,
                                       const Dims& dims) {
  struct Run {
    Dim size, stride;  // elements, and the stride of the innermost
  };
  std::vector<Run> runs;
  for (size_t i = 0; i < old_dims.size(); ++i) {
    if (old_dims[i] == Dim(1)) continue;
    bool dense = !runs.empty() && runs.back().stride == old_dims[i] * old_strides[i];
    if (dense) {
      runs.back() = {runs.back().size * old_dims[i], old_strides[i]};
    } else {
      runs.push_back({old_dims[i], old_strides[i]});
    }
  }
  Dims strides(dims.size(), Dim(1));
  size_t i = dims.size();
  for (size_t r = runs.size(); r-- > 0;) {
    Dim covered = 1;
    while (!(covered == runs[r].size)) {
      if (i == 0) return std::nullopt;
      --i;
      strides[i] = runs[r].stride * covered;
      covered = covered * dims[i];
      bool too_far =
          covered.is_static() && runs[r].size.is_static() && covered.value() > runs[r].size.value();
      if (too_far) return std::nullopt;
    }
  }
  while (i-- > 0) {
    if (!(dims[i] == Dim(1))) return std::nullopt;
  }
  return strides;
}

}  // namespace

std::optional<PlanTensor> FindView(const Node& view, const TensorType& type,
                                   const PlanTensor& input) {
  PlanTensor window = input;
  window.dims = type.dims;
  if (view.op->name == "permute") {
    std::vector<int64_t> perm = view.attrs.GetInts("perm");
    for (size_t i = 0; i < perm.size(); ++i) window.strides[i] = input.strides[perm[i]];
  } else if (view.op->name == "expand") {
    size_t added = type.dims.size() - input.dims.size();
    window.strides.assign(type.dims.size(), Dim(0));
    for (size_t i = 0; i < input.dims.size(); ++i) {
      if (input.dims[i] == type.dims[i + added]) window.strides[i + added] = input.strides[i];
    }
  } else if (view.op->name == "slice") {
    size_t dim = view.attrs.GetInt("dim");
    window.offset = input.offset + view.attrs.GetDim("start") * input.strides[dim];
    window.strides[dim] = input.strides[dim] * view.attrs.GetDim("step");
  } else if (view.op->name == "reshape") {
    bool empty = std::any_of(type.dims.begin(), type.dims.end(),
                             [](const Dim& dim) { return dim == Dim(0); });
    std::optional<Dims> strides = empty ? ContiguousStrides(type.dims)
                                        : FindReshapeStrides(input.dims, input.strides, type.dims);
    if (!strides) return std::nullopt;
    window.strides = *strides;
  } else {
    return std::nullopt;
  }
  return window;
}

}  // namespace stator
