#include "ops/window.h"

#include <algorithm>

namespace stator {

std::vector<int64_t> GetWindow(const Attrs& attrs, std::string_view name, int count, int64_t min) {
  const Dims& dims = attrs.GetDims(name);
  bool fits = static_cast<int>(dims.size()) == count;
  for (const Dim& dim : dims) fits = fits && dim.is_static() && dim.value() >= min;
  if (!fits) {
    Reject("{} is {}, expected {} integers of at least {}", name, DimsToString(dims), count, min);
  }
  return attrs.GetInts(name);
}

Dim WindowOutputSize(const Dim& size, const Dim& kernel, int64_t stride, int64_t padding,
                     int64_t dilation, bool ceil_mode) {
  Dim span = size + 2 * padding - dilation * (kernel - 1) - 1;
  Dim output = FloorDiv(ceil_mode ? span + (stride - 1) : span, stride) + 1;
  // The last window must start inside: (output - 1) * stride < size + padding.
  if (ceil_mode) output = Min(output, FloorDiv(size + padding - 1, stride) + 1);
  if (output.is_static() && output.value() < 1) {
    Reject("a window of {} does not fit size {} with padding {}", kernel.ToString(),
           size.ToString(), padding);
  }
  return output;
}

Triple MakeTriple(std::span<const int64_t> values, int64_t fill) {
  Triple triple;
  triple.fill(fill);
  std::copy(values.begin(), values.end(), triple.end() - values.size());
  return triple;
}

SpatialView MakeSpatialView(const TensorRef& tensor) {
  return {.outer = tensor.dims[0],
          .inner = tensor.dims[1],
          .outer_stride = tensor.strides[0],
          .inner_stride = tensor.strides[1],
          .dims = MakeTriple(std::span(tensor.dims).subspan(2), 1),
          .strides = MakeTriple(std::span(tensor.strides).subspan(2), 0)};
}

}  // namespace stator
