// pointwise
graph @pointwise(%x: bf16[s0, 64], %y: bf16[s0, 1]) where s0 in [1, 512] {
  literal %c: bf16[] = [0.125]
  %0 = mul(%x, %c)
  %1 = sub(%0, %y)
  return %1
}
// EXPECT
// variant {block = 256, form = "pointwise", vec = 8}
// grid [floordiv(8*s0 + 255, 256), 1, 1], 256 threads, 0 bytes
#include "prelude.cuh"

// graph @pointwise(%x: bf16[s0, 64], %y: bf16[s0, 1]) where s0 in [1, 512] {
//   literal %c0: bf16[] = [0.125]
//   %0 = mul(%x, %c0) : bf16[s0, 64]
//   %1 = sub(%0, %y) : bf16[s0, 64]
//   return %1
// }
namespace stator {

using Index = long long;

extern "C" __global__ void __launch_bounds__(256) stator_pointwise_mul_sub(
    const bf16* x_at,
    const bf16* y_at,
    bf16* v1_at,
    long long s0) {
  const Index i = (Index(blockIdx.x) * 256 + threadIdx.x) * 8;
  if (i >= (64*s0)) return;
  const Index i0 = i / 64;
  LaunchDependents();
  WaitForInputs();
  const auto x_vec = Load<8>(x_at + i);
  const bf16 y_element = y_at[i0];
  Vec<bf16, 8> v1_vec;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float x = ToCompute(x_vec[j]);
    const float c0 = 0.125f;
    const float v0 = x * c0;  // mul
    const float y = ToCompute(y_element);
    const float v1 = v0 - y;  // sub
    v1_vec[j] = CastTo<bf16>(v1);
  }
  Store(v1_at + i, v1_vec);
}

}  // namespace stator
