// gemm
graph @gemm(%a: f16[4096, 2048], %w: f16[2048, 8192]@10, %up: f16[4096, 8192]) {
  %0 = matmul(%a, %w)
  %1 = silu(%0)
  %2 = mul(%1, %up)
  return %2
}
// EXPECT
// variant {form = "wgmma", tile_m = 128, tile_n = 256}
// grid [1024, 1, 1], 256 threads, 196608 bytes
#include "prelude.cuh"

// graph @gemm(%a: f16[4096, 2048], %w: f16[2048, 8192]@10, %up: f16[4096, 8192]) {
//   %0 = matmul(%a, %w) : f16[4096, 8192]
//   %1 = silu(%0) : f16[4096, 8192]
//   %2 = mul(%1, %up) : f16[4096, 8192]
//   return %2
// }
namespace stator {

using Index = unsigned;

#ifndef STATOR_EMULATED
// sum[64 x 256] += a[64 x 16] b[16 x 256] of a warpgroup.
template <typename T>
void MultiplyTiles(float (&sum)[128], u64 a, u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
               "%0, %1, %2, %3, %4, %5, %6, %7, "
               "%8, %9, %10, %11, %12, %13, %14, %15, "
               "%16, %17, %18, %19, %20, %21, %22, %23, "
               "%24, %25, %26, %27, %28, %29, %30, %31, "
               "%32, %33, %34, %35, %36, %37, %38, %39, "
               "%40, %41, %42, %43, %44, %45, %46, %47, "
               "%48, %49, %50, %51, %52, %53, %54, %55, "
               "%56, %57, %58, %59, %60, %61, %62, %63, "
               "%64, %65, %66, %67, %68, %69, %70, %71, "
               "%72, %73, %74, %75, %76, %77, %78, %79, "
               "%80, %81, %82, %83, %84, %85, %86, %87, "
               "%88, %89, %90, %91, %92, %93, %94, %95, "
               "%96, %97, %98, %99, %100, %101, %102, %103, "
               "%104, %105, %106, %107, %108, %109, %110, %111, "
               "%112, %113, %114, %115, %116, %117, %118, %119, "
               "%120, %121, %122, %123, %124, %125, %126, %127"
               "}, %128, %129, 1, 1, 1, 0, 0;" :
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
               "+f"(sum[60]), "+f"(sum[61]), "+f"(sum[62]), "+f"(sum[63]),
               "+f"(sum[64]), "+f"(sum[65]), "+f"(sum[66]), "+f"(sum[67]),
               "+f"(sum[68]), "+f"(sum[69]), "+f"(sum[70]), "+f"(sum[71]),
               "+f"(sum[72]), "+f"(sum[73]), "+f"(sum[74]), "+f"(sum[75]),
               "+f"(sum[76]), "+f"(sum[77]), "+f"(sum[78]), "+f"(sum[79]),
               "+f"(sum[80]), "+f"(sum[81]), "+f"(sum[82]), "+f"(sum[83]),
               "+f"(sum[84]), "+f"(sum[85]), "+f"(sum[86]), "+f"(sum[87]),
               "+f"(sum[88]), "+f"(sum[89]), "+f"(sum[90]), "+f"(sum[91]),
               "+f"(sum[92]), "+f"(sum[93]), "+f"(sum[94]), "+f"(sum[95]),
               "+f"(sum[96]), "+f"(sum[97]), "+f"(sum[98]), "+f"(sum[99]),
               "+f"(sum[100]), "+f"(sum[101]), "+f"(sum[102]), "+f"(sum[103]),
               "+f"(sum[104]), "+f"(sum[105]), "+f"(sum[106]), "+f"(sum[107]),
               "+f"(sum[108]), "+f"(sum[109]), "+f"(sum[110]), "+f"(sum[111]),
               "+f"(sum[112]), "+f"(sum[113]), "+f"(sum[114]), "+f"(sum[115]),
               "+f"(sum[116]), "+f"(sum[117]), "+f"(sum[118]), "+f"(sum[119]),
               "+f"(sum[120]), "+f"(sum[121]), "+f"(sum[122]), "+f"(sum[123]),
               "+f"(sum[124]), "+f"(sum[125]), "+f"(sum[126]), "+f"(sum[127])
               : "l"(a), "l"(b));
}
#endif

extern "C" __global__ void __launch_bounds__(256) stator_wgmma_matmul_silu_mul(
    const f16* a_at,
    const f16* w_at,
    const f16* up_at,
    f16* v2_at) {
  unsigned char* const ring = DynamicShared();
  // Blocks go down 8 tiles, then on to the next columns.
  const Index tile = blockIdx.x, top = tile / 256 * 8;
  const Index height = 32 - top < 8 ? 32 - top : 8;
  const Index row0 = (top + tile % 256 % height) * 128;
  const Index n0 = tile % 256 / height * 256;
  constexpr unsigned first_step = 0, last_step = 32;
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
    a_row[i] = a_at + m * 2048 + my_chunk * 8;
  }
  const f16* const b_row = w_at + (n0 + my_row) * 2048 + my_chunk * 8;
  const auto load_a = [&](unsigned step) {
    unsigned char* const to = ring + (step - first_step) % 4 * 49152 + place;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      CopyAsync(to + i * 4096, a_row[i] + step * 64, true);
    }
  };
  const auto load_b = [&](unsigned step) {
    unsigned char* const to = ring + (step - first_step) % 4 * 49152 + 16384 + place;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      CopyAsync(to + i * 4096, b_row + i * 65536 + step * 64, true);
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
  float sum[1][128] = {};
  for (unsigned step = 0; step < last_step; ++step) {
    WaitCopies<1>();
    ShowCopiesToProducts();
    __syncthreads();
    const unsigned char* const a_tile = ring + step % 4 * 49152;
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
    WaitProducts<1>();
  }
  WaitProducts<0>();
  WaitCopies<0>();
  __syncthreads();
  float* const sums = reinterpret_cast<float*>(ring);
  {
    constexpr int i = 0;
#pragma unroll
    for (int e = 0; e < 64; ++e) {
      const unsigned row = (warpgroup * 1 + i) * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4 + e % 2 * 8;
      const Vec<float, 2> pair = {sum[i][e * 2], sum[i][e * 2 + 1]};
      Store(sums + row * 264 + e / 2 * 8 + lane % 4 * 2, pair);
    }
  }
  __syncthreads();
  for (unsigned first = threadIdx.x; first < 4096; first += 1024) {
    Vec<f16, 8> up_ahead[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const unsigned at = first + u * 256;
      const unsigned tile_row = at / 32, column = at % 32 * 8;
      const Index row = row0 + tile_row;
      const Index n = n0 + column;
      const Index m = row;
      up_ahead[u] = Load<8>(up_at + m * 8192 + n);
    }
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const unsigned at = first + u * 256;
      const unsigned tile_row = at / 32, column = at % 32 * 8;
      const Index row = row0 + tile_row;
      const Index n = n0 + column;
      const Index m = row;
      const float* const mine = sums + tile_row * 264 + column;
      auto total = Load<8>(mine);
      Vec<f16, 8> v2_vec;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float v0 = total[j];
        const float v1 = v0 / (1 + exp(-v0));  // silu
        const float up = ToCompute(up_ahead[u][j]);
        const float v2 = v1 * up;  // mul
        v2_vec[j] = CastTo<f16>(v2);
      }
      Store(v2_at + m * 8192 + n, v2_vec);
    }
  }
}

}  // namespace stator
