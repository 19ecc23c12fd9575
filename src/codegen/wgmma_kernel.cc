// Large products of 16-bit matrices on the tensor cores of sm_90a, and convolutions as such
// products (codegen/mma_site.h), with any pointwise nodes behind.
//
// Where a library has no epilogue for what follows, another launch would read and write the whole
// result. A block of two warpgroups multiplies tiles out of a ring of stages in shared memory
// (wgmma, PTX ISA, "asynchronous warpgroup level matrix instructions"), which all its threads fill
// by copies that go on meanwhile; sums, in float, go through shared memory to be finished and
// stored row by row. Blocks that follow each other share rows of a and columns of b in the L2
// cache. Small tiles leave room for two blocks on a multiprocessor: one multiplies while the other
// stores.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "codegen/families.h"
#include "codegen/mma_tile.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kThreads = 256, kWarpgroup = 128;
constexpr int kGroupHeight = 8;  // tiles along m that share columns of b
constexpr int kMaxTileN = 256;   // of the instruction
constexpr int kMaxSmem = 227 << 10, kSmemOfTwo = 113 << 10;
constexpr size_t kMaxVariants = 3;

struct Shape {
  int m = 0, n = 0, stages = 0, blocks = 1;  // blocks: on a multiprocessor

  int StageBytes() const { return (m + n) * kMmaRowBytes; }
};

std::optional<Shape> MakeShape(int m, int n) {
  // Sums in registers, 128 of a thread's at most, and 64 where two blocks share them.
  for (int blocks : {2, 1}) {
    int stages = std::min((blocks == 2 ? kSmemOfTwo : kMaxSmem) / ((m + n) * kMmaRowBytes), 4);
    if (m * n / kThreads <= 128 / blocks && stages >= 3) return Shape{m, n, stages, blocks};
  }
  return std::nullopt;
}

std::vector<Attrs> FindWgmmaVariants(const CudaSite& site) {
  if (site.target.arch != "sm_90a") return {};
  std::optional<Mma> mma = FindMma(site);
  if (!mma || !mma->rows.count().is_static()) return {};
  int64_t rows = mma->rows.count().value();
  auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  // Fewer tiles than multiprocessors: codegen/mma_kernel.cc splits the sum.
  if (ceil_div(rows, 128) * ceil_div(mma->n_size, 128) < site.target.num_sms) return {};
  struct Guess {
    double cost;
    Shape shape;
  };
  std::vector<Guess> guesses;
  for (auto [m, n] :
       {std::pair(128, 256), {128, 192}, {256, 128}, {128, 128}, {128, 96}, {128, 64}, {128, 32}}) {
    std::optional<Shape> shape = MakeShape(m, n);
    if (!shape || (!mma->b_along_k && n % kMmaDepth != 0)) continue;
    // In units of the time that a multiprocessor takes for 64 x 64 x 64 terms: products, or what
    // is copied into shared memory at half their rate; then what is stored.
    double tiles = static_cast<double>(ceil_div(rows, m) * ceil_div(mma->n_size, n));
    double steps = static_cast<double>(ceil_div(mma->k_size, kMmaDepth));
    double step = std::max(m * n / 4096.0, (m + n) / 64.0 * 1.25);
    double store = m * n / 4096.0 * 8 / shape->blocks;
    double waves = std::ceil(tiles / (site.target.num_sms * shape->blocks)) * shape->blocks;
    guesses.push_back({waves * (steps * step + store + 4), *shape});
  }
  std::stable_sort(guesses.begin(), guesses.end(),
                   [](const Guess& a, const Guess& b) { return a.cost < b.cost; });
  std::vector<Attrs> variants;
  for (const auto& [cost, shape] : guesses) {
    if (variants.size() == kMaxVariants) break;
    variants.push_back({{"tile_m", Dim(shape.m)}, {"tile_n", Dim(shape.n)}});
  }
  return variants;
}

class WgmmaWriter {
 public:
  WgmmaWriter(const CudaSite& site, const Mma& mma, const Shape& shape)
      : site_(site),
        mma_(mma),
        shape_(shape),
        tile_(site, mma, {.m = shape.m, .n = shape.n, .threads = kThreads, .stages = shape.stages}),
        text_(tile_.text()) {}

  CudaKernel Write() {
    WriteInstruction();
    WritePosition();
    tile_.WriteLoads();
    WriteLoop();
    WriteSums();
    tile_.WriteOutput(Pitch());
    int smem = std::max(shape_.stages * tile_.StageBytes(), shape_.m * Pitch() * 4);
    return text_.Finish(EntryName(mma_.is_conv ? "wgmma_conv" : "wgmma", site_.body),
                        {tile_.NumRowTiles() * tile_.NumColumnTiles()}, kThreads, smem, 1,
                        shape_.blocks);
  }

 private:
  // Of 64 rows and tile_n columns: tiles that a warpgroup's sums are made of.
  int NumTiles() const { return shape_.m / 64 / (kThreads / kWarpgroup); }
  int NumSums() const { return 64 * shape_.n / kWarpgroup; }
  // A thread's two neighbours and those of the other rows that are written at once lie in 32 banks.
  int Pitch() const { return shape_.n + 8; }
  // Products that are still in work while the next are begun.
  int NumInFlight() const { return shape_.stages > 3 ? 1 : 0; }

  // The instruction names each register of its sums.
  void WriteInstruction() {
    int count = NumSums();
    std::string type(ElementType(mma_.a->dtype));
    text_.Before("#ifndef STATOR_EMULATED");
    text_.Before("// sum[64 x {0}] += a[64 x 16] b[16 x {0}] of a warpgroup.", shape_.n);
    text_.Before("template <typename T>");
    text_.Before("void MultiplyTiles(float (&sum)[{}], u64 a, u64 b) {{", count);
    text_.Before("  asm volatile(\"wgmma.mma_async.sync.aligned.m64n{0}k16.f32.{1}.{1} {{\"",
                 shape_.n, type);
    for (int i = 0; i < count; i += 8) {
      text_.Before("               \"%{}, %{}, %{}, %{}, %{}, %{}, %{}, %{}{}\"", i, i + 1, i + 2,
                   i + 3, i + 4, i + 5, i + 6, i + 7, i + 8 < count ? ", " : "");
    }
    text_.Before("               \"}}, %{}, %{}, 1, 1, 1, 0, {};\" :", count, count + 1,
                 mma_.b_along_k ? 0 : 1);
    for (int i = 0; i < count; i += 4) {
      text_.Before(
          "               \"+f\"(sum[{}]), \"+f\"(sum[{}]), \"+f\"(sum[{}]), "
          "\"+f\"(sum[{}]){}",
          i, i + 1, i + 2, i + 3, i + 4 < count ? "," : "");
    }
    text_.Before("               : \"l\"(a), \"l\"(b));");
    text_.Before("}}");
    text_.Before("#endif");
    text_.Before("");
  }

  void WritePosition() {
    std::string m_tiles = text_.Size(tile_.NumRowTiles());
    int64_t n_tiles = tile_.NumColumnTiles(), group = kGroupHeight * n_tiles;
    text_.Line("unsigned char* const ring = DynamicShared();");
    text_.Line("// Blocks go down {} tiles, then on to the next columns.", kGroupHeight);
    text_.Line("const Index tile = blockIdx.x, top = tile / {} * {};", group, kGroupHeight);
    text_.Line("const Index height = {0} - top < {1} ? {0} - top : {1};", m_tiles, kGroupHeight);
    text_.Line("const Index row0 = (top + tile % {} % height) * {};", group, shape_.m);
    text_.Line("const Index n0 = tile % {} / height * {};", group, shape_.n);
    text_.Line("constexpr unsigned first_step = 0, last_step = {};", tile_.NumSteps());
    text_.Line("const unsigned warpgroup = threadIdx.x / {}, lane = threadIdx.x % 32;", kWarpgroup);
    tile_.WritePlace();
    text_.Line("LaunchDependents();");
  }

  void WriteLoop() {
    int ahead = shape_.stages - 1 - NumInFlight(), tiles = NumTiles();
    tile_.WriteFirstLoads(ahead);
    text_.Line("float sum[{}][{}] = {{}};", tiles, NumSums());
    text_.Open("for (unsigned step = 0; step < last_step; ++step)");
    text_.Line("WaitCopies<{}>();", ahead - 1);
    text_.Line("ShowCopiesToProducts();");
    text_.Line("__syncthreads();");
    text_.Line("const unsigned char* const a_tile = ring + step % {} * {};", shape_.stages,
               tile_.StageBytes());
    text_.Line("const unsigned char* const b_tile = a_tile + {};", tile_.ABytes());
    text_.Line("BeginProducts();");
    text_.OpenLoop("k", kMmaDepth / 16);
    text_.OpenLoop("i", tiles);
    text_.Line("const unsigned row = (warpgroup * {} + i) * 64;", tiles);
    const char* b_at =
        mma_.b_along_k ? "MatrixAt(b_tile + k * 32)" : "AcrossMatrixAt(b_tile + k * 2048)";
    text_.Line("MultiplyTiles<{}>(sum[i], MatrixAt(a_tile + row * {} + k * 32), {});",
               ElementType(mma_.a->dtype), kMmaRowBytes, b_at);
    text_.Close();
    text_.Close();
    text_.Line("CommitProducts();");
    text_.Open("if (step + {} < last_step)", ahead);
    text_.Line("load_a(step + {});", ahead);
    text_.Line("load_b(step + {});", ahead);
    text_.Close();
    text_.Line("CommitCopies();");
    text_.Line("WaitProducts<{}>();", NumInFlight());
    text_.Close();
  }

  void WriteSums() {
    text_.Line("WaitProducts<0>();");
    text_.Line("WaitCopies<0>();");
    text_.Line("__syncthreads();");
    text_.Line("float* const sums = reinterpret_cast<float*>(ring);");
    text_.OpenLoop("i", NumTiles());
    text_.OpenLoop("e", NumSums() / 2);
    text_.Line(
        "const unsigned row = (warpgroup * {} + i) * 64 + threadIdx.x % {} / 32 * 16 + "
        "lane / 4 + e % 2 * 8;",
        NumTiles(), kWarpgroup);
    text_.Line("const Vec<float, 2> pair = {{sum[i][e * 2], sum[i][e * 2 + 1]}};");
    text_.Line("Store(sums + row * {} + e / 2 * 8 + lane % 4 * 2, pair);", Pitch());
    text_.Close();
    text_.Close();
    text_.Line("__syncthreads();");
  }

  const CudaSite& site_;
  const Mma& mma_;
  Shape shape_;
  MmaTile tile_;
  KernelText& text_;
};

CudaKernel MakeWgmmaKernel(const CudaSite& site, const Attrs& variant) {
  std::optional<Shape> shape = MakeShape(static_cast<int>(variant.GetInt("tile_m")),
                                         static_cast<int>(variant.GetInt("tile_n")));
  std::optional<Mma> mma = FindMma(site);
  if (mma && shape) return WgmmaWriter(site, *mma, *shape).Write();
  // Symbolic sizes along which nothing is known to be aligned.
  const KernelFamily& plain = site.kind == "conv" ? kConvFamily : kGemmFamily;
  return plain.make(site, plain.find_variants(site).back());
}

}  // namespace

const KernelFamily kWgmmaFamily = {"wgmma", FindWgmmaVariants, MakeWgmmaKernel};

}  // namespace stator
