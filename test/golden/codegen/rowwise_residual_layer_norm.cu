// rowwise
graph @rowwise(%x: f16[128, 768], %y: f16[128, 768], %w0: f16[768], %w1: f16[768]) {
  %0 = add(%x, %y)
  %1 = layer_norm(%0, %w0, %w1) {eps = 1e-05, num_dims = 1}
  return %0, %1
}
// EXPECT
// variant {form = "rowwise", held = true, rows = 1, threads = 96, vec = 8}
// grid [128, 1, 1], 96 threads, 0 bytes
#include "prelude.cuh"

// graph @rowwise(%x: f16[128, 768], %y: f16[128, 768], %_w0: f16[768], %_w1: f16[768]) {
//   %0 = add(%x, %y) : f16[128, 768]
//   %1 = layer_norm(%0, %_w0, %_w1) {eps = 1e-05, num_dims = 1} : f16[128, 768]
//   return %0, %1
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(96) stator_rowwise_add_layer_norm(
    const f16* x_at,
    const f16* y_at,
    const f16* w0_at,
    const f16* w1_at,
    f16* v0_at,
    f16* v1_at) {
  const Index row = blockIdx.x;
  constexpr int step = 0;
  const Index i = threadIdx.x * 8;
  LaunchDependents();
  Vec<f16, 8> w0_held[1];
  {
    w0_held[step] = Load<8>(w0_at + i);
  }
  Vec<f16, 8> w1_held[1];
  {
    w1_held[step] = Load<8>(w1_at + i);
  }
  WaitForInputs();
  float mean = 0;
  float held[8];
  {
    const auto x_vec = Load<8>(x_at + row * 768 + i);
    const auto y_vec = Load<8>(y_at + row * 768 + i);
    Vec<f16, 8> v0_vec;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float x = ToCompute(x_vec[j]);
      const float y = ToCompute(y_vec[j]);
      const float v0 = x + y;  // add
      held[step * 8 + j] = v0;
      mean += v0;
      v0_vec[j] = CastTo<f16>(v0);
    }
    Store(v0_at + row * 768 + i, v0_vec);
  }
  __shared__ float mean_of_warps[3];
  mean = BlockReduce<96>(mean, Sum(), mean_of_warps);
  mean = mean / 768;
  float square = 0;
  {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float v0 = held[step * 8 + j];
      square += (v0 - mean) * (v0 - mean);
    }
  }
  __shared__ float square_of_warps[3];
  square = BlockReduce<96>(square, Sum(), square_of_warps);
  const float scale = 1 / sqrt(square / 768 + 1e-05f);
  {
    Vec<f16, 8> v1_vec;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float v0 = held[step * 8 + j];
      const float w0 = ToCompute(w0_held[step][j]);
      const float w1 = ToCompute(w1_held[step][j]);
      const float v1 = (v0 - mean) * scale * w0 + w1;
      v1_vec[j] = CastTo<f16>(v1);
    }
    Store(v1_at + row * 768 + i, v1_vec);
  }
}

}  // namespace stator
