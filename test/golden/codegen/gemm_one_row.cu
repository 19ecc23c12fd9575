// gemm
graph @gemm(%a: f16[1, 2048], %w: f16[2048, 8192]@10, %w1: f16[8192]) {
  %0 = matmul(%a, %w)
  %1 = add(%0, %w1)
  %2 = silu(%1)
  return %2
}
// EXPECT
// variant {columns = 4, form = "gemm"}
// grid [2048, 1, 1], 128 threads, 0 bytes
#include "prelude.cuh"

// graph @gemm(%a: f16[1, 2048], %w: f16[2048, 8192]@10, %_w1: f16[8192]) {
//   %0 = matmul(%a, %w) : f16[1, 8192]
//   %1 = add(%0, %_w1) : f16[1, 8192]
//   %2 = silu(%1) : f16[1, 8192]
//   return %2
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_gemv_matmul_add_silu(
    const f16* a_at,
    const f16* w_at,
    const f16* w1_at,
    f16* v2_at) {
  const Index n = Index(blockIdx.x) * 4 + threadIdx.x / 32;
  const Index first = threadIdx.x % 32 * 8;
  if (n >= 8192) return;
  LaunchDependents();
  for (Index k = first; k < 2048; k += 256) {
    PrefetchL2(w_at + k + n * 2048);
  }
  WaitForInputs();
  float sum[1];
  {
    constexpr int r = 0;
    sum[r] = 0;
  }
#pragma unroll 4
  for (Index k = first; k < 2048; k += 256) {
    const auto b_vec = Load<8>(w_at + k + n * 2048);
    {
      constexpr int r = 0;
      const auto a_vec = Load<8>(a_at + Index(r) * 2048 + k);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        sum[r] = sum[r] + ToCompute(a_vec[j]) * ToCompute(b_vec[j]);
      }
    }
  }
  {
    constexpr int r = 0;
    sum[r] = WarpReduce<32>(sum[r], Sum());
  }
  const Index m = threadIdx.x % 32;
  if (m < 1) {
    float result = sum[0];
    {
      constexpr int r = 0;
      if (m == r) result = sum[r];
    }
    const f16 w1_element = w1_at[n];
    const float v0 = result;
    const float w1 = ToCompute(w1_element);
    const float v1 = v0 + w1;  // add
    const float v2 = v1 / (1 + exp(-v1));  // silu
    v2_at[m * 8192 + n] = CastTo<f16>(v2);
  }
}

}  // namespace stator
