// gemm
graph @gemm(%a: f16[4096, 768], %w: f16[768, 3072]@10, %c: f16[3072]) {
  %0 = matmul(%a, %w)
  %1 = add(%0, %c)
  %2 = gelu(%1)
  return %2
}
// EXPECT
// variant {form = "wgmma", tile_m = 128, tile_n = 128}
// grid [768, 1, 1], 256 threads, 98304 bytes
#include "prelude.cuh"

// graph @gemm(%a: f16[4096, 768], %w: f16[768, 3072]@10, %c: f16[3072]) {
//   %0 = matmul(%a, %w) : f16[4096, 3072]
//   %1 = add(%0, %c) : f16[4096, 3072]
//   %2 = gelu(%1) : f16[4096, 3072]
//   return %2
// }
namespace stator {

using Index = unsigned;

#ifndef STATOR_EMULATED
// sum[64 x 128] += a[64 x 16] b[16 x 128] of a warpgroup.
template <typename T>
void MultiplyTiles(float (&sum)[64], u64 a, u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, "
               "%8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, "
               "%24, %25, %26, %27, %28, %29, %30, %31, "
               "%32, %33, %34, %35, %36, %37, %38, %39, "
               "%40, %41, %42, %43, %44, %45, %46, %47, "
               "%48, %49, %50, %51, %52, %53, %54, %55, "
               "%56, %57, %58, %59, %60, %61, %62, %63"
               "}, %64, %65, 1, 1, 1, 0, 0;" :
               "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]),
               "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
               "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]),
               "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]),
               "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]),
               "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]),
               "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]),
               "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31]),
               "+f"(sum[32]), "+f"(sum[33]), "+f"(sum[34]), "+f"(sum[35]),
               "+f"(sum[36]), "+f"(sum[37]), "+f"(sum[38]), "+f"(sum[39]),
               "+f"(sum[40]), "+f"(sum[41]), "+f"(sum[42]), "+f"(sum[43]),
               "+f"(sum[44]), "+f"(sum[45]), "+f"(sum[46]), "+f"(sum[47]),
               "+f"(sum[48]), "+f"(sum[49]), "+f"(sum[50]), "+f"(sum[51]),
               "+f"(sum[52]), "+f"(sum[53]), "+f"(sum[54]), "+f"(sum[55]),
               "+f"(sum[56]), "+f"(sum[57]), "+f"(sum[58]), "+f"(sum[59]),
               "+f"(sum[60]), "+f"(sum[61]), "+f"(sum[62]), "+f"(sum[63])
               : "l"(a), "l"(b));
}
#endif

extern "C" __global__ void __launch_bounds__(256, 2) stator_wgmma_matmul_add_gelu(
    const f16* a_at,
    const f16* w_at,
    const f16* c_at,
    f16* v2_at) {
  unsigned char* const ring = DynamicShared();
  // Blocks go down 8 tiles, then on to the next columns.
  const Index tile = blockIdx.x, top = tile / 192 * 8;
  const Index height = 32 - top < 8 ? 32 - top : 8;
  const Index row0 = (top + tile % 192 % height) * 128;
  const Index n0 = tile % 192 / height * 128;
  constexpr unsigned first_step = 0, last_step = 12;
  const unsigned warpgroup = threadIdx.x / 128, lane = threadIdx.x % 32;
  // A thread copies one chunk of every 32th row. The same chunk of 8 rows, which
  // products read at once, lies in 8 places.
  const unsigned my_row = threadIdx.x / 8, my_chunk = threadIdx.x % 8;
  const unsigned place = my_row * 128 + (my_chunk ^ my_row % 8) * 16;
  LaunchDependents();
  const f16* a_row[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Index row = row0 + my_row + 32 * i;
    const Index m = row;
    a_row[i] = a_at + m * 768 + my_chunk * 8;
  }
  const f16* const b_row = w_at + (n0 + my_row) * 768 + my_chunk * 8;
  const auto load_a = [&](unsigned step) {
    unsigned char* const to = ring + (step - first_step) % 3 * 32768 + place;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      CopyAsync(to + i * 4096, a_row[i] + step * 64, true);
    }
  };
  const auto load_b = [&](unsigned step) {
    unsigned char* const to = ring + (step - first_step) % 3 * 32768 + 16384 + place;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      CopyAsync(to + i * 4096, b_row + i * 24576 + step * 64, true);
    }
  };
  const unsigned ahead = min(first_step + 2, last_step);
  for (unsigned step = first_step; step < ahead; ++step) load_b(step);
  WaitForInputs();
#pragma unroll
  for (unsigned i = 0; i < 2; ++i) {
    if (first_step + i < ahead) {
      load_a(first_step + i);
    }
    CommitCopies();
  }
  float sum[1][64] = {};
  for (unsigned step = 0; step < last_step; ++step) {
    WaitCopies<1>();
    ShowCopiesToProducts();
    __syncthreads();
    const unsigned char* const a_tile = ring + step % 3 * 32768;
    const unsigned char* const b_tile = a_tile + 16384;
    BeginProducts();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      {
        constexpr int i = 0;
        const unsigned row = (warpgroup * 1 + i) * 64;
        MultiplyTiles<f16>(sum[i], MatrixAt(a_tile + row * 128 + k * 32), MatrixAt(b_tile + k * 32));
      }
    }
    CommitProducts();
    if (step + 2 < last_step) {
      load_a(step + 2);
      load_b(step + 2);
    }
    CommitCopies();
    WaitProducts<0>();
  }
  WaitProducts<0>();
  WaitCopies<0>();
  __syncthreads();
  float* const sums = reinterpret_cast<float*>(ring);
  {
    constexpr int i = 0;
#pragma unroll
    for (int e = 0; e < 32; ++e) {
      const unsigned row = (warpgroup * 1 + i) * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4 + e % 2 * 8;
      const Vec<float, 2> pair = {sum[i][e * 2], sum[i][e * 2 + 1]};
      Store(sums + row * 136 + e / 2 * 8 + lane % 4 * 2, pair);
    }
  }
  __syncthreads();
  for (unsigned at = threadIdx.x; at < 2048; at += 256) {
    const unsigned tile_row = at / 16, column = at % 16 * 8;
    const Index row = row0 + tile_row;
    const Index n = n0 + column;
    const Index m = row;
    const float* const mine = sums + tile_row * 136 + column;
    auto total = Load<8>(mine);
    const auto c_vec = Load<8>(c_at + n);
    Vec<f16, 8> v2_vec;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float v0 = total[j];
      const float c = ToCompute(c_vec[j]);
      const float v1 = v0 + c;  // add
      const float v2 = v1 * 0.5f * (1 + erf(v1 * 0.70710677f));  // gelu
      v2_vec[j] = CastTo<f16>(v2);
    }
    Store(v2_at + m * 3072 + n, v2_vec);
  }
}

}  // namespace stator
