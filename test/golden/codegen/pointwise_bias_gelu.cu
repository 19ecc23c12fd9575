// pointwise
graph @pointwise(%x: f16[128, 3072], %w: f16[3072]) {
  %0 = add(%x, %w)
  %1 = gelu(%0)
  return %1
}
// EXPECT
// variant {block = 256, form = "pointwise", vec = 8}
// grid [192, 1, 1], 256 threads, 0 bytes
#include "prelude.cuh"

// graph @pointwise(%x: f16[128, 3072], %w: f16[3072]) {
//   %0 = add(%x, %w) : f16[128, 3072]
//   %1 = gelu(%0) : f16[128, 3072]
//   return %1
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(256) stator_pointwise_add_gelu(
    const f16* x_at,
    const f16* w_at,
    f16* v1_at) {
  const Index i = (Index(blockIdx.x) * 256 + threadIdx.x) * 8;
  if (i >= 393216) return;
  const Index i1 = i % 3072;
  LaunchDependents();
  const auto w_vec = Load<8>(w_at + i1);
  WaitForInputs();
  const auto x_vec = Load<8>(x_at + i);
  Vec<f16, 8> v1_vec;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float x = ToCompute(x_vec[j]);
    const float w = ToCompute(w_vec[j]);
    const float v0 = x + w;  // add
    const float v1 = v0 * 0.5f * (1 + erf(v0 * 0.70710677f));  // gelu
    v1_vec[j] = CastTo<f16>(v1);
  }
  Store(v1_at + i, v1_vec);
}

}  // namespace stator
