// conv
graph @conv(%x: f16[1, 96, 56, 56]@0231, %w: f16[96, 1, 7, 7], %b: f16[96]) {
  %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 96, output_padding = [0, 0], padding = [3, 3], stride = [1, 1], transposed = false} : f16[1, 96, 56, 56]@0231
  return %0
}
// EXPECT
// variant {columns = 4, form = "depthwise", rows = 1, vec = 2}
// grid [158, 1, 1], 256 threads, 0 bytes
#include "prelude.cuh"

// graph @conv(%x: f16[1, 96, 56, 56]@0231, %w: f16[96, 1, 7, 7], %b: f16[96]) {
//   %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 96, output_padding = [0, 0], padding = [3, 3], stride = [1, 1], transposed = false} : f16[1, 96, 56, 56]@0231
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(256) stator_depthwise_conv(
    const f16* x_at,
    const f16* w_at,
    const f16* b_at,
    f16* v0_at) {
  __shared__ Vec<float, 2> weights[1225];
  const Index c0 = blockIdx.x % 2 * 48;
  LaunchDependents();
  for (unsigned i = threadIdx.x; i < 2352; i += 256) {
    const unsigned channel = i / 49, tap = i % 49;
    const float weight = c0 + channel < 96 ? ToCompute(w_at[(c0 + channel) * 49 + (tap / 7) * 7 + (tap % 7)]) : 0.0f;
    weights[tap * 25 + channel / 2][channel % 2] = weight;
  }
  __syncthreads();
  const unsigned group = threadIdx.x % 24;
  const Index tile = blockIdx.x / 2 * 10 + threadIdx.x / 24;
  const Index c = c0 + group * 2;
  if (tile >= 784 || c >= 96) return;
  if (threadIdx.x >= 240) return;
  const Index row0 = tile % 56 * 1;
  const Index column0 = tile / 56 % 14 * 4;
  const Index n = tile / 56 / 14;
  WaitForInputs();
  float sum[1][4][2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const float start = ToCompute(b_at[(c + j)]);
    {
      constexpr int r = 0;
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        sum[r][p][j] = start;
      }
    }
  }
  const int q0 = int(row0) * 1 - 3, q1 = int(column0) * 1 - 3;
  Word<f16, 2> next[10];
  const auto read = [&](int y) {
    const int row = q0 + y;
    const bool has_row = row >= 0 && row < 56;
    const f16* const line = x_at + (int(n) * 301056 + row * 5376 + q1 * 96 + int(c));
#pragma unroll
    for (int i = 0; i < 10; ++i) {
      const bool inside = has_row && q1 + i >= 0 && q1 + i < 56;
      next[i] = LoadWordIf<2>(inside, line + i * 96);
    }
  };
  read(0);
#pragma unroll 1
  for (int y = 0; y < 7; ++y) {
    float x[10][2];
#pragma unroll
    for (int i = 0; i < 10; ++i) {
      const auto x_vec = __builtin_bit_cast(Vec<f16, 2>, next[i]);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        x[i][j] = ToCompute(x_vec[j]);
      }
    }
    if (y + 1 < 7) read(y + 1);
    {
      constexpr int r = 0;
      const int k0 = y;
#pragma unroll
      for (int k1 = 0; k1 < 7; ++k1) {
        const auto w = weights[(k0 * 7 + k1) * 25 + group];
#pragma unroll
        for (int p = 0; p < 4; ++p) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            sum[r][p][j] += x[p * 1 + k1][j] * w[j];
          }
        }
      }
    }
  }
  {
    constexpr int r = 0;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const Index p0 = row0 + r, p1 = column0 + p;
      Vec<f16, 2> v0_vec;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float v0 = sum[r][p][j];
        v0_vec[j] = CastTo<f16>(v0);
      }
      Store(v0_at + n * 301056 + p0 * 5376 + p1 * 96 + c, v0_vec);
    }
  }
}

}  // namespace stator
