// attention
graph @attention(%q: f32[1, 32, 128, 64], %k: f32[1, 8, 128, 64], %v: f32[1, 8, 128, 64]) {
  %0 = attention(%q, %k, %v) {causal = true, scale = 0.125}
  return %0
}
// EXPECT
// variant {form = "attention"}
// grid [256, 1, 1], 128 threads, 20608 bytes
#include "prelude.cuh"

// graph @attention(%q: f32[1, 32, 128, 64], %k: f32[1, 8, 128, 64], %v: f32[1, 8, 128, 64]) {
//   %0 = attention(%q, %k, %v) {causal = true, scale = 0.125} : f32[1, 32, 128, 64]
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_attention(
    const f32* q_at,
    const f32* k_at,
    const f32* v_at,
    f32* v0_at) {
  float* const k_tile = reinterpret_cast<float*>(DynamicShared());
  float* const v_tile = k_tile + 2080;
  float* const q_tile = v_tile + 2048;
  const Index q0 = Index(blockIdx.x) % 8 * 16;
  const Index head = Index(blockIdx.x) / 8;
  const Index h = head % 32;
  const Index b0 = head / 32;
  const Index hk = h / 4;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  LaunchDependents();
  WaitForInputs();
  for (unsigned at = threadIdx.x; at < 1024; at += 128) {
    const Index e = at % 64, row = q0 + at / 64;
    q_tile[at / 64 * 64 + e] = row < 128 ? ToCompute(q_at[b0 * 262144 + h * 8192 + row * 64 + e]) : float(0);
  }
  float top[4], total[4], sum[4][2];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    top[r] = -kInfinity;
    total[r] = 0;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      sum[r][c] = 0;
    }
  }
  const Index end = min(128, q0 + 16);
  for (Index key0 = 0; key0 < end; key0 += 32) {
    __syncthreads();
    for (unsigned at = threadIdx.x; at < 2048; at += 128) {
      const Index e = at % 64, row = key0 + at / 64;
      k_tile[at / 64 * 65 + e] = row < 128 ? ToCompute(k_at[b0 * 65536 + hk * 8192 + row * 64 + e]) : float(0);
    }
    for (unsigned at = threadIdx.x; at < 2048; at += 128) {
      const Index e = at % 64, row = key0 + at / 64;
      v_tile[at / 64 * 64 + e] = row < 128 ? ToCompute(v_at[b0 * 65536 + hk * 8192 + row * 64 + e]) : float(0);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const Index l = q0 + warp * 4 + r, s = key0 + lane;
      float dot = 0;
      for (int e = 0; e < 64; ++e) {
        dot += q_tile[(warp * 4 + r) * 64 + e] * k_tile[lane * 65 + e];
      }
      const bool seen = s < 128 && l < 128 && s <= l;
      float score = -kInfinity;
      if (seen) score = dot * 0.125f;
      const float next = maximum(top[r], WarpReduce<32>(score, Max()));
      const float shift = next == -kInfinity ? float(0) : next;  // no key seen yet
      const float factor = exp(top[r] - shift), weight = exp(score - shift);
      total[r] = total[r] * factor + WarpReduce<32>(weight, Sum());
      top[r] = next;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        sum[r][c] *= factor;
      }
      for (int key = 0; key < 32; ++key) {
        const float of_key = __shfl_sync(0xffffffffu, weight, key);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const unsigned e = lane + 32 * c;
          sum[r][c] += of_key * v_tile[key * 64 + e];
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const Index l = q0 + warp * 4 + r, e = lane + 32 * c;
      if (l < 128 && e < 64) {
        const float v0 = (total[r] == 0 ? float(0) : sum[r][c] / total[r]);
        v0_at[b0 * 262144 + h * 8192 + l * 64 + e] = CastTo<f32>(v0);
      }
    }
  }
}

}  // namespace stator
