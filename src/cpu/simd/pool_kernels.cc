// Pooling on floats, compiled per SIMD target.
//
// A task of the channels way is a row of output positions times up to kChannelBlock channels; of
// the other way, one plane of one channel.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/pool_kernels.cc"
#include <algorithm>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/pool_kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {
namespace pool {

constexpr int64_t kChannelBlock = 256;
constexpr int64_t kWidth = kLanes;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// As torch: the first of equals, and NaN when there is one.
struct MaxOp {
  static constexpr float kIdentity = -kInfinity;
  static HWY_INLINE F Call(F best, F x) { return where((x > best) | (x != x), x, best); }
  static float Call(float best, float x) { return x > best || x != x ? x : best; }
};
struct SumOp {
  static constexpr float kIdentity = 0;
  static HWY_INLINE F Call(F sum, F x) { return sum + x; }
  static float Call(float sum, float x) { return sum + x; }
};

// to[i] = Op(to[i], from[i])
template <class Op>
void Combine(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) Store(Op::Call(Load(to + i), Load(from + i)), to + i);
  for (; i < n; ++i) to[i] = Op::Call(to[i], from[i]);
}

void DivideBy(float divisor, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) Store(Load(to + i) / F(divisor), to + i);
  for (; i < n; ++i) to[i] /= divisor;
}

bool ByChannels(const PoolShape& shape) { return shape.x.inner_stride <= shape.x.strides[2]; }

int64_t NumChannelBlocks(const PoolShape& shape) {
  return (shape.y.inner + kChannelBlock - 1) / kChannelBlock;
}

class Pool {
 public:
  Pool(const PoolShape& shape, const std::byte* x, std::byte* y, float* ws)
      : shape_(shape),
        x_(x),
        y_(y),
        size_(static_cast<int64_t>(DTypeSize(shape.dtype))),
        load_(FindLoad(shape.dtype)),
        store_(FindStore(shape.dtype)),
        buffer_(ws),
        row_(ws + BufferFloats(shape)) {}

  static int64_t BufferFloats(const PoolShape& shape) {
    int64_t n = ByChannels(shape) ? kChannelBlock : std::max(shape.x.dims[2], shape.y.dims[2]);
    return (n + 15) / 16 * 16;
  }
  static int64_t RowFloats(const PoolShape& shape) {
    return ByChannels(shape) ? kChannelBlock : (PaddedWidth(shape) + 2 * kWidth + 15) / 16 * 16;
  }

  // ---- the channels way
  // One row of output positions (n, depth, height), channels [channel, channel + channels).
  template <class Op>
  void RunChannels(int64_t n, int64_t depth, int64_t height, int64_t channel, int64_t channels) {
    bool in_place = shape_.dtype == DType::kFloat32 && shape_.x.inner_stride == 1;
    for (int64_t w = 0; w < shape_.y.dims[2]; ++w) {
      const PoolWindow* window[] = {&shape_.windows[0][depth], &shape_.windows[1][height],
                                    &shape_.windows[2][w]};
      if (in_place) {
        ReduceInPlace<Op>(n, channel, channels, window);
      } else {
        std::fill(row_, row_ + channels, Op::kIdentity);
        ForEachInput(n, channel, window, [&](const std::byte* from) {
          load_(buffer_, from, shape_.x.inner_stride, channels);
          Combine<Op>(buffer_, channels, row_);
        });
      }
      if (!shape_.is_max) DivideBy(Divisor(*window[0], *window[1], *window[2]), channels, row_);
      store_(y_ + shape_.y.OffsetOf(n, channel, {depth, height, w}) * size_, row_,
             shape_.y.inner_stride, channels);
    }
  }

  // ---- the rows way
  // One plane of the output (n, channel, depth).
  template <class Op>
  void RunPlane(int64_t n, int64_t channel, int64_t depth) {
    const PoolWindow& d = shape_.windows[0][depth];
    for (int64_t height = 0; height < shape_.y.dims[1]; ++height) {
      const PoolWindow& h = shape_.windows[1][height];
      std::fill(row_, row_ + RowFloats(shape_), Op::kIdentity);
      for (int64_t i = 0; i < d.count; ++i) {
        for (int64_t j = 0; j < h.count; ++j) {
          Triple at = {d.first + i * shape_.step[0], h.first + j * shape_.step[1], 0};
          const std::byte* from = x_ + shape_.x.OffsetOf(n, channel, at) * size_;
          Combine<Op>(Get(from, shape_.x.strides[2], shape_.x.dims[2]), shape_.x.dims[2],
                      row_ + shape_.width_padding);
        }
      }
      ReduceRow<Op>();
      if (!shape_.is_max) {
        for (int64_t w = 0; w < shape_.y.dims[2]; ++w) {
          buffer_[w] /= Divisor(d, h, shape_.windows[2][w]);
        }
      }
      store_(y_ + shape_.y.OffsetOf(n, channel, {depth, height, 0}) * size_, buffer_,
             shape_.y.strides[2], shape_.y.dims[2]);
    }
  }

 private:
  // Calls fn(the channels of an input position) for each position of the window.
  template <typename Fn>
  HWY_INLINE void ForEachInput(int64_t n, int64_t channel, const PoolWindow* const (&window)[3],
                               Fn&& fn) const {
    const auto& [d, h, w] = window;
    for (int64_t i = 0; i < d->count; ++i) {
      for (int64_t j = 0; j < h->count; ++j) {
        Triple at = {d->first + i * shape_.step[0], h->first + j * shape_.step[1], w->first};
        const std::byte* from = x_ + shape_.x.OffsetOf(n, channel, at) * size_;
        int64_t next = shape_.step[2] * shape_.x.strides[2] * size_;
        for (int64_t k = 0; k < w->count; ++k, from += next) fn(from);
      }
    }
  }

  // row_ = Op over the window, for floats that lie densely: sums stay in registers.
  template <class Op>
  void ReduceInPlace(int64_t n, int64_t channel, int64_t channels,
                     const PoolWindow* const (&window)[3]) {
    constexpr int64_t kBlock = 4;
    int64_t c = 0;
    for (; c + kBlock * kWidth <= channels; c += kBlock * kWidth) {
      F sums[kBlock];
      for (F& sum : sums) sum = Op::kIdentity;
      ForEachInput(n, channel + c, window, [&](const std::byte* from) HWY_ATTR {
        const float* x = reinterpret_cast<const float*>(from);
        for (int v = 0; v < kBlock; ++v) sums[v] = Op::Call(sums[v], Load(x + v * kWidth));
      });
      for (int v = 0; v < kBlock; ++v) Store(sums[v], row_ + c + v * kWidth);
    }
    for (; c < channels; c += kWidth) {
      int64_t left = std::min(kWidth, channels - c);
      F sum = Op::kIdentity;
      ForEachInput(n, channel + c, window, [&](const std::byte* from) HWY_ATTR {
        sum = Op::Call(sum, LoadFirst(reinterpret_cast<const float*>(from), left));
      });
      StoreFirst(sum, row_ + c, left);
    }
  }

  // Elements of row_ that windows along the width may take.
  static int64_t PaddedWidth(const PoolShape& shape) {
    int64_t reach = (shape.y.dims[2] - 1) * shape.width_stride + shape.width_count * shape.step[2];
    return std::max(shape.x.dims[2] + shape.width_padding, reach);
  }

  // `n` elements as floats: in place, or in the buffer.
  const float* Get(const std::byte* from, int64_t stride, int64_t n) const {
    if (shape_.dtype == DType::kFloat32 && stride == 1) return reinterpret_cast<const float*>(from);
    load_(buffer_, from, stride, n);
    return buffer_;
  }

  float Divisor(const PoolWindow& d, const PoolWindow& h, const PoolWindow& w) const {
    if (d.count == 0 || h.count == 0 || w.count == 0) return 1;  // padding alone: the sum is 0
    if (shape_.divisor != 0) return shape_.divisor;
    return static_cast<float>(d.extent * h.extent * w.extent);
  }

  // buffer_[w] = Op over the window of w in row_.
  template <class Op>
  void ReduceRow() {
    int64_t w = 0, outputs = shape_.y.dims[2], stride = shape_.width_stride;
    bool vector = shape_.width_count > 0 && stride <= 2;
    for (; vector && w + kWidth <= outputs; w += kWidth) {
      F sum = Op::kIdentity;
      for (int64_t k = 0; k < shape_.width_count; ++k) {
        const float* from = row_ + w * stride + k * shape_.step[2];
        sum = Op::Call(sum, stride == 1 ? Load(from) : LoadEven(from));
      }
      Store(sum, buffer_ + w);
    }
    for (; w < outputs; ++w) {
      const PoolWindow& window = shape_.windows[2][w];
      const float* from = row_ + shape_.width_padding + window.first;
      buffer_[w] = ReduceRun<Op>(from, window.count);
    }
  }

  // Op over from[0], from[step], ..., `count` elements.
  template <class Op>
  float ReduceRun(const float* from, int64_t count) const {
    int64_t k = 0, step = shape_.step[2];
    float sum = Op::kIdentity;
    if (step == 1 && count >= 2 * kWidth) {
      F sums = Op::kIdentity;
      for (; k + kWidth <= count; k += kWidth) sums = Op::Call(sums, Load(from + k));
      HWY_ALIGN float lanes[kLanes];
      Store(sums, lanes);
      for (float lane : lanes) sum = Op::Call(sum, lane);
    }
    for (; k < count; ++k) sum = Op::Call(sum, from[k * step]);
    return sum;
  }

  // from[0], from[2], ...
  static HWY_INLINE F LoadEven(const float* from) {
    VF even, odd;
    hn::LoadInterleaved2(kD, from, even, odd);
    return even;
  }

  const PoolShape& shape_;
  const std::byte* x_;
  std::byte* y_;
  int64_t size_;
  TapeLoad load_;
  TapeStore store_;
  float* buffer_;
  float* row_;
};

int64_t NumTasks(const PoolShape& shape) {
  int64_t outer = shape.y.outer * shape.y.dims[0];
  if (!ByChannels(shape)) return outer * shape.y.inner;
  return outer * shape.y.dims[1] * NumChannelBlocks(shape);
}

int64_t WsFloats(const PoolShape& shape) {
  return Pool::BufferFloats(shape) + Pool::RowFloats(shape);
}

template <class Op>
void RunTasks(const PoolShape& shape, const std::byte* x, std::byte* y, int64_t begin, int64_t end,
              float* ws) {
  Pool pool(shape, x, y, ws);
  int64_t channels = shape.y.inner, depths = shape.y.dims[0], heights = shape.y.dims[1];
  int64_t blocks = NumChannelBlocks(shape);
  for (int64_t task = begin; task < end; ++task) {
    if (ByChannels(shape)) {
      int64_t channel = task % blocks * kChannelBlock, row = task / blocks;
      pool.RunChannels<Op>(row / heights / depths, row / heights % depths, row % heights, channel,
                           std::min(kChannelBlock, channels - channel));
    } else {
      pool.RunPlane<Op>(task / depths / channels, task / depths % channels, task % depths);
    }
  }
}

void Run(const PoolShape& shape, const std::byte* x, std::byte* y, int64_t begin, int64_t end,
         float* ws) {
  (shape.is_max ? RunTasks<MaxOp> : RunTasks<SumOp>)(shape, x, y, begin, end, ws);
}

PoolKernel GetKernel() { return {.num_tasks = NumTasks, .ws_floats = WsFloats, .run = Run}; }

}  // namespace pool
}  // namespace simd
PoolKernel FindPoolKernel() { return simd::pool::GetKernel(); }
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(FindPoolKernel);

PoolKernel GetPoolKernel() { return HWY_DYNAMIC_DISPATCH(FindPoolKernel)(); }

}  // namespace stator
#endif
