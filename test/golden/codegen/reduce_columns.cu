// reduce
graph @reduce(%x: f16[1, 2048, 7, 7]@0231) {
  %0 = mean(%x) {axes = [2, 3], keepdim = false}
  return %0
}
// EXPECT
// variant {form = "reduce", slices = 8, split = 1, threads = 0}
// grid [64, 1, 1], 256 threads, 0 bytes
#include "prelude.cuh"

// graph @reduce(%x: f16[1, 2048, 7, 7]@0231) {
//   %0 = mean(%x) {axes = [2, 3], keepdim = false} : f16[1, 2048]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(256) stator_reduce_mean(
    const f16* x_at,
    f16* v0_at) {
  const Index k = Index(blockIdx.x) * 32 + threadIdx.x % 32;
  const Index slice = threadIdx.x / 32;
  LaunchDependents();
  WaitForInputs();
  float result = 0;
  if (k < 2048) {
    for (Index i = slice; i < 49; i += 8) {
      const f16 x_element = x_at[k + i * 2048];
      const float x = ToCompute(x_element);
      result = result + x;
    }
  }
  __shared__ float result_parts[256];
  result_parts[threadIdx.x] = result;
  __syncthreads();
  result = result_parts[threadIdx.x % 32];
#pragma unroll
  for (int other = 0; other < 7; ++other) {
    result = Sum()(result, result_parts[(other + 1) * 32 + threadIdx.x % 32]);
  }
  if (slice == 0 && k < 2048) {
    v0_at[k] = CastTo<f16>(result / 49);
  }
}

}  // namespace stator
