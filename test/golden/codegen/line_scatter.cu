// reference
graph @scatter(%x: f32[4, 16], %i: i64[4, 8], %s: f32[4, 8]) {
  %0 = scatter(%x, %i, %s) {dim = 1}
  return %0
}
// EXPECT
// variant {form = "line"}
// grid [1, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @scatter(%x: f32[4, 16], %i: i64[4, 8], %s: f32[4, 8]) {
//   %0 = scatter(%x, %i, %s) {dim = 1} : f32[4, 16]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_scatter(
    const f32* x_at,
    const i64* i_at,
    const f32* s_at,
    f32* v0_at) {
  const Index line = Index(blockIdx.x) * 128 + threadIdx.x;
  if (line >= 4) return;
  const Index o0 = line;
  LaunchDependents();
  WaitForInputs();
  for (Index i = 0; i < 16; ++i) {
    v0_at[o0 * 16 + i] = x_at[o0 * 16 + i];
  }
  for (Index i = 0; true && i < 8; ++i) {
    const Index position = Index(max(0, min(16 - 1, i64(i_at[o0 * 8 + i]))));
    v0_at[o0 * 16 + position] = s_at[o0 * 8 + i];
  }
}

}  // namespace stator
