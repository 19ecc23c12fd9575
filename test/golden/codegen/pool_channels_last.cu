// pool
graph @pool(%x: f16[1, 64, 112, 112]@0231) {
  %0 = max_pool(%x) {ceil_mode = false, dilation = [1, 1], kernel = [3, 3], padding = [1, 1], stride = [2, 2]} : f16[1, 64, 56, 56]@0231
  return %0
}
// EXPECT
// variant {form = "pool", vec = 8}
// grid [196, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @pool(%x: f16[1, 64, 112, 112]@0231) {
//   %0 = max_pool(%x) {ceil_mode = false, dilation = [1, 1], kernel = [3, 3], padding = [1, 1], stride = [2, 2]} : f16[1, 64, 56, 56]@0231
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_pool_max_pool(
    const f16* x_at,
    f16* v0_at) {
  const Index i = (Index(blockIdx.x) * 128 + threadIdx.x) * 8;
  if (i >= 200704) return;
  const Index c = i % 64;
  const Index p1 = i / 64 % 56;
  const Index p0 = i / 3584 % 56;
  const Index n = i / 200704;
  LaunchDependents();
  WaitForInputs();
  const int first0 = int(p0) * 2 - 1;
  const int first1 = int(p1) * 2 - 1;
  float best[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    best[j] = -kInfinity;
  }
  for (int k0 = 0; k0 < 3; ++k0) {
    const int q0 = first0 + k0;
    if (q0 < 0 || q0 >= 112) continue;
    for (int k1 = 0; k1 < 3; ++k1) {
      const int q1 = first1 + k1;
      if (q1 < 0 || q1 >= 112) continue;
      const auto x_vec = Load<8>(x_at + n * 802816 + c + Index(q0) * 7168 + Index(q1) * 64);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float value = ToCompute(x_vec[j]);
        best[j] = maximum(best[j], value);
      }
    }
  }
  Vec<f16, 8> v0_vec;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float v0 = best[j];
    v0_vec[j] = CastTo<f16>(v0);
  }
  Store(v0_at + n * 200704 + p0 * 3584 + p1 * 64 + c, v0_vec);
}

}  // namespace stator
