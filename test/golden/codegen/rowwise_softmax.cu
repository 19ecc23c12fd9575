// rowwise
graph @rowwise(%x: f32[1024, 100]) {
  %0 = softmax(%x) {axis = 1}
  return %0
}
// EXPECT
// variant {form = "rowwise", held = true, rows = 4, threads = 32, vec = 4}
// grid [256, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @rowwise(%x: f32[1024, 100]) {
//   %0 = softmax(%x) {axis = 1} : f32[1024, 100]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_rowwise_softmax(
    const f32* x_at,
    f32* v0_at) {
  const Index row = Index(blockIdx.x) * 4 + threadIdx.x / 32;
  const Index lane = threadIdx.x % 32;
  if (row >= 1024) return;
  constexpr int step = 0;
  const Index i = lane * 4;
  LaunchDependents();
  WaitForInputs();
  float top = -kInfinity;
  float held[4];
  if (i < 100) {
    const auto x_vec = Load<4>(x_at + row * 100 + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float x = ToCompute(x_vec[j]);
      held[step * 4 + j] = x;
      top = maximum(top, x);
    }
  }
  top = WarpReduce<32>(top, Max());
  float sum = 0;
  if (i < 100) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float x = held[step * 4 + j];
      sum += exp(x - top);
    }
  }
  sum = WarpReduce<32>(sum, Sum());
  const float inverse = 1 / sum;
  if (i < 100) {
    Vec<f32, 4> v0_vec;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float x = held[step * 4 + j];
      const float v0 = exp(x - top) * inverse;
      v0_vec[j] = CastTo<f32>(v0);
    }
    Store(v0_at + row * 100 + i, v0_vec);
  }
}

}  // namespace stator
