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
#include "codegen/gemm_site.h"
#include "codegen/window_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kThreads = 128;
constexpr int kDepth = 64;  // of a stage, in elements of a and b: 128 bytes
constexpr int kStages = 4;  //
constexpr int kChunk = 8;   // elements of 16 bytes, the unit of a copy
constexpr int kRowBytes = kDepth * 2;
constexpr int kRowsAtOnce = kThreads / (kDepth / kChunk);  // that all threads copy with one each
constexpr int kMinRows = 9;   // fewer are better read once by a warp for each column
constexpr int kMaxSplit = 8;  // the largest cluster that every device has

struct Mma {
  AnchoredBody body;
  bool is_conv = false;
  const KernelOperand *a = nullptr, *b = nullptr;
  Dims a_batch;                    // of a product: a's strides over the leading dims of the output
  LoopDims rows;                   // the output's dims but that of n
  std::vector<std::string> names;  // of the output's dims
  size_t n_dim = 0;                // of the output
  Dim n, k;
  int64_t n_size = 0, k_size = 0;
  bool b_along_k = true;  // b is contiguous along k, else along n
  Dim b_stride;           // along the other one
};

bool IsNarrow(const KernelOperand& operand) {
  return (operand.dtype == DType::kFloat16 || operand.dtype == DType::kBFloat16) &&
         operand.alignment % 16 == 0;
}

// Whether each stride but that of `inner`, which is 1, leaves chunks aligned.
bool HasAlignedChunks(const KernelOperand& operand, size_t inner) {
  for (size_t d = 0; d < operand.strides.size(); ++d) {
    bool is_one = operand.dims[d] == Dim(1);
    if (d == inner ? !(operand.strides[d] == Dim(1))
                   : !is_one && !IsMultiple(operand.strides[d], kChunk)) {
      return false;
    }
  }
  return IsMultiple(operand.dims[inner], kChunk);
}

bool FindProduct(const CudaSite& site, Mma& mma) {
  std::optional<Gemm> gemm = FindGemm(site);
  if (!gemm || !IsOneMatrix(*gemm)) return false;
  mma.body = gemm->body;
  mma.a = gemm->a;
  mma.b = gemm->b;
  mma.a_batch = gemm->a_batch;
  mma.n = gemm->n;
  mma.k = gemm->k;
  size_t rank = mma.b->dims.size();
  mma.b_along_k = StrideFromEnd(*mma.b, 2) == Dim(1);
  mma.b_stride = StrideFromEnd(*mma.b, mma.b_along_k ? 1 : 2);
  if (!HasAlignedChunks(*mma.b, mma.b_along_k ? rank - 2 : rank - 1)) return false;
  if (!HasAlignedChunks(*mma.a, mma.a->dims.size() - 1)) return false;
  for (size_t d = 0; d < gemm->num_batch; ++d) mma.names.push_back(fmt::format("b{}", d));
  mma.names.insert(mma.names.end(), {"m", "n"});
  mma.n_dim = mma.names.size() - 1;
  return true;
}

bool FindConvolution(const CudaSite& site, Mma& mma) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "conv") return false;
  const Attrs& attrs = body->anchor->attrs;
  mma.is_conv = true;
  mma.body = *body;
  mma.a = &site.inputs[body->operands[0]];
  mma.b = &site.inputs[body->operands[1]];
  const Dims& w = mma.b->dims;
  if (attrs.GetBool("transposed") || !(attrs.GetDim("groups") == Dim(1))) return false;
  mma.n = w[0];
  mma.k = NumElements(w) == Dim(0) ? Dim(0) : w[1];
  // The weight's window and channels as one dim.
  for (size_t d = w.size(); d-- > 2;) {
    if (!(w[d] == Dim(1)) && !(mma.b->strides[d] == mma.k)) return false;
    mma.k = mma.k * w[d];
  }
  mma.b_stride = mma.b->strides[0];
  if (!HasAlignedChunks(*mma.a, 1) || !HasAlignedChunks(*mma.b, 1)) return false;
  mma.names = {"image", "n"};  // n: the output's channel
  for (size_t d = 2; d < w.size(); ++d) mma.names.push_back(fmt::format("p{}", d - 2));
  mma.n_dim = 1;
  return true;
}

std::optional<Mma> FindMma(const CudaSite& site) {
  Mma mma;
  if (!FindProduct(site, mma)) {
    mma = {};
    if (!FindConvolution(site, mma)) return std::nullopt;
  }
  if (!IsNarrow(*mma.a) || !IsNarrow(*mma.b) || mma.a->dtype != mma.b->dtype) return std::nullopt;
  if (!mma.n.is_static() || !mma.k.is_static()) return std::nullopt;
  mma.n_size = mma.n.value();
  mma.k_size = mma.k.value();
  if (mma.n_size == 0 || mma.k_size == 0) return std::nullopt;
  const Dims& y = site.outputs[0].dims;
  for (size_t d = 0; d < y.size(); ++d) {
    if (d != mma.n_dim) mma.rows.dims.push_back(y[d]);
  }
  return mma;
}

std::vector<Attrs> FindMmaVariants(const CudaSite& site) {
  std::optional<Mma> mma = FindMma(site);
  if (!mma || !mma->rows.count().is_static()) return {};
  int64_t rows = mma->rows.count().value(), n = mma->n_size;
  if (rows < kMinRows) return {};
  int64_t steps = (mma->k_size + kDepth - 1) / kDepth;
  std::vector<Attrs> variants;
  auto add = [&](int64_t tile_m, int64_t tile_n) {
    if (!mma->b_along_k && tile_n != kDepth) return;
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
        text_(site),
        tile_m_(static_cast<int>(variant.GetInt("tile_m"))),
        tile_n_(static_cast<int>(variant.GetInt("tile_n"))),
        split_(static_cast<int>(variant.GetInt("split"))),
        vec_(OutputText::FindVec(site, mma.body, mma.n_dim, kChunk)),
        output_(text_, mma_.body, mma_.names, vec_),
        position_(PositionType(site)),
        a_at_(text_.input_at(mma.body.operands[0])),
        b_at_(text_.input_at(mma.body.operands[1])) {}

  CudaKernel Write() {
    Dim m_tiles = CeilDiv(mma_.rows.count(), tile_m_);
    int64_t n_tiles = (mma_.n_size + tile_n_ - 1) / tile_n_;
    WritePosition(m_tiles);
    WriteRowsOfA();
    WriteRing();
    WriteLoop();
    WriteSums();
    WriteOutput();
    return text_.Finish(EntryName(mma_.is_conv ? "mma_conv" : "mma", site_.body),
                        {m_tiles * n_tiles * split_}, kThreads, kStages * StageBytes(), split_);
  }

 private:
  int ABytes() const { return tile_m_ * kRowBytes; }
  int StageBytes() const {
    return ABytes() + (mma_.b_along_k ? tile_n_ * kRowBytes : kDepth * tile_n_ * 2);
  }
  int64_t NumSteps() const { return (mma_.k_size + kDepth - 1) / kDepth; }

  void WritePosition(const Dim& m_tiles) {
    text_.Line("unsigned char* const ring = DynamicShared();");
    text_.Line("const unsigned part = blockIdx.x % {};", split_);
    text_.Line("const Index tile = blockIdx.x / {};", split_);
    text_.Line("const Index row0 = tile % {0} * {1}, n0 = tile / {0} * {2};", text_.Size(m_tiles),
               tile_m_, tile_n_);
    text_.Line("const unsigned first_step = part * {0} / {1}, last_step = (part + 1) * {0} / {1};",
               NumSteps(), split_);
    text_.Line("const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;");
    text_.Line("const unsigned warp_m = warp / 2 * {}, warp_n = warp % 2 * {};", tile_m_ / 2,
               tile_n_ / 2);
    text_.Line("// A thread copies one chunk of every {}th row. The same chunk of 8 rows, which",
               kRowsAtOnce);
    text_.Line("// LoadMatrices reads at once, lies in 8 places.");
    text_.Line("const unsigned my_row = threadIdx.x / 8, my_chunk = threadIdx.x % 8;");
    text_.Line("const unsigned place = my_row * {} + (my_chunk ^ my_row % 8) * 16;", kRowBytes);
    text_.Line("LaunchDependents();");
  }

  // Coordinates of the output's row `row`.
  void WriteRow() {
    std::vector<std::string> names = mma_.names;
    names.erase(names.begin() + static_cast<std::ptrdiff_t>(mma_.n_dim));
    WriteCoordinates(text_, mma_.rows, "row", names, std::vector<bool>(names.size(), true));
  }

  // a_row[i]: where the thread's row of a begins; of a convolution, the image, and q0[i], q1[i],
  // ... the window's first position in it.
  void WriteRowsOfA() {
    int count = tile_m_ / kRowsAtOnce;
    text_.Line("const {}* a_row[{}];", ElementType(mma_.a->dtype), count);
    text_.Line("bool has_row[{}];", count);
    const Attrs& attrs = mma_.body.anchor->attrs;
    size_t num_spatial = mma_.is_conv ? mma_.a->dims.size() - 2 : 0;
    for (size_t d = 0; d < num_spatial; ++d) {
      text_.Line("{} start{}[{}];", position_, d, count);
    }
    text_.OpenLoop("i", count);
    text_.Line("const Index row = row0 + my_row + {} * i;", kRowsAtOnce);
    WriteRow();
    text_.Line("has_row[i] = row < {};", text_.Size(mma_.rows.count()));
    std::vector<KernelText::Term> terms;
    if (mma_.is_conv) {
      terms.push_back({"image", mma_.a->strides[0]});
      for (size_t d = 0; d < num_spatial; ++d) {
        text_.Line("start{0}[i] = {1}(p{0}) * {2} - {3};", d, position_, attrs.GetInts("stride")[d],
                   attrs.GetInts("padding")[d]);
      }
    } else {
      for (size_t d = 0; d < mma_.a_batch.size(); ++d) {
        terms.push_back({fmt::format("b{}", d), mma_.a_batch[d]});
      }
      terms.push_back({"m", StrideFromEnd(*mma_.a, 2)});
    }
    text_.Line("a_row[i] = {};", KernelText::At(a_at_, text_.Offset(terms)));
    text_.Close();
  }

  // load_a and load_b: begin to copy a step's tiles into its stage.
  void WriteRing() {
    text_.Open("const auto load_a = [&](unsigned step)");
    text_.Line("unsigned char* const to = ring + (step - first_step) % {} * {} + place;", kStages,
               StageBytes());
    text_.Line("const Index k = step * {} + my_chunk * {};", kDepth, kChunk);
    text_.Line("const bool has_k = k < {};", mma_.k_size);
    if (mma_.is_conv) {
      WriteWindowRead();
    } else {
      text_.OpenLoop("i", tile_m_ / kRowsAtOnce);
      text_.Line("const bool inside = has_k && has_row[i];");
      text_.Line("CopyAsync(to + i * {}, inside ? a_row[i] + k : {}, inside);",
                 kRowsAtOnce * kRowBytes, a_at_);
      text_.Close();
    }
    text_.Close(";");

    text_.Open("const auto load_b = [&](unsigned step)");
    text_.Line("unsigned char* const to = ring + (step - first_step) % {} * {} + {} + place;",
               kStages, StageBytes(), ABytes());
    bool along_k = mma_.b_along_k;
    text_.OpenLoop("i", (along_k ? tile_n_ : kDepth) / kRowsAtOnce);
    std::string other = fmt::format("my_row + {} * i", kRowsAtOnce);
    std::string chunk = fmt::format("my_chunk * {}", kChunk);
    text_.Line("const Index k = step * {} + {}, n = n0 + {};", kDepth, along_k ? chunk : other,
               along_k ? other : chunk);
    text_.Line("const bool inside = k < {} && n < {};", mma_.k_size, mma_.n_size);
    std::string offset = text_.Offset({{along_k ? "n" : "k", mma_.b_stride}});
    text_.Line("CopyAsync(to + i * {}, inside ? {} + {} : {}, inside);", kRowsAtOnce * kRowBytes,
               KernelText::At(b_at_, offset), along_k ? "k" : "n", b_at_);
    text_.Close();
    text_.Close(";");
  }

  void WriteWindowRead() {
    const Attrs& attrs = mma_.body.anchor->attrs;
    const Dims& w = mma_.b->dims;
    text_.Line("const Index tap = k / {0}, channel = k % {0};", text_.Size(w[1]));
    Dim inner = 1;
    for (size_t d = w.size() - 2; d-- > 0;) {
      std::string tap = inner == Dim(1) ? "tap" : fmt::format("tap / {}", text_.Size(inner));
      if (d > 0) tap += fmt::format(" % {}", text_.Size(w[d + 2]));
      text_.Line("const {0} move{1} = {0}({2}) * {3};", position_, d, tap,
                 attrs.GetInts("dilation")[d]);
      inner = inner * w[d + 2];
    }
    text_.OpenLoop("i", tile_m_ / kRowsAtOnce);
    std::string inside = "has_k && has_row[i]";
    std::vector<KernelText::Term> terms;
    for (size_t d = 0; d + 2 < w.size(); ++d) {
      text_.Line("const {0} q{1} = start{1}[i] + move{1};", position_, d);
      inside += fmt::format(" && q{0} >= 0 && q{0} < {1}", d, text_.Size(mma_.a->dims[d + 2]));
      terms.push_back({fmt::format("q{}", d), mma_.a->strides[d + 2]});
    }
    terms.push_back({"channel", Dim(1)});
    text_.Line("const bool inside = {};", inside);
    text_.Line("CopyAsync(to + i * {}, inside ? a_row[i] + {} : {}, inside);",
               kRowsAtOnce * kRowBytes, text_.Offset(terms), a_at_);
    text_.Close();
  }

  // sum[i][j]: the warp's tiles of 16 rows and 8 columns.
  void WriteLoop() {
    int num_m = tile_m_ / 32, num_n = tile_n_ / 16;
    text_.Line("const unsigned ahead = min(first_step + {}, last_step);", kStages - 1);
    if (mma_.b->constant) {
      text_.Line("for (unsigned step = first_step; step < ahead; ++step) load_b(step);");
    }
    text_.Line("WaitForInputs();");
    text_.Line("#pragma unroll");
    text_.Open("for (unsigned i = 0; i < {}; ++i)", kStages - 1);
    text_.Open("if (first_step + i < ahead)");
    text_.Line("load_a(first_step + i);");
    if (!mma_.b->constant) text_.Line("load_b(first_step + i);");
    text_.Close();
    text_.Line("CommitCopies();");
    text_.Close();
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
               StageBytes());
    text_.Line("const unsigned char* const b_tile = a_tile + {};", ABytes());
    text_.OpenLoop("k", kDepth / 16);
    text_.Line("unsigned a[{}][4], b[{}][4];", num_m, num_n / 2);
    text_.OpenLoop("i", num_m);
    text_.Line("const unsigned row = warp_m + i * 16 + lane % 16;");
    text_.Line("LoadMatrices(a[i], a_tile + row * {} + ((k * 2 + lane / 16) ^ lane % 8) * 16);",
               kRowBytes);
    text_.Close();
    text_.OpenLoop("j", num_n / 2);
    if (mma_.b_along_k) {
      text_.Line("const unsigned row = warp_n + j * 16 + lane / 16 * 8 + lane % 8;");
      text_.Line(
          "LoadMatrices(b[j], b_tile + row * {} + ((k * 2 + lane / 8 % 2) ^ lane % 8) * 16);",
          kRowBytes);
    } else {
      text_.Line("const unsigned row = k * 16 + lane % 16;");
      text_.Line("const unsigned chunk = warp_n / 8 + j * 2 + lane / 16;");
      text_.Line("LoadTransposed(b[j], b_tile + row * {} + (chunk ^ lane % 8) * 16);", kRowBytes);
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

  void WriteOutput() {
    int rows = tile_m_ / split_, vectors = tile_n_ / vec_;
    text_.Open("for (unsigned at = threadIdx.x; at < {}; at += {})", rows * vectors, kThreads);
    std::string first = split_ == 1 ? "" : fmt::format("part * {} + ", rows);
    text_.Line("const unsigned tile_row = {}at / {}, column = at % {} * {};", first, vectors,
               vectors, vec_);
    text_.Line("const Index row = row0 + tile_row, n = n0 + column;");
    text_.Open("if (row < {} && n < {})", text_.Size(mma_.rows.count()), mma_.n_size);
    WriteRow();
    text_.Line("const float* const mine = sums + tile_row * {} + column;", Pitch());
    text_.Line("auto total = {};", split_ == 1 ? fmt::format("Load<{}>(mine)", vec_)
                                               : fmt::format("LoadFromBlock<{}>(mine, 0)", vec_));
    if (split_ > 1) {
      text_.Line("#pragma unroll");
      text_.Open("for (int other = 1; other < {}; ++other)", split_);
      text_.Line("const auto more = LoadFromBlock<{}>(mine, other);", vec_);
      text_.OpenLoop("j", vec_);
      text_.Line("total[j] += more[j];");
      text_.Close();
      text_.Close();
    }
    bool has_bias = mma_.is_conv && mma_.body.operands.size() > 2 && mma_.body.operands[2] >= 0;
    if (has_bias) {
      text_.OpenLoop("j", vec_);
      int bias = mma_.body.operands[2];
      text_.Line("total[j] += ToCompute({}[{}]);", text_.input_at(bias),
                 text_.Offset({{"(n + j)", site_.inputs[bias].strides[0]}}));
      text_.Close();
    }
    if (vec_ == 1) text_.Line("constexpr int j = 0;");
    output_.WriteResults("total[j]");
    text_.Close();
    text_.Close();
    if (split_ > 1) text_.Line("ClusterSync();  // the others read this block's sums");
  }

  const CudaSite& site_;
  const Mma& mma_;
  KernelText text_;
  int tile_m_, tile_n_, split_, vec_;
  OutputText output_;
  std::string position_, a_at_, b_at_;
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
