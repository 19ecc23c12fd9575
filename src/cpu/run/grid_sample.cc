// PrepareGridSample: the taps of a block of points are found once and serve all channels.
#include "cpu/run/grid_sample.h"

#include <algorithm>

#include "cpu/run/one_node.h"
#include "cpu/run/parallel.h"
#include "cpu/simd/resample_kernels.h"
#include "ops/grid_sample.h"

namespace stator {
namespace {

constexpr int64_t kBlock = 128;  // points; their taps take 16 KiB at most

class GridSampleStep final : public PreparedStep {
 public:
  GridSampleStep(const StepSite& site, const OneNode& one, GridSampling sampling)
      : x_operand_(one.operands[0]),
        grid_operand_(one.operands[1]),
        sampling_(sampling),
        grid_(site.inputs[grid_operand_]),
        x_(MakeSpatialView(site.inputs[x_operand_])),
        y_(MakeSpatialView(site.outputs[0])),
        num_points_(y_.dims[0] * y_.dims[1] * y_.dims[2]),
        num_blocks_((num_points_ + kBlock - 1) / kBlock),
        gather_(GetGatherSum()) {}

  void Run(const StepArgs& args) const override {
    ParallelFor(y_.outer * num_blocks_, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        RunBlock(args, task / num_blocks_, task % num_blocks_ * kBlock);
      }
    });
  }

 private:
  void RunBlock(const StepArgs& args, int64_t n, int64_t first) const {
    int32_t index[kMaxGridTaps * kBlock];
    float weight[kMaxGridTaps * kBlock], sums[kBlock];
    int64_t to[kBlock];
    int64_t count = std::min(kBlock, num_points_ - first);
    auto* grid = reinterpret_cast<const float*>(args.inputs[grid_operand_]);
    GridTaps<float> taps;
    for (int64_t i = 0; i < count; ++i) {
      int64_t point = first + i;
      Triple out = {point / (y_.dims[1] * y_.dims[2]), point / y_.dims[2] % y_.dims[1],
                    point % y_.dims[2]};
      float coordinates[kMaxSpatialDims];
      int64_t offset = n * grid_.strides[0];
      for (int k = 0; k < sampling_.num_spatial; ++k) {
        offset += out[kMaxSpatialDims - sampling_.num_spatial + k] * grid_.strides[1 + k];
      }
      for (int k = 0; k < sampling_.num_spatial; ++k) {
        coordinates[k] = grid[offset + k * grid_.strides.back()];
      }
      FindGridTaps(sampling_, coordinates, taps);
      for (int k = 0; k < sampling_.num_taps(); ++k) {
        bool outside = taps.at[k][0] < 0;
        index[k * count + i] = outside ? -1 : static_cast<int32_t>(x_.OffsetOf(0, 0, taps.at[k]));
        weight[k * count + i] = taps.weight[k];
      }
      to[i] = y_.OffsetOf(n, 0, out);
    }
    auto* x = reinterpret_cast<const float*>(args.inputs[x_operand_]) + n * x_.outer_stride;
    auto* y = reinterpret_cast<float*>(args.outputs[0]);
    for (int64_t c = 0; c < y_.inner; ++c) {
      gather_(x + c * x_.inner_stride, index, weight, sampling_.num_taps(), count, sums);
      for (int64_t i = 0; i < count; ++i) y[to[i] + c * y_.inner_stride] = sums[i];
    }
  }

  int x_operand_, grid_operand_;
  GridSampling sampling_;
  TensorRef grid_;
  SpatialView x_, y_;
  int64_t num_points_, num_blocks_;
  GatherSum gather_;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareGridSample(const StepSite& site) {
  std::optional<OneNode> one = FindOneNode(site.body, {"grid_sample"});
  if (!one || site.inputs[0].dtype != DType::kFloat32) return PrepareReference(site);
  const TensorRef& x = site.inputs[one->operands[0]];
  GridSampling sampling = *FindGridSampling(one->node->attrs, x.rank() - 2);
  SpatialView view = MakeSpatialView(x);
  sampling.size = view.dims;
  int64_t reach = 0;
  for (int i = 0; i < kMaxSpatialDims; ++i) reach += (view.dims[i] - 1) * view.strides[i];
  if (reach > INT32_MAX) return PrepareReference(site);
  return std::make_unique<GridSampleStep>(site, *one, sampling);
}

}  // namespace stator
