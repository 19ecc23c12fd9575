// gather
graph @gather(%w: f16[30522, 768], %i: i64[1, 128]) {
  %0 = embedding(%w, %i)
  return %0
}
// EXPECT
// variant {form = "index", vec = 8}
// grid [96, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @gather(%w: f16[30522, 768], %i: i64[1, 128]) {
//   %0 = embedding(%w, %i) : f16[1, 128, 768]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_embedding(
    const u16* w_at,
    const i64* i_at,
    u16* v0_at) {
  const Index i = (Index(blockIdx.x) * 128 + threadIdx.x) * 8;
  if (i >= 98304) return;
  const Index o2 = i % 768;
  const Index o1 = i / 768 % 128;
  const Index o0 = i / 98304;
  LaunchDependents();
  WaitForInputs();
  const Index row = Index(max(0, min(30522 - 1, i64(i_at[o0 * 128 + o1]))));
  const auto x_vec = Load<8>(w_at + row * 768 + o2);
  Vec<u16, 8> v0_vec;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    v0_vec[j] = x_vec[j];
  }
  Store(v0_at + o0 * 98304 + o1 * 768 + o2, v0_vec);
}

}  // namespace stator
