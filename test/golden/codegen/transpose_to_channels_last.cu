// copy
graph @copy(%x: f16[1, 64, 56, 56]) {
  %0 = cast(%x) {dtype = f16} : f16[1, 64, 56, 56]@0231
  return %0
}
// EXPECT
// variant {form = "transpose"}
// grid [196, 1, 1], 256 threads, 0 bytes
#include "prelude.cuh"

namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(256) stator_copy_transposed(
    const u16* x0_at,
    u16* y0_at) {
  __shared__ u16 x0_tile[32][33];
  const Index tile = blockIdx.x;
  const Index a0 = tile % 2 * 32;
  const Index b0 = tile / 2 % 98 * 32;
  LaunchDependents();
  WaitForInputs();
#pragma unroll
  for (Index k = threadIdx.x / 32; k < 32; k += 8) {
    const Index lane = threadIdx.x % 32;
    const Index a = a0 + k, b = b0 + lane;
    if (a < 64 && b < 3136) {
      const u16 x0_element = x0_at[b + a * 3136];
      x0_tile[k][lane] = x0_element;
    }
  }
  __syncthreads();
#pragma unroll
  for (Index k = threadIdx.x / 32; k < 32; k += 8) {
    const Index lane = threadIdx.x % 32;
    const Index a = a0 + lane, b = b0 + k;
    if (a < 64 && b < 3136) {
      y0_at[b * 64 + a] = x0_tile[lane][k];
    }
  }
}

}  // namespace stator
