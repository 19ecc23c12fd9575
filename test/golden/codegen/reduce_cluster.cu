// reduce
graph @reduce(%x: f16[1, 32, 112, 112]@0231) {
  %0 = mean(%x) {axes = [2, 3], keepdim = true} : f16[1, 32, 1, 1]
  return %0
}
// EXPECT
// variant {form = "reduce", slices = 8, split = 8, threads = 0}
// grid [8, 1, 1], 256 threads, 1152 bytes
#include "prelude.cuh"

// graph @reduce(%x: f16[1, 32, 112, 112]@0231) {
//   %0 = mean(%x) {axes = [2, 3], keepdim = true} : f16[1, 32, 1, 1]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __cluster_dims__(8) __launch_bounds__(256) stator_reduce_mean(
    const f16* x_at,
    f16* v0_at) {
  const Index part = blockIdx.x % 8;
  const Index k = (blockIdx.x / 8) * 32 + threadIdx.x % 32;
  const Index slice = threadIdx.x / 32;
  LaunchDependents();
  WaitForInputs();
  float result = 0;
  if (k < 32) {
    for (Index i = part * 8 + slice; i < 12544; i += 64) {
      const f16 x_element = x_at[k + i * 32];
      const float x = ToCompute(x_element);
      result = result + x;
    }
  }
  float* const result_parts = reinterpret_cast<float*>(DynamicShared());
  result_parts[threadIdx.x] = result;
  __syncthreads();
  result = result_parts[threadIdx.x % 32];
#pragma unroll
  for (int other = 0; other < 7; ++other) {
    result = Sum()(result, result_parts[(other + 1) * 32 + threadIdx.x % 32]);
  }
  float* const of_block = result_parts + 256;
  if (slice == 0) of_block[threadIdx.x] = result;
  ClusterSync();
  if (part == 0 && slice == 0) {
#pragma unroll
    for (int other = 0; other < 7; ++other) {
      result = Sum()(result, LoadFromBlock<1>(of_block + threadIdx.x, other + 1)[0]);
    }
  }
  ClusterSync();  // the first one reads this block's part
  if (slice == 0 && part == 0 && k < 32) {
    v0_at[k] = CastTo<f16>(result / 12544);
  }
}

}  // namespace stator
