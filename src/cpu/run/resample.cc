// PrepareResample: the taps of each spatial dim, made once; then rows in parallel.
#include "cpu/run/resample.h"

#include <algorithm>

#include "cpu/run/one_node.h"
#include "cpu/run/task_step.h"
#include "cpu/simd/resample_kernels.h"

namespace stator {
namespace {

// Lays the taps along the width out by tap, if all outputs have as many.
void TransposeWidthTaps(ResampleShape& shape) {
  const ResampleTaps& taps = shape.taps[2];
  int64_t width = shape.y.dims[2], count = taps.begin[1];
  for (int64_t i = 0; i < width; ++i) {
    if (taps.begin[i + 1] != (i + 1) * count) return;
  }
  shape.num_width_taps = count;
  for (int64_t k = 0; k < count; ++k) {
    for (int64_t i = 0; i < width; ++i) {
      shape.width_index.push_back(static_cast<int32_t>(taps.index[i * count + k]));
      shape.width_weight.push_back(static_cast<float>(taps.weight[i * count + k]));
    }
  }
}

}  // namespace

std::unique_ptr<PreparedStep> PrepareResample(const StepSite& site) {
  std::optional<OneNode> one = FindOneNode(site.body, {"resample"});
  const TensorRef &x = site.inputs[0], &y = site.outputs[0];
  constexpr int64_t kMaxWidth = int64_t{1} << 30;  // indices along the width have 32 bits
  bool is_fast = one && x.dtype != DType::kFloat64 && y.num_elements() > 0;
  if (!is_fast || x.dims.back() > kMaxWidth) return PrepareReference(site);
  ResampleShape shape{.dtype = x.dtype, .x = MakeSpatialView(x), .y = MakeSpatialView(y)};
  int num_spatial = x.rank() - 2;
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    int dim = i - (kMaxSpatialDims - num_spatial);
    shape.taps[i] = dim < 0 ? ResampleTaps{.begin = {0, 1}, .index = {0}, .weight = {1}}
                            : MakeResampleTaps(one->node->attrs, dim, num_spatial, shape.x.dims[i],
                                               shape.y.dims[i], false);
  }
  TransposeWidthTaps(shape);
  return std::make_unique<TaskStep<ResampleShape, ResampleKernel>>(std::move(shape),
                                                                   GetResampleKernel());
}

}  // namespace stator
