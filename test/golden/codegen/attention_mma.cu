// attention
graph @attention(%q: f16[2, 3, 49, 32]@0213, %k: f16[2, 3, 49, 32]@0213, %v: f16[2, 3, 49, 32]@0213, %m: f16[1, 3, 49, 49]) {
  %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.5} : f16[2, 3, 49, 32]@0213
  return %0
}
// EXPECT
// variant {form = "mma", warps = 4}
// grid [6, 1, 1], 128 threads, 15360 bytes
#include "prelude.cuh"

// graph @attention(%q: f16[2, 3, 49, 32]@0213, %k: f16[2, 3, 49, 32]@0213, %v: f16[2, 3, 49, 32]@0213, %m: f16[1, 3, 49, 49]) {
//   %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.5} : f16[2, 3, 49, 32]@0213
//   return %0
// }
namespace stator {

using Index = unsigned;

extern "C" __global__ void __launch_bounds__(128) stator_mma_attention_attention(
    const f16* q_at,
    const f16* k_at,
    const f16* v_at,
    const f16* m_at,
    f16* v0_at) {
  f16* const q_tile = reinterpret_cast<f16*>(DynamicShared());
  f16* const stages = q_tile + 2560;
  const Index q0 = Index(blockIdx.x) % 1 * 64;
  const Index head = Index(blockIdx.x) / 1;
  const Index h = head % 3;
  const Index b0 = head / 3;
  const Index hk = h / 1;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  LaunchDependents();
  WaitForInputs();
  const auto copy = [&](Index key0) {
    f16* const k_to = stages;
    for (unsigned at = threadIdx.x; at < 256; at += 128) {
      const Index row = key0 + at / 4;
      const Index e = at % 4 * 8;
      const bool inside = row < 49;
      CopyAsync(k_to + at / 4 * 40 + e, inside ? k_at + b0 * 4704 + hk * 32 + row * 96 + e : k_at, inside);
    }
    for (unsigned at = threadIdx.x; at < 256; at += 128) {
      const Index row = key0 + at / 4;
      const Index e = at % 4 * 8;
      const bool inside = row < 49;
      CopyAsync(k_to + 2560 + at / 4 * 40 + e, inside ? v_at + b0 * 4704 + hk * 32 + row * 96 + e : v_at, inside);
    }
    CommitCopies();
  };
  for (unsigned at = threadIdx.x; at < 256; at += 128) {
    const Index row = q0 + at / 4;
    const Index e = at % 4 * 8;
    const bool inside = row < 49;
    CopyAsync(q_tile + at / 4 * 40 + e, inside ? q_at + b0 * 4704 + h * 32 + row * 96 + e : q_at, inside);
  }
  copy(0);
  WaitCopies<0>();
  __syncthreads();
  unsigned q[2][4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    LoadMatrices(q[i], q_tile + (warp * 16 + lane % 16) * 40 + i * 16 + lane / 16 * 8);
  }
  // Of rows lane / 4 and lane / 4 + 8 of the warp.
  float sum[4][4] = {}, top[2] = {-kInfinity, -kInfinity}, total[2] = {};
  const Index end = 49;
  for (Index key0 = 0; key0 < end; key0 += 64) {
    const f16* const k_tile = stages;
    const f16* const v_tile = k_tile + 2560;
    float score[8][4] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        unsigned k[4];
        LoadMatrices(k, k_tile + (j * 16 + lane / 16 * 8 + lane % 8) * 40 + i * 16 +
                            lane / 8 % 2 * 8);
        MultiplyAdd<f16>(score[2 * j], q[i], k[0], k[1]);
        MultiplyAdd<f16>(score[2 * j + 1], q[i], k[2], k[3]);
      }
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const Index l = q0 + warp * 16 + lane / 4 + e / 2 * 8;
        const Index s = key0 + j * 8 + lane % 4 * 2 + e % 2;
        score[j][e] = s < 49 && l < 49 ? score[j][e] * 0.5f + ToCompute(m_at[h * 2401 + l * 49 + s]) : -kInfinity;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float next = top[r];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        next = maximum(next, maximum(score[j][2 * r], score[j][2 * r + 1]));
      }
      next = WarpReduce<4>(next, Max());
      const float shift = next == -kInfinity ? 0.0f : next;  // no key seen yet
      const float factor = exp(top[r] - shift);
      top[r] = next;
      total[r] *= factor;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        sum[n][2 * r] *= factor;
        sum[n][2 * r + 1] *= factor;
      }
#pragma unroll
      for (int j = 0; j < 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float weight = exp(score[j][2 * r + e] - shift);
          score[j][2 * r + e] = weight;
          total[r] += weight;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned weights[4] = {
          Pair<f16>(score[2 * i][0], score[2 * i][1]),
          Pair<f16>(score[2 * i][2], score[2 * i][3]),
          Pair<f16>(score[2 * i + 1][0], score[2 * i + 1][1]),
          Pair<f16>(score[2 * i + 1][2], score[2 * i + 1][3]),
      };
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        unsigned v[4];
        LoadTransposed(v, v_tile + (i * 16 + lane % 16) * 40 + n * 16 + lane / 16 * 8);
        MultiplyAdd<f16>(sum[2 * n], weights, v[0], v[1]);
        MultiplyAdd<f16>(sum[2 * n + 1], weights, v[2], v[3]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float all = WarpReduce<4>(total[r], Sum());
    const float share = all == 0 ? 0.0f : 1 / all;
    const Index l = q0 + warp * 16 + lane / 4 + r * 8;
    if (l >= 49) continue;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const Index e = n * 8 + lane % 4 * 2;
      Vec<f16, 2> v0_vec;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float v0 = (sum[n][2 * r + j] * share);
        v0_vec[j] = CastTo<f16>(v0);
      }
      Store(v0_at + b0 * 4704 + l * 96 + h * 32 + e, v0_vec);
    }
  }
}

}  // namespace stator
