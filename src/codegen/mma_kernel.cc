// Products of 16-bit matrices on tensor cores, and convolutions as such products, with pointwise
// nodes behind: y[row, n] = sum over k of a[row, k] b[k, n].
//
// For few rows, where a library's tiles leave most multiprocessors idle: the blocks of a cluster
// share a tile of results and divide its sum (split-K), which they add up in shared memory. A block
// of four warps multiplies tiles that lie in a ring of stages in shared memory, filled by copies
// that go on meanwhile; those of a constant b begin before what ran before has ended.
//
// Of a convolution, rows are the output's positions and k runs over the window's, channels
// innermost (implicit GEMM): input and weight are channels-last, and there is one group. Sums in
// float; those of a tile's parts are added in order.
#include <algorithm>

#include "base/error.h"
#include "codegen/families.h"
#include "codegen/mma_tile.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kThreads = 128;
constexpr int kStages = 4;
constexpr int kMinRows = 9;   // fewer are better read once by a warp for each column
constexpr int kMaxSplit = 8;  // the largest cluster that every device has

std::vector<Attrs> FindMmaVariants(const CudaSite& site) {
  std::optional<Mma> mma = FindMma(site);
  if (!mma || !mma->rows.count().is_static()) return {};
  int64_t rows = mma->rows.count().value(), n = mma->n_size;
  if (rows < kMinRows) return {};
  int64_t steps = (mma->k_size + kMmaDepth - 1) / kMmaDepth;
  std::vector<Attrs> variants;
  auto add = [&](int64_t tile_m, int64_t tile_n) {
    if (!mma->b_along_k && tile_n != kMmaDepth) return;
    int64_t tiles = (rows + tile_m - 1) / tile_m * ((n + tile_n - 1) / tile_n);
    if (tiles > 4 * site.target.num_sms) return;  // enough for a library's tiles
    // As few parts as give each multiprocessor a block, and parts of two stages at least.
    int64_t split = 1;
    while (site.target.capability >= 90 && split < kMaxSplit && 4 * split <= steps &&
           3 * tiles * split < 2 * site.target.num_sms) {
      split *= 2;
    }
    variants.push_back({{"tile_m", Dim(tile_m)}, {"tile_n", Dim(tile_n)}, {"split", Dim(split)}});
  };
  add(64, 64);
  add(32, 64);
  add(64, 32);
  add(128, 64);
  return variants;
}

class MmaWriter {
 public:
  MmaWriter(const CudaSite& site, const Mma& mma, const Attrs& variant)
      : site_(site),
        mma_(mma),
        tile_m_(static_cast<int>(variant.GetInt("tile_m"))),
        tile_n_(static_cast<int>(variant.GetInt("tile_n"))),
        split_(static_cast<int>(variant.GetInt("split"))),
        tile_(site, mma, {.m = tile_m_, .n = tile_n_, .threads = kThreads, .stages = kStages}),
        text_(tile_.text()) {}

  CudaKernel Write() {
    WritePosition();
    tile_.WriteLoads();
    WriteLoop();
    WriteSums();
    tile_.WriteOutput(Pitch(), split_);
    if (split_ > 1) text_.Line("ClusterSync();  // the others read this block's sums");
    return text_.Finish(EntryName(mma_.is_conv ? "mma_conv" : "mma", site_.body),
                        {tile_.NumRowTiles() * tile_.NumColumnTiles() * split_}, kThreads,
                        kStages * tile_.StageBytes(), split_);
  }

 private:
  void WritePosition() {
    text_.Line("unsigned char* const ring = DynamicShared();");
    text_.Line("const unsigned part = blockIdx.x % {};", split_);
    text_.Line("const Index tile = blockIdx.x / {};", split_);
    text_.Line("const Index row0 = tile % {0} * {1}, n0 = tile / {0} * {2};",
               text_.Size(tile_.NumRowTiles()), tile_m_, tile_n_);
    text_.Line("const unsigned first_step = part * {0} / {1}, last_step = (part + 1) * {0} / {1};",
               tile_.NumSteps(), split_);
    text_.Line("const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;");
    text_.Line("const unsigned warp_m = warp / 2 * {}, warp_n = warp % 2 * {};", tile_m_ / 2,
               tile_n_ / 2);
    tile_.WritePlace();
    text_.Line("LaunchDependents();");
  }

  // sum[i][j]: the warp's tiles of 16 rows and 8 columns.
  void WriteLoop() {
    int num_m = tile_m_ / 32, num_n = tile_n_ / 16;
    tile_.WriteFirstLoads(kStages - 1);
    text_.Line("float sum[{}][{}][4] = {{}};", num_m, num_n);
    text_.Open("for (unsigned step = first_step; step < last_step; ++step)");
    text_.Line("WaitCopies<{}>();", kStages - 2);
    text_.Line("__syncthreads();");
    text_.Open("if (step + {} < last_step)", kStages - 1);
    text_.Line("load_a(step + {});", kStages - 1);
    text_.Line("load_b(step + {});", kStages - 1);
    text_.Close();
    text_.Line("CommitCopies();");
    text_.Line("const unsigned char* const a_tile = ring + (step - first_step) % {} * {};", kStages,
               tile_.StageBytes());
    text_.Line("const unsigned char* const b_tile = a_tile + {};", tile_.ABytes());
    text_.OpenLoop("k", kMmaDepth / 16);
    text_.Line("unsigned a[{}][4], b[{}][4];", num_m, num_n / 2);
    text_.OpenLoop("i", num_m);
    text_.Line("const unsigned row = warp_m + i * 16 + lane % 16;");
    text_.Line("LoadMatrices(a[i], a_tile + row * {} + ((k * 2 + lane / 16) ^ lane % 8) * 16);",
               kMmaRowBytes);
    text_.Close();
    text_.OpenLoop("j", num_n / 2);
    if (mma_.b_along_k) {
      text_.Line("const unsigned row = warp_n + j * 16 + lane / 16 * 8 + lane % 8;");
      text_.Line(
          "LoadMatrices(b[j], b_tile + row * {} + ((k * 2 + lane / 8 % 2) ^ lane % 8) * 16);",
          kMmaRowBytes);
    } else {
      text_.Line("const unsigned row = k * 16 + lane % 16;");
      text_.Line("const unsigned chunk = warp_n / 8 + j * 2 + lane / 16;");
      text_.Line("LoadTransposed(b[j], b_tile + row * {} + (chunk ^ lane % 8) * 16);",
                 kMmaRowBytes);
    }
    text_.Close();
    text_.OpenLoop("i", num_m);
    text_.OpenLoop("j", num_n);
    text_.Line("MultiplyAdd<{}>(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);",
               ElementType(mma_.a->dtype));
    for (int i = 0; i < 4; ++i) text_.Close();
  }

  // To shared memory, where the parts of the cluster meet.
  void WriteSums() {
    text_.Line("WaitCopies<0>();");
    text_.Line("__syncthreads();");
    text_.Line("float* const sums = reinterpret_cast<float*>(ring);");
    text_.OpenLoop("i", tile_m_ / 32);
    text_.OpenLoop("j", tile_n_ / 16);
    text_.OpenLoop("e", 4);
    text_.Line("const unsigned row = warp_m + i * 16 + lane / 4 + e / 2 * 8;");
    text_.Line("sums[row * {} + warp_n + j * 8 + lane % 4 * 2 + e % 2] = sum[i][j][e];", Pitch());
    for (int i = 0; i < 3; ++i) text_.Close();
    text_.Line("{};", split_ == 1 ? "__syncthreads()" : "ClusterSync()");
  }
  int Pitch() const { return tile_n_ + 4; }

  const CudaSite& site_;
  const Mma& mma_;
  int tile_m_, tile_n_, split_;
  MmaTile tile_;
  KernelText& text_;
};

CudaKernel MakeMmaKernel(const CudaSite& site, const Attrs& variant) {
  if (std::optional<Mma> mma = FindMma(site)) return MmaWriter(site, *mma, variant).Write();
  // Symbolic sizes along which nothing is known to be aligned.
  const KernelFamily& plain = site.kind == "conv" ? kConvFamily : kGemmFamily;
  return plain.make(site, plain.find_variants(site).back());
}

}  // namespace

const KernelFamily kMmaFamily = {"mma", FindMmaVariants, MakeMmaKernel};

}  // namespace stator
