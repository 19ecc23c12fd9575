// copy
graph @copy(%x: i64[6, 10]) {
  return %x
}
// EXPECT
// variant {block = 128, form = "pointwise", vec = 1}
// grid [1, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_copy(
    const u64* x0_at,
    u64* y0_at) {
  const Index i = Index(blockIdx.x) * 128 + threadIdx.x;
  if (i >= 60) return;
  LaunchDependents();
  WaitForInputs();
  const u64 x0_element = x0_at[i];
  y0_at[i] = x0_element;
}

}  // namespace stator
