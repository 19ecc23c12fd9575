// Matrix products y[..., M, N] = a[..., M, K] b[..., K, N], with pointwise nodes behind.
//
// Form "rows", for few rows and a matrix that is contiguous along K: a warp computes the results of
// one column, reading the matrix once; it starts with a prefetch of a constant matrix, before what
// ran before has ended. Form "tile": 64 x 64 results per block, 4 x 4 per thread, by way of tiles
// in shared memory; for any layout and dtype. Sums in float, in double for f64; integers wrap.
#include <algorithm>

#include "base/error.h"
#include "codegen/families.h"
#include "codegen/gemm_site.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kWarp = 32;
constexpr int64_t kMaxRows = 8;
constexpr int kTile = 64, kDepth = 16, kBlock = 256, kPerThread = 4, kLanes = kTile / kPerThread;

// Neighbours along K that are read at once; 0 when the form "rows" does not serve.
int FindDepthVec(const CudaSite& site, const Gemm& gemm) {
  Dim batch = 1;
  const Dims& y = site.outputs[0].dims;
  for (size_t d = 0; d < gemm.num_batch; ++d) batch = batch * y[d];
  if (!IsOneMatrix(gemm) || !(batch == Dim(1)) || !gemm.m.is_static() ||
      gemm.m.value() > kMaxRows || gemm.m.value() < 1) {
    return 0;
  }
  if (!(StrideFromEnd(*gemm.b, 2) == Dim(1)) || !(StrideFromEnd(*gemm.a, 1) == Dim(1))) return 0;
  int64_t size = static_cast<int64_t>(DTypeSize(gemm.a->dtype));
  auto fits = [&](int64_t vec) {
    return IsMultiple(gemm.k, vec) && IsMultiple(StrideFromEnd(*gemm.b, 1), vec) &&
           IsMultiple(StrideFromEnd(*gemm.a, 2), vec) && gemm.a->alignment % (vec * size) == 0 &&
           gemm.b->alignment % (vec * size) == 0;
  };
  int64_t vec = 16 / size;
  while (vec > 1 && !fits(vec)) vec /= 2;
  return static_cast<int>(vec);
}

std::vector<Attrs> FindGemmVariants(const CudaSite& site) {
  std::optional<Gemm> gemm = FindGemm(site);
  if (!gemm) return {};
  std::vector<Attrs> variants;
  if (FindDepthVec(site, *gemm) > 0) {
    variants = {{{"columns", Dim(4)}}, {{"columns", Dim(2)}}, {{"columns", Dim(8)}}};
  }
  variants.push_back({{"columns", Dim(0)}});  // tiles
  return variants;
}

class GemmWriter {
 public:
  GemmWriter(const CudaSite& site, const Attrs& variant)
      : site_(site),
        gemm_(*FindGemm(site)),
        text_(site),
        output_(text_, gemm_.body, Names(), 1),
        columns_(variant.GetInt("columns")),
        type_(ComputeType(gemm_.a->dtype)),
        a_at_(text_.input_at(gemm_.body.operands[0])),
        b_at_(text_.input_at(gemm_.body.operands[1])) {}

  CudaKernel Write() {
    int vec = FindDepthVec(site_, gemm_);
    return columns_ > 0 && vec > 0 ? WriteRows(vec) : WriteTiles();
  }

 private:
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (size_t d = 0; d < gemm_.num_batch; ++d) names.push_back(fmt::format("b{}", d));
    names.push_back("m");
    names.push_back("n");
    return names;
  }

  std::string OffsetOf(const Dims& batch, std::vector<KernelText::Term> terms) {
    for (size_t d = 0; d < batch.size(); ++d) terms.push_back({fmt::format("b{}", d), batch[d]});
    return text_.Offset(terms);
  }
  std::string OffsetOfA(const std::string& m, const std::string& k) {
    return OffsetOf(gemm_.a_batch,
                    {{m, StrideFromEnd(*gemm_.a, 2)}, {k, StrideFromEnd(*gemm_.a, 1)}});
  }
  std::string OffsetOfB(const std::string& k, const std::string& n) {
    return OffsetOf(gemm_.b_batch,
                    {{k, StrideFromEnd(*gemm_.b, 2)}, {n, StrideFromEnd(*gemm_.b, 1)}});
  }

  CudaKernel WriteRows(int vec) {
    int64_t rows = gemm_.m.value(), step = int64_t{vec} * kWarp;
    std::string depth = text_.Size(gemm_.k);
    text_.Line("const Index n = Index(blockIdx.x) * {} + threadIdx.x / 32;", columns_);
    text_.Line("const Index first = threadIdx.x % 32{};",
               vec == 1 ? "" : fmt::format(" * {}", vec));
    text_.Line("if (n >= {}) return;", text_.Size(gemm_.n));
    for (size_t d = 0; d < gemm_.num_batch; ++d) text_.Line("constexpr Index b{} = 0;", d);
    text_.Line("LaunchDependents();");
    if (gemm_.b->constant) {
      text_.Open("for (Index k = first; k < {}; k += {})", depth, step);
      text_.Line("PrefetchL2({} + {});", b_at_, OffsetOfB("k", "n"));
      text_.Close();
    }
    text_.Line("WaitForInputs();");
    text_.Line("{} sum[{}];", type_, rows);
    text_.OpenLoop("r", rows);
    text_.Line("sum[r] = 0;");
    text_.Close();
    text_.Line("#pragma unroll 4");
    text_.Open("for (Index k = first; k < {}; k += {})", depth, step);
    text_.Line("const auto b_vec = Load<{}>({} + {});", vec, b_at_, OffsetOfB("k", "n"));
    text_.OpenLoop("r", rows);
    text_.Line("const auto a_vec = Load<{}>({} + {});", vec, a_at_, OffsetOfA("Index(r)", "k"));
    text_.OpenLoop("j", vec);
    text_.Line("sum[r] = sum[r] + ToCompute(a_vec[j]) * ToCompute(b_vec[j]);");
    text_.Close();
    text_.Close();
    text_.Close();
    text_.OpenLoop("r", rows);
    text_.Line("sum[r] = WarpReduce<32>(sum[r], Sum());");
    text_.Close();
    // Lane r writes row r.
    text_.Line("const Index m = threadIdx.x % 32;");
    text_.Open("if (m < {})", rows);
    text_.Line("{} result = sum[0];", type_);
    text_.OpenLoop("r", rows);
    text_.Line("if (m == r) result = sum[r];");
    text_.Close();
    output_.WriteResults("result");
    text_.Close();
    return text_.Finish(EntryName("gemv", site_.body), {CeilDiv(gemm_.n, columns_)},
                        static_cast<int>(columns_ * kWarp));
  }

  CudaKernel WriteTiles() {
    Dim m_tiles = CeilDiv(gemm_.m, kTile), n_tiles = CeilDiv(gemm_.n, kTile), batch = 1;
    text_.Line("__shared__ {} a_tile[{}][{}];", type_, kDepth, kTile + 1);
    text_.Line("__shared__ {} b_tile[{}][{}];", type_, kDepth, kTile + 1);
    text_.Line("const Index tile = blockIdx.x;");
    text_.Line("const Index m0 = tile % {} * {};", text_.Size(m_tiles), kTile);
    text_.Line("const Index n0 = tile / {} % {} * {};", text_.Size(m_tiles), text_.Size(n_tiles),
               kTile);
    LoopDims batches;
    std::vector<std::string> names;
    for (size_t d = 0; d < gemm_.num_batch; ++d) {
      batches.dims.push_back(site_.outputs[0].dims[d]);
      names.push_back(fmt::format("b{}", d));
    }
    if (!names.empty()) {
      batch = batches.count();
      text_.Line("const Index stack = tile / {};", text_.Size(m_tiles * n_tiles));
      WriteCoordinates(text_, batches, "stack", names, std::vector<bool>(names.size(), true));
    }
    text_.Line("const unsigned row = threadIdx.x / {0}, column = threadIdx.x % {0};", kLanes);
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
    text_.Line("{} sum[{}][{}];", type_, kPerThread, kPerThread);
    text_.OpenLoop("i", kPerThread);
    text_.OpenLoop("j", kPerThread);
    text_.Line("sum[i][j] = 0;");
    text_.Close();
    text_.Close();
    text_.Open("for (Index k0 = 0; k0 < {}; k0 += {})", text_.Size(gemm_.k), kDepth);
    WriteTileRead("a", "m", gemm_.m, StrideFromEnd(*gemm_.a, 1) == Dim(1), a_at_,
                  OffsetOfA("m", "k"));
    WriteTileRead("b", "n", gemm_.n, StrideFromEnd(*gemm_.b, 2) == Dim(1), b_at_,
                  OffsetOfB("k", "n"));
    text_.Line("__syncthreads();");
    text_.OpenLoop("k", kDepth);
    text_.OpenLoop("i", kPerThread);
    text_.OpenLoop("j", kPerThread);
    text_.Line("sum[i][j] = sum[i][j] + a_tile[k][row + {0} * i] * b_tile[k][column + {0} * j];",
               kLanes);
    for (int i = 0; i < 3; ++i) text_.Close();
    text_.Line("__syncthreads();");
    text_.Close();
    text_.OpenLoop("i", kPerThread);
    text_.OpenLoop("j", kPerThread);
    text_.Line("const Index m = m0 + row + {0} * i, n = n0 + column + {0} * j;", kLanes);
    text_.Open("if (m < {} && n < {})", text_.Size(gemm_.m), text_.Size(gemm_.n));
    output_.WriteResults("sum[i][j]");
    for (int i = 0; i < 3; ++i) text_.Close();
    return text_.Finish(EntryName("gemm", site_.body), {m_tiles * n_tiles * batch}, kBlock);
  }

  // Threads read neighbours in memory: along K, or along the other dim (`name`).
  void WriteTileRead(std::string_view matrix, std::string_view name, const Dim& size,
                     bool along_depth, const std::string& at, const std::string& offset) {
    text_.Open("for (unsigned e = threadIdx.x; e < {}; e += {})", kTile * kDepth, kBlock);
    std::string inner_depth =
        along_depth ? fmt::format("e % {}", kDepth) : fmt::format("e / {}", kTile);
    std::string inner_other =
        along_depth ? fmt::format("e / {}", kDepth) : fmt::format("e % {}", kTile);
    text_.Line("const unsigned tile_k = {}, tile_{} = {};", inner_depth, name, inner_other);
    text_.Line("const Index k = k0 + tile_k, {0} = {0}0 + tile_{0};", name);
    text_.Line("const bool inside = k < {} && {} < {};", text_.Size(gemm_.k), name,
               text_.Size(size));
    text_.Line("{0}_tile[tile_k][tile_{1}] = inside ? ToCompute({2}[{3}]) : {4}(0);", matrix, name,
               at, offset, type_);
    text_.Close();
  }

  const CudaSite& site_;
  Gemm gemm_;
  KernelText text_;
  OutputText output_;
  int64_t columns_;
  std::string type_, a_at_, b_at_;
};

CudaKernel MakeGemmKernel(const CudaSite& site, const Attrs& variant) {
  return GemmWriter(site, variant).Write();
}

}  // namespace

const KernelFamily kGemmFamily = {"gemm", FindGemmVariants, MakeGemmKernel};

}  // namespace stator
