// reduce
graph @reduce(%x: f16[8, 768]) {
  %0 = cast(%x) {dtype = f32}
  %1 = sum(%0) {axes = [1], keepdim = true}
  return %1
}
// EXPECT
// variant {form = "reduce", slices = 0, split = 1, threads = 128}
// grid [8, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @reduce(%x: f16[8, 768]) {
//   %0 = cast(%x) {dtype = f32} : f32[8, 768]
//   %1 = sum(%0) {axes = [1], keepdim = true} : f32[8, 1]
//   return %1
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_reduce_sum(
    const f16* x_at,
    f32* v1_at) {
  const Index k = blockIdx.x;
  LaunchDependents();
  WaitForInputs();
  float result = 0;
  for (Index i = threadIdx.x; i < 768; i += 128) {
    const f16 x_element = x_at[k * 768 + i];
    const float x = ToCompute(x_element);
    const float v0 = Rounded<f32>(x);  // cast
    result = result + v0;
  }
  __shared__ float result_parts[4];
  result = BlockReduce<128>(result, Sum(), result_parts);
  if (threadIdx.x == 0) {
    v1_at[k] = CastTo<f32>(result);
  }
}

}  // namespace stator
