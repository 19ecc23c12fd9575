// Resampling of floats, compiled per SIMD target.
//
// A task is a row of output positions: of the channels way for all channels, else of one channel.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/resample_kernels.cc"
#include <algorithm>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/resample_kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {
namespace resample {

constexpr int64_t kWidth = kLanes;

bool ByChannels(const ResampleShape& shape) {
  return shape.x.inner_stride <= shape.x.strides[2] && shape.y.inner > 1;
}

int64_t RoundUp(int64_t n) { return (n + 15) / 16 * 16; }

// to[i] = weight * from[i], or that added to to[i].
void Accumulate(const float* from, float weight, int64_t n, bool first, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    F x = Load(from + i);
    Store(first ? x * F(weight) : mul_add(x, weight, Load(to + i)), to + i);
  }
  if (i == n) return;
  F x = LoadFirst(from + i, n - i);
  StoreFirst(first ? x * F(weight) : mul_add(x, weight, LoadFirst(to + i, n - i)), to + i, n - i);
}

class Resample {
 public:
  Resample(const ResampleShape& shape, const std::byte* x, std::byte* y, float* ws)
      : shape_(shape),
        x_(x),
        y_(y),
        size_(static_cast<int64_t>(DTypeSize(shape.dtype))),
        load_(FindLoad(shape.dtype)),
        store_(FindStore(shape.dtype)),
        buffer_(ws),
        sums_(ws + BufferFloats(shape)),
        row_(sums_ + BufferFloats(shape)) {}

  static int64_t BufferFloats(const ResampleShape& shape) {
    return RoundUp(ByChannels(shape) ? shape.y.inner : shape.x.dims[2]);
  }
  static int64_t RowFloats(const ResampleShape& shape) {
    return ByChannels(shape) ? 0 : RoundUp(shape.y.dims[2]);
  }

  // One row of output positions (n, depth, height), all channels of each.
  void RunChannels(int64_t n, int64_t depth, int64_t height) {
    int64_t channels = shape_.y.inner;
    for (int64_t w = 0; w < shape_.y.dims[2]; ++w) {
      std::byte* to = y_ + shape_.y.OffsetOf(n, 0, {depth, height, w}) * size_;
      bool in_place = shape_.dtype == DType::kFloat32 && shape_.y.inner_stride == 1;
      float* sums = in_place ? reinterpret_cast<float*>(to) : sums_;
      bool first = true;
      ForEachTap(0, depth, [&](int64_t d, float d_weight) {
        ForEachTap(1, height, [&](int64_t h, float h_weight) {
          ForEachTap(2, w, [&](int64_t i, float w_weight) {
            const std::byte* from = x_ + shape_.x.OffsetOf(n, 0, {d, h, i}) * size_;
            Accumulate(Get(from, shape_.x.inner_stride, channels), d_weight * h_weight * w_weight,
                       channels, first, sums);
            first = false;
          });
        });
      });
      if (!in_place) store_(to, sums, shape_.y.inner_stride, channels);
    }
  }

  // One row of output positions (n, channel, depth, height).
  void RunRow(int64_t n, int64_t channel, int64_t depth, int64_t height) {
    int64_t width = shape_.x.dims[2];
    const float* summed = sums_;
    bool first = true;
    bool is_copy = NumTaps(0, depth) == 1 && NumTaps(1, height) == 1;
    ForEachTap(0, depth, [&](int64_t d, float d_weight) {
      ForEachTap(1, height, [&](int64_t h, float h_weight) {
        const std::byte* from = x_ + shape_.x.OffsetOf(n, channel, {d, h, 0}) * size_;
        const float* row = Get(from, shape_.x.strides[2], width);
        if (is_copy && d_weight * h_weight == 1) {
          summed = row;
        } else {
          Accumulate(row, d_weight * h_weight, width, first, sums_);
        }
        first = false;
      });
    });
    std::byte* to = y_ + shape_.y.OffsetOf(n, channel, {depth, height, 0}) * size_;
    bool in_place = shape_.dtype == DType::kFloat32 && shape_.y.strides[2] == 1;
    float* out = in_place ? reinterpret_cast<float*>(to) : row_;
    SumAlongWidth(summed, out);
    if (!in_place) store_(to, out, shape_.y.strides[2], shape_.y.dims[2]);
  }

 private:
  int64_t NumTaps(int dim, int64_t position) const {
    return shape_.taps[dim].begin[position + 1] - shape_.taps[dim].begin[position];
  }

  template <typename Fn>
  HWY_INLINE void ForEachTap(int dim, int64_t position, Fn&& fn) const {
    const ResampleTaps& taps = shape_.taps[dim];
    for (int64_t k = taps.begin[position]; k < taps.begin[position + 1]; ++k) {
      fn(taps.index[k], static_cast<float>(taps.weight[k]));
    }
  }

  void SumAlongWidth(const float* from, float* to) const {
    int64_t i = 0, width = shape_.y.dims[2], count = shape_.num_width_taps;
    for (; count > 0 && i + kWidth <= width; i += kWidth) {
      F sum = Gathered(from, i);
      for (int64_t k = 1; k < count; ++k) {
        int64_t at = k * width + i;
        F x = hn::GatherIndex(kD, from, hn::LoadU(kDI, shape_.width_index.data() + at));
        sum = mul_add(x, Load(shape_.width_weight.data() + at), sum);
      }
      Store(sum, to + i);
    }
    for (; i < width; ++i) {
      float sum = 0;
      ForEachTap(2, i, [&](int64_t index, float weight) { sum += weight * from[index]; });
      to[i] = sum;
    }
  }

  HWY_INLINE F Gathered(const float* from, int64_t i) const {
    F x = hn::GatherIndex(kD, from, hn::LoadU(kDI, shape_.width_index.data() + i));
    return x * Load(shape_.width_weight.data() + i);
  }

  // `n` elements as floats: in place, or in the buffer.
  const float* Get(const std::byte* from, int64_t stride, int64_t n) const {
    if (shape_.dtype == DType::kFloat32 && stride == 1) return reinterpret_cast<const float*>(from);
    load_(buffer_, from, stride, n);
    return buffer_;
  }

  const ResampleShape& shape_;
  const std::byte* x_;
  std::byte* y_;
  int64_t size_;
  TapeLoad load_;
  TapeStore store_;
  float *buffer_, *sums_, *row_;
};

int64_t NumTasks(const ResampleShape& shape) {
  int64_t rows = shape.y.outer * shape.y.dims[0] * shape.y.dims[1];
  return ByChannels(shape) ? rows : rows * shape.y.inner;
}

int64_t WsFloats(const ResampleShape& shape) {
  return 2 * Resample::BufferFloats(shape) + Resample::RowFloats(shape);
}

void Run(const ResampleShape& shape, const std::byte* x, std::byte* y, int64_t begin, int64_t end,
         float* ws) {
  Resample resample(shape, x, y, ws);
  int64_t depths = shape.y.dims[0], heights = shape.y.dims[1];
  for (int64_t task = begin; task < end; ++task) {
    int64_t height = task % heights, depth = task / heights % depths;
    int64_t outer = task / heights / depths;
    if (ByChannels(shape)) {
      resample.RunChannels(outer, depth, height);
    } else {
      resample.RunRow(outer / shape.y.inner, outer % shape.y.inner, depth, height);
    }
  }
}

void SumGathered(const float* from, const int32_t* index, const float* weight, int64_t count,
                 int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    F sum = 0;
    for (int64_t k = 0; k < count; ++k) {
      auto at = hn::LoadU(kDI, index + k * n + i);
      auto inside = hn::RebindMask(kD, hn::Gt(at, hn::Set(kDI, -1)));
      F x = hn::IfThenElseZero(inside, hn::GatherIndex(kD, from, hn::Max(at, hn::Zero(kDI))));
      sum = mul_add(x, Load(weight + k * n + i), sum);
    }
    Store(sum, to + i);
  }
  for (; i < n; ++i) {
    float sum = 0;
    for (int64_t k = 0; k < count; ++k) {
      int32_t at = index[k * n + i];
      sum += weight[k * n + i] * (at < 0 ? 0.0f : from[at]);
    }
    to[i] = sum;
  }
}

ResampleKernel GetKernel() { return {.num_tasks = NumTasks, .ws_floats = WsFloats, .run = Run}; }

}  // namespace resample
}  // namespace simd
ResampleKernel FindResampleKernel() { return simd::resample::GetKernel(); }
GatherSum FindGatherSum() { return simd::resample::SumGathered; }
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(FindResampleKernel);
HWY_EXPORT(FindGatherSum);

ResampleKernel GetResampleKernel() { return HWY_DYNAMIC_DISPATCH(FindResampleKernel)(); }
GatherSum GetGatherSum() { return HWY_DYNAMIC_DISPATCH(FindGatherSum)(); }

}  // namespace stator
#endif
