// gemm
graph @gemm(%a: f32[12, 128, 64], %b: f32[12, 64, 128]) {
  %0 = matmul(%a, %b)
  return %0
}
// EXPECT
// variant {columns = 0, form = "gemm"}
// grid [48, 1, 1], 256 threads, 0 bytes
#include "prelude.cuh"

// graph @gemm(%a: f32[12, 128, 64], %b: f32[12, 64, 128]) {
//   %0 = matmul(%a, %b) : f32[12, 128, 128]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(256) stator_gemm_matmul(
    const f32* a_at,
    const f32* b_at,
    f32* v0_at) {
  __shared__ float a_tile[16][65];
  __shared__ float b_tile[16][65];
  const Index tile = blockIdx.x;
  const Index m0 = tile % 2 * 64;
  const Index n0 = tile / 2 % 2 * 64;
  const Index stack = tile / 4;
  const Index b0 = stack;
  const unsigned row = threadIdx.x / 16, column = threadIdx.x % 16;
  LaunchDependents();
  WaitForInputs();
  float sum[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      sum[i][j] = 0;
    }
  }
  for (Index k0 = 0; k0 < 64; k0 += 16) {
    for (unsigned e = threadIdx.x; e < 1024; e += 256) {
      const unsigned tile_k = e % 16, tile_m = e / 16;
      const Index k = k0 + tile_k, m = m0 + tile_m;
      const bool inside = k < 64 && m < 128;
      a_tile[tile_k][tile_m] = inside ? ToCompute(a_at[m * 64 + k + b0 * 8192]) : float(0);
    }
    for (unsigned e = threadIdx.x; e < 1024; e += 256) {
      const unsigned tile_k = e / 64, tile_n = e % 64;
      const Index k = k0 + tile_k, n = n0 + tile_n;
      const bool inside = k < 64 && n < 128;
      b_tile[tile_k][tile_n] = inside ? ToCompute(b_at[k * 128 + n + b0 * 8192]) : float(0);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sum[i][j] = sum[i][j] + a_tile[k][row + 16 * i] * b_tile[k][column + 16 * j];
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Index m = m0 + row + 16 * i, n = n0 + column + 16 * j;
      if (m < 128 && n < 128) {
        const float v0 = sum[i][j];
        v0_at[b0 * 16384 + m * 128 + n] = CastTo<f32>(v0);
      }
    }
  }
}

}  // namespace stator
