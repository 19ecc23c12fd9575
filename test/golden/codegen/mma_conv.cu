// conv
graph @conv(%x: f16[1, 256, 14, 14]@0231, %w: f16[256, 256, 3, 3]@0231, %w_bias: f16[256]) {
  %0 = conv(%x, %w, %w_bias) {dilation = [1, 1], groups = 1, output_padding = [0, 0], padding = [1, 1], stride = [1, 1], transposed = false} : f16[1, 256, 14, 14]@0231
  %1 = relu(%0) : f16[1, 256, 14, 14]@0231
  return %1
}
// EXPECT
// variant {form = "mma", split = 8, tile_m = 64, tile_n = 64}
// grid [128, 1, 1], 128 threads, 65536 bytes
#include "prelude.cuh"

// graph @conv(%x: f16[1, 256, 14, 14]@0231, %w: f16[256, 256, 3, 3]@0231, %w_bias: f16[256]) {
//   %0 = conv(%x, %w, %w_bias) {dilation = [1, 1], groups = 1, output_padding = [0, 0], padding = [1, 1], stride = [1, 1], transposed = false} : f16[1, 256, 14, 14]@0231
//   %1 = relu(%0) : f16[1, 256, 14, 14]@0231
//   return %1
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __cluster_dims__(8) __launch_bounds__(128) stator_mma_conv_conv_relu(
    const f16* x_at,
    const f16* w_at,
    const f16* w_bias_at,
    f16* v1_at) {
  unsigned char* const ring = DynamicShared();
  const unsigned part = blockIdx.x % 8;
  const Index tile = blockIdx.x / 8;
  const Index row0 = tile % 4 * 64, n0 = tile / 4 * 64;
  const unsigned first_step = part * 36 / 8, last_step = (part + 1) * 36 / 8;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned warp_m = warp / 2 * 32, warp_n = warp % 2 * 32;
  // A thread copies one chunk of every 16th row. The same chunk of 8 rows, which
  // products read at once, lies in 8 places.
  const unsigned my_row = threadIdx.x / 8, my_chunk = threadIdx.x % 8;
  const unsigned place = my_row * 128 + (my_chunk ^ my_row % 8) * 16;
  LaunchDependents();
  const f16* a_row[4];
  int start0[4];
  int start1[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Index any_row = row0 + my_row + 16 * i;
    const Index row = any_row < 196 ? any_row : 0;
    const Index p1 = row % 14;
    const Index p0 = row / 14 % 14;
    const Index image = row / 196;
    start0[i] = int(p0) * 1 - 1;
    start1[i] = int(p1) * 1 - 1;
    a_row[i] = x_at + image * 50176;
  }
  const f16* const b_row = w_at + (n0 + my_row) * 2304 + my_chunk * 8;
  const auto load_a = [&](unsigned step) {
    unsigned char* const to = ring + (step - first_step) % 4 * 16384 + place;
    const Index k = step * 64 + my_chunk * 8;
    const Index tap = k / 256, channel = k % 256;
    const int move1 = int(tap % 3) * 1;
    const int move0 = int(tap / 3) * 1;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int q0 = start0[i] + move0;
      const int q1 = start1[i] + move1;
      const bool inside = q0 >= 0 && q0 < 14 && q1 >= 0 && q1 < 14;
      CopyAsync(to + i * 2048, a_row[i] + q0 * 3584 + q1 * 256 + channel, inside);
    }
  };
  const auto load_b = [&](unsigned step) {
    unsigned char* const to = ring + (step - first_step) % 4 * 16384 + 8192 + place;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      CopyAsync(to + i * 2048, b_row + i * 36864 + step * 64, true);
    }
  };
  const unsigned ahead = min(first_step + 3, last_step);
  for (unsigned step = first_step; step < ahead; ++step) load_b(step);
  WaitForInputs();
#pragma unroll
  for (unsigned i = 0; i < 3; ++i) {
    if (first_step + i < ahead) {
      load_a(first_step + i);
    }
    CommitCopies();
  }
  float sum[2][4][4] = {};
  for (unsigned step = first_step; step < last_step; ++step) {
    WaitCopies<2>();
    __syncthreads();
    if (step + 3 < last_step) {
      load_a(step + 3);
      load_b(step + 3);
    }
    CommitCopies();
    const unsigned char* const a_tile = ring + (step - first_step) % 4 * 16384;
    const unsigned char* const b_tile = a_tile + 8192;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      unsigned a[2][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const unsigned row = warp_m + i * 16 + lane % 16;
        LoadMatrices(a[i], a_tile + row * 128 + ((k * 2 + lane / 16) ^ lane % 8) * 16);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const unsigned row = warp_n + j * 16 + lane / 16 * 8 + lane % 8;
        LoadMatrices(b[j], b_tile + row * 128 + ((k * 2 + lane / 8 % 2) ^ lane % 8) * 16);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          MultiplyAdd<f16>(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
  WaitCopies<0>();
  __syncthreads();
  float* const sums = reinterpret_cast<float*>(ring);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const unsigned row = warp_m + i * 16 + lane / 4 + e / 2 * 8;
        sums[row * 68 + warp_n + j * 8 + lane % 4 * 2 + e % 2] = sum[i][j][e];
      }
    }
  }
  ClusterSync();
  for (unsigned at = threadIdx.x; at < 64; at += 128) {
    const unsigned tile_row = part * 8 + at / 8, column = at % 8 * 8;
    const Index any_row = row0 + tile_row;
    const Index row = any_row < 196 ? any_row : 0;
    const Index n = n0 + column;
    const Index p1 = row % 14;
    const Index p0 = row / 14 % 14;
    const Index image = row / 196;
    const float* const mine = sums + tile_row * 68 + column;
    auto total = LoadFromBlock<8>(mine, 0);
#pragma unroll
    for (int other = 1; other < 8; ++other) {
      const auto more = LoadFromBlock<8>(mine, other);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        total[j] += more[j];
      }
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      total[j] += ToCompute(w_bias_at[(n + j)]);
    }
    Vec<f16, 8> v1_vec;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float v0 = total[j];
      const float v1 = maximum(v0, 0);  // relu
      v1_vec[j] = CastTo<f16>(v1);
    }
    if (any_row == row) Store(v1_at + image * 50176 + p0 * 3584 + p1 * 256 + n, v1_vec);
  }
  ClusterSync();  // the others read this block's sums
}

}  // namespace stator
