// PreparePool: max_pool, avg_pool and the adaptive ones over floats; resampling by steps of its
// own.
//
// In:  a body of one pooling node. Out: a step that knows the window of each output position. The
// rest (max_pool_indices, f64) goes to the reference kernels.
#include <algorithm>

#include "cpu/run/grid_sample.h"
#include "cpu/run/one_node.h"
#include "cpu/run/resample.h"
#include "cpu/run/step.h"
#include "cpu/run/task_step.h"
#include "cpu/simd/pool_kernels.h"

namespace stator {
namespace {

// Windows of `kernel` elements, `step` apart, that start every `stride` elements from -padding.
std::vector<PoolWindow> SlidingWindows(int64_t outputs, int64_t size, int64_t kernel,
                                       int64_t stride, int64_t padding, int64_t step,
                                       bool include_padding) {
  std::vector<PoolWindow> windows;
  for (int64_t i = 0; i < outputs; ++i) {
    int64_t begin = i * stride - padding;
    int64_t skipped = begin < 0 ? (-begin + step - 1) / step : 0;
    int64_t first = begin + skipped * step;
    int64_t inside = first < size ? (size - first + step - 1) / step : 0;
    int64_t count = std::clamp<int64_t>(kernel - skipped, 0, inside);
    int64_t extent = include_padding ? std::min(kernel, size + padding - begin) : count;
    windows.push_back({.first = count > 0 ? first : 0, .count = count, .extent = extent});
  }
  return windows;
}

// Windows [floor(i * size / outputs), ceil((i + 1) * size / outputs)).
std::vector<PoolWindow> AdaptiveWindows(int64_t outputs, int64_t size) {
  std::vector<PoolWindow> windows;
  for (int64_t i = 0; i < outputs; ++i) {
    int64_t first = i * size / outputs, end = ((i + 1) * size + outputs - 1) / outputs;
    windows.push_back({.first = first, .count = end - first, .extent = end - first});
  }
  return windows;
}

void FillSliding(const Attrs& attrs, PoolShape& shape) {
  Triple kernel = MakeTriple(attrs.GetInts("kernel"), 1);
  Triple stride = MakeTriple(attrs.GetInts("stride"), 1);
  Triple padding = MakeTriple(attrs.GetInts("padding"), 0);
  if (shape.is_max) shape.step = MakeTriple(attrs.GetInts("dilation"), 1);
  bool include_padding = !shape.is_max && attrs.GetBool("count_include_pad");
  if (!shape.is_max) shape.divisor = static_cast<float>(attrs.GetInt("divisor_override"));
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    shape.windows[i] = SlidingWindows(shape.y.dims[i], shape.x.dims[i], kernel[i], stride[i],
                                      padding[i], shape.step[i], include_padding);
  }
  shape.width_padding = padding[2];
  shape.width_count = kernel[2];
  shape.width_stride = stride[2];
}

void FillAdaptive(PoolShape& shape) {
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    shape.windows[i] = AdaptiveWindows(shape.y.dims[i], shape.x.dims[i]);
  }
}

// Takes spatial dims that lie densely, and that the only window covers whole, as one along the
// width.
void MergeWholeDims(PoolShape& shape) {
  auto is_whole = [&](int i) {
    return shape.windows[i].size() == 1 && shape.windows[i][0].count == shape.x.dims[i];
  };
  for (int i : {1, 0}) {
    bool dense = shape.x.strides[i] == shape.x.dims[2] * shape.x.strides[2];
    if (shape.x.dims[i] == 1 || !is_whole(i) || !is_whole(2) || !dense) continue;
    if (shape.step[i] != 1 || shape.step[2] != 1) continue;
    shape.x.dims[2] *= shape.x.dims[i];
    shape.x.dims[i] = 1;
    shape.windows[2][0].count = shape.x.dims[2];
    shape.windows[2][0].extent *= shape.windows[i][0].extent;
    shape.windows[i][0] = {.first = 0, .count = 1, .extent = 1};
    shape.width_padding = shape.width_count = 0;
  }
}

}  // namespace

std::unique_ptr<PreparedStep> PreparePool(const StepSite& site) {
  if (FindOneNode(site.body, {"resample"})) return PrepareResample(site);
  if (FindOneNode(site.body, {"grid_sample"})) return PrepareGridSample(site);
  std::optional<OneNode> one =
      FindOneNode(site.body, {"max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"});
  if (!one || site.inputs[0].dtype == DType::kFloat64) return PrepareReference(site);
  PoolShape shape{.is_max = one->node->op->name.ends_with("max_pool"),
                  .dtype = site.inputs[0].dtype,
                  .x = MakeSpatialView(site.inputs[0]),
                  .y = MakeSpatialView(site.outputs[0])};
  if (one->node->op->name.starts_with("adaptive")) {
    FillAdaptive(shape);
  } else {
    FillSliding(one->node->attrs, shape);
  }
  MergeWholeDims(shape);
  return std::make_unique<TaskStep<PoolShape, PoolKernel>>(std::move(shape), GetPoolKernel());
}

}  // namespace stator
