// conv
graph @conv(%x: f16[1, 96, 56, 56]@0231, %w: f16[96, 1, 7, 7], %b: f16[96]) {
  %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 96, output_padding = [0, 0], padding = [3, 3], stride = [1, 1], transposed = false} : f16[1, 96, 56, 56]@0231
  return %0
}
// EXPECT
// variant {form = "direct", vec = 8}
// grid [294, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @conv(%x: f16[1, 96, 56, 56]@0231, %w: f16[96, 1, 7, 7], %b: f16[96]) {
//   %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 96, output_padding = [0, 0], padding = [3, 3], stride = [1, 1], transposed = false} : f16[1, 96, 56, 56]@0231
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) depthwise_conv(
    const f16* x_at,
    const f16* w_at,
    const f16* b_at,
    f16* v0_at) {
  const Index i = (Index(blockIdx.x) * 128 + threadIdx.x) * 8;
  if (i >= 301056) return;
  const Index c = i % 96;
  const Index p1 = i / 96 % 56;
  const Index p0 = i / 5376 % 56;
  const Index n = i / 301056;
  LaunchDependents();
  WaitForInputs();
  float sum[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    sum[j] = ToCompute(b_at[(c + j)]);
  }
  for (int k0 = 0; k0 < 7; ++k0) {
    const int q0 = int(p0) * 1 - 3 + k0 * 1;
    if (q0 < 0 || q0 >= 56) continue;
    for (int k1 = 0; k1 < 7; ++k1) {
      const int q1 = int(p1) * 1 - 3 + k1 * 1;
      if (q1 < 0 || q1 >= 56) continue;
      const auto x_vec = Load<8>(x_at + n * 301056 + c + Index(q0) * 5376 + Index(q1) * 96);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        sum[j] += ToCompute(x_vec[j]) * ToCompute(w_at[(c + j) * 49 + k0 * 7 + k1]);
      }
    }
  }
  Vec<f16, 8> v0_vec;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float v0 = sum[j];
    v0_vec[j] = CastTo<f16>(v0);
  }
  Store(v0_at + n * 301056 + p0 * 5376 + p1 * 96 + c, v0_vec);
}

}  // namespace stator
