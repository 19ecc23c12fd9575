// Scaled dot-product attention in 16 bits on tensor cores, in one pass over the keys (Dao 2023,
// "FlashAttention-2").
//
// A warp has 16 queries of a head in registers, and scores 64 keys at once; their weights are the
// operand of the product with the values as they lie. Tiles of keys and values lie in shared memory
// and are shared by the block's warps, the next one copied meanwhile. With grouped heads, a mask of
// any dtype, or a causal bound, and pointwise nodes behind; sums and softmax in float.
#include <algorithm>

#include "codegen/attention_site.h"
#include "codegen/families.h"

namespace stator {
namespace {

constexpr int kTile = 64;   // keys
constexpr int kRows = 16;   // queries of a warp
constexpr int kChunk = 8;   // elements of 16 bytes, the unit of a copy
constexpr int kDepth = 16;  // of a product of a tensor core
constexpr int kMaxWarps = 4;
constexpr int64_t kMaxWidth = 128;

bool HasCopiedRows(const KernelOperand& operand) {
  for (size_t d = 0; d + 1 < operand.strides.size(); ++d) {
    bool is_one = operand.dims[d] == Dim(1);
    if (!is_one && !IsMultiple(operand.strides[d], kChunk)) return false;
  }
  return operand.strides.back() == Dim(1) && operand.alignment % 16 == 0 &&
         IsMultiple(operand.dims.back(), kChunk);
}

std::optional<AttentionSite> FindMmaAttention(const CudaSite& site) {
  std::optional<AttentionSite> found = FindAttention(site);
  if (!found || found->width > kMaxWidth || found->value_width > kMaxWidth) return std::nullopt;
  DType dtype = found->q->dtype;
  if (dtype != DType::kFloat16 && dtype != DType::kBFloat16) return std::nullopt;
  for (const KernelOperand* operand : {found->q, found->k, found->v}) {
    if (operand->dtype != dtype || !HasCopiedRows(*operand)) return std::nullopt;
  }
  return found;
}

// A row of a tile, in elements: whole depths, and a chunk more, so that the same chunk of eight
// rows, which LoadMatrices reads at once, lies in eight places.
int64_t PaddedWidth(int64_t width) { return (width + kDepth - 1) / kDepth * kDepth; }
int64_t Pitch(int64_t width) { return PaddedWidth(width) + kChunk; }

bool IsOneTile(const AttentionSite& site) {
  return site.keys.is_static() && site.keys.value() <= kTile;
}

int64_t FindSmem(const AttentionSite& site, int warps) {
  int64_t stages = IsOneTile(site) ? 1 : 2;
  return 2 * (warps * kRows * Pitch(site.width) +
              stages * kTile * (Pitch(site.width) + Pitch(site.value_width)));
}

std::vector<Attrs> FindMmaAttentionVariants(const CudaSite& site) {
  std::optional<AttentionSite> found = FindMmaAttention(site);
  if (!found || FindSmem(*found, kMaxWarps) > site.target.max_smem_per_block) return {};
  std::vector<Attrs> variants;
  Dim heads = found->num_heads();
  for (int warps = kMaxWarps; warps >= 1; warps /= 2) {
    variants.push_back({{"warps", Dim(warps)}});
    Dim blocks = heads * CeilDiv(found->length, warps * kRows);
    if (!blocks.is_static() || blocks.value() >= site.target.num_sms) break;
  }
  return variants;
}

class MmaAttentionWriter {
 public:
  MmaAttentionWriter(const CudaSite& site, const AttentionSite& found, const Attrs& variant)
      : site_(site),
        found_(found),
        text_(site),
        warps_(static_cast<int>(variant.GetInt("warps"))),
        vec_(OutputText::FindVec(site, found.body, found.rank - 1, 2)),
        output_(text_, found.body, AttentionNames(found), vec_),
        type_(ElementType(found.q->dtype)),
        stages_(IsOneTile(found) ? 1 : 2) {}

  CudaKernel Write() {
    WritePosition();
    WriteCopies();
    WriteStart();
    std::string end = text_.Size(found_.keys);
    if (found_.causal) end = fmt::format("min(Index({}), q0 + {})", end, Queries());
    text_.Line("const Index end = {};", end);
    text_.Open("for (Index key0 = 0; key0 < end; key0 += {})", kTile);
    WriteStage();
    WriteScores();
    WriteSoftmax();
    WriteValues();
    text_.Close();
    WriteOutput();
    return text_.Finish(EntryName("mma_attention", site_.body),
                        {CeilDiv(found_.length, Queries()) * found_.num_heads()}, 32 * warps_,
                        static_cast<int>(FindSmem(found_, warps_)));
  }

 private:
  int Queries() const { return warps_ * kRows; }
  int64_t StageElements() const {
    return kTile * (Pitch(found_.width) + Pitch(found_.value_width));
  }

  void WritePosition() {
    text_.Line("{0}* const q_tile = reinterpret_cast<{0}*>(DynamicShared());", type_);
    text_.Line("{}* const stages = q_tile + {};", type_, Queries() * Pitch(found_.width));
    WriteHead(text_, found_, Queries());
    text_.Line("const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;");
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
  }

  // Begins to copy `rows` rows of operand `i` from `first` on; zeros outside.
  void WriteCopy(size_t i, const std::string& head, int rows, int64_t width, const std::string& to,
                 const std::string& first, const Dim& count) {
    int64_t chunks = PaddedWidth(width) / kChunk;
    text_.Open("for (unsigned at = threadIdx.x; at < {}; at += {})", rows * chunks, 32 * warps_);
    text_.Line("const Index row = {} + at / {};", first, chunks);
    text_.Line("const Index e = at % {} * {};", chunks, kChunk);
    std::string inside = fmt::format("row < {}", text_.Size(count));
    if (width % kDepth != 0) inside += fmt::format(" && e < {}", width);
    text_.Line("const bool inside = {};", inside);
    std::string at = text_.input_at(found_.body.operands[i]);
    text_.Line("CopyAsync({} + at / {} * {} + e, inside ? {} : {}, inside);", to, chunks,
               Pitch(width), KernelText::At(at, OffsetInHead(text_, found_, i, head, "row", "e")),
               at);
    text_.Close();
  }

  // copy(key0): begins to copy a tile of keys and values.
  void WriteCopies() {
    text_.Open("const auto copy = [&](Index key0)");
    std::string stage =
        stages_ == 1 ? "" : fmt::format(" + key0 / {} % {} * {}", kTile, stages_, StageElements());
    text_.Line("{}* const k_to = stages{};", type_, stage);
    WriteCopy(1, "hk", kTile, found_.width, "k_to", "key0", found_.keys);
    WriteCopy(2, "hk", kTile, found_.value_width,
              fmt::format("k_to + {}", kTile * Pitch(found_.width)), "key0", found_.keys);
    text_.Line("CommitCopies();");
    text_.Close(";");
    WriteCopy(0, "h", Queries(), found_.width, "q_tile", "q0", found_.length);
    text_.Line("copy(0);");
  }

  void WriteStart() {
    text_.Line("WaitCopies<0>();");
    text_.Line("__syncthreads();");
    text_.Line("unsigned q[{}][4];", PaddedWidth(found_.width) / kDepth);
    text_.OpenLoop("i", PaddedWidth(found_.width) / kDepth);
    text_.Line(
        "LoadMatrices(q[i], q_tile + (warp * {} + lane % 16) * {} + i * 16 + lane / 16 * 8);",
        kRows, Pitch(found_.width));
    text_.Close();
    text_.Line("// Of rows lane / 4 and lane / 4 + 8 of the warp.");
    text_.Line("float sum[{}][4] = {{}}, top[2] = {{-kInfinity, -kInfinity}}, total[2] = {{}};",
               PaddedWidth(found_.value_width) / 8);
  }

  void WriteStage() {
    if (stages_ == 1) {
      text_.Line("const {}* const k_tile = stages;", type_);
    } else {
      text_.Open("if (key0 > 0)");
      text_.Line("WaitCopies<0>();");
      text_.Line("__syncthreads();");
      text_.Close();
      text_.Line("if (key0 + {0} < end) copy(key0 + {0});", kTile);
      text_.Line("const {}* const k_tile = stages + key0 / {} % {} * {};", type_, kTile, stages_,
                 StageElements());
    }
    text_.Line("const {}* const v_tile = k_tile + {};", type_, kTile * Pitch(found_.width));
  }

  // score[j][e]: of row lane / 4 + e / 2 * 8 and key j * 8 + lane % 4 * 2 + e % 2.
  void WriteScores() {
    text_.Line("float score[{}][4] = {{}};", kTile / 8);
    text_.OpenLoop("i", PaddedWidth(found_.width) / kDepth);
    text_.OpenLoop("j", kTile / 16);
    text_.Line("unsigned k[4];");
    text_.Line("LoadMatrices(k, k_tile + (j * 16 + lane / 16 * 8 + lane % 8) * {} + i * 16 +",
               Pitch(found_.width));
    text_.Line("                    lane / 8 % 2 * 8);");
    text_.Line("MultiplyAdd<{}>(score[2 * j], q[i], k[0], k[1]);", type_);
    text_.Line("MultiplyAdd<{}>(score[2 * j + 1], q[i], k[2], k[3]);", type_);
    text_.Close();
    text_.Close();
    text_.OpenLoop("j", kTile / 8);
    text_.OpenLoop("e", 4);
    text_.Line("const Index l = q0 + warp * {} + lane / 4 + e / 2 * 8;", kRows);
    text_.Line("const Index s = key0 + j * 8 + lane % 4 * 2 + e % 2;");
    std::string seen = fmt::format("s < {}", text_.Size(found_.keys));
    if (found_.causal) seen += " && s <= l";
    if (found_.mask != nullptr) seen += fmt::format(" && l < {}", text_.Size(found_.length));
    text_.Line("score[j][e] = {} ? {} : -kInfinity;", seen,
               ScoreText(text_, found_, "score[j][e]", "float"));
    text_.Close();
    text_.Close();
  }

  // The scores become weights; what was summed before is scaled to the new maximum.
  void WriteSoftmax() {
    text_.OpenLoop("r", 2);
    text_.Line("float next = top[r];");
    text_.OpenLoop("j", kTile / 8);
    text_.Line("next = maximum(next, maximum(score[j][2 * r], score[j][2 * r + 1]));");
    text_.Close();
    text_.Line("next = WarpReduce<4>(next, Max());");
    text_.Line("const float shift = next == -kInfinity ? 0.0f : next;  // no key seen yet");
    text_.Line("const float factor = exp(top[r] - shift);");
    text_.Line("top[r] = next;");
    text_.Line("total[r] *= factor;");
    text_.OpenLoop("n", PaddedWidth(found_.value_width) / 8);
    text_.Line("sum[n][2 * r] *= factor;");
    text_.Line("sum[n][2 * r + 1] *= factor;");
    text_.Close();
    text_.OpenLoop("j", kTile / 8);
    text_.OpenLoop("e", 2);
    text_.Line("const float weight = exp(score[j][2 * r + e] - shift);");
    text_.Line("score[j][2 * r + e] = weight;");
    text_.Line("total[r] += weight;");
    for (int i = 0; i < 3; ++i) text_.Close();
  }

  void WriteValues() {
    text_.OpenLoop("i", kTile / kDepth);
    text_.Line("const unsigned weights[4] = {{");
    for (const char* from : {"2 * i][0", "2 * i][2", "2 * i + 1][0", "2 * i + 1][2"}) {
      std::string second(from);
      second.back() = static_cast<char>(second.back() + 1);
      text_.Line("    Pair<{}>(score[{}], score[{}]),", type_, from, second);
    }
    text_.Line("}};");
    text_.OpenLoop("n", PaddedWidth(found_.value_width) / 16);
    text_.Line("unsigned v[4];");
    text_.Line("LoadTransposed(v, v_tile + (i * 16 + lane % 16) * {} + n * 16 + lane / 16 * 8);",
               Pitch(found_.value_width));
    text_.Line("MultiplyAdd<{}>(sum[2 * n], weights, v[0], v[1]);", type_);
    text_.Line("MultiplyAdd<{}>(sum[2 * n + 1], weights, v[2], v[3]);", type_);
    text_.Close();
    text_.Close();
  }

  void WriteOutput() {
    text_.OpenLoop("r", 2);
    text_.Line("const float all = WarpReduce<4>(total[r], Sum());");
    text_.Line("const float share = all == 0 ? 0.0f : 1 / all;");
    text_.Line("const Index l = q0 + warp * {} + lane / 4 + r * 8;", kRows);
    text_.Line("if (l >= {}) continue;", text_.Size(found_.length));
    text_.OpenLoop("n", (found_.value_width + 7) / 8);
    std::string e = "const Index e = n * 8 + lane % 4 * 2";
    if (vec_ == 2) {
      text_.Line("{};", e);
      output_.WriteResults("(sum[n][2 * r + j] * share)");
    } else {
      text_.OpenLoop("j", 2);
      text_.Line("{} + j;", e);
      output_.WriteResults("(sum[n][2 * r + j] * share)");
      text_.Close();
    }
    text_.Close();
    text_.Close();
  }

  const CudaSite& site_;
  const AttentionSite& found_;
  KernelText text_;
  int warps_, vec_;
  OutputText output_;
  std::string type_;
  int64_t stages_;
};

CudaKernel MakeMmaAttentionKernel(const CudaSite& site, const Attrs& variant) {
  if (std::optional<AttentionSite> found = FindMmaAttention(site)) {
    return MmaAttentionWriter(site, *found, variant).Write();
  }
  return kAttentionFamily.make(site, {});  // symbolic strides that may not be aligned
}

}  // namespace

const KernelFamily kMmaAttentionFamily = {"mma", FindMmaAttentionVariants, MakeMmaAttentionKernel};

}  // namespace stator
