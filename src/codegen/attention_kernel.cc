// Scaled dot-product attention in one pass over the keys, with running maximum and sum (Dao et al.
// 2022, "FlashAttention").
//
// A block of 4 warps has 16 queries of a head, 4 per warp. Tiles of 32 keys and values lie in
// shared memory; a lane computes the score of one key, and then the columns of the result that are
// its own. For any layout, with grouped heads, a mask or a causal bound; computed in float, in
// double for f64.
#include "codegen/attention_site.h"
#include "codegen/families.h"

namespace stator {
namespace {

constexpr int kWarp = 32, kWarps = 4, kPerWarp = 4, kQueries = kWarps * kPerWarp;

// Bytes of the tiles of keys, values and queries.
int64_t FindSmem(const AttentionSite& attention) {
  int64_t size = attention.q->dtype == DType::kFloat64 ? 8 : 4;
  return size * (kWarp * (attention.width + 1) + kWarp * attention.value_width +
                 kQueries * attention.width);
}

std::vector<Attrs> FindAttentionVariants(const CudaSite& site) {
  std::optional<AttentionSite> found = FindAttention(site);
  if (!found || FindSmem(*found) > site.target.max_smem_per_block) return {};
  return {Attrs{}};
}

class AttentionWriter {
 public:
  explicit AttentionWriter(const CudaSite& site)
      : site_(site),
        found_(*FindAttention(site)),
        text_(site),
        output_(text_, found_.body, AttentionNames(found_), 1),
        type_(found_.q->dtype == DType::kFloat64 ? "double" : "float"),
        num_columns_((found_.value_width + kWarp - 1) / kWarp) {}

  CudaKernel Write() {
    WritePosition();
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
    WriteTile("q", kQueries, found_.width, found_.width, "q0", found_.length, ElementOf(0, "h"));
    text_.Line("{0} top[{1}], total[{1}], sum[{1}][{2}];", type_, kPerWarp, num_columns_);
    text_.OpenLoop("r", kPerWarp);
    text_.Line("top[r] = -kInfinity;");
    text_.Line("total[r] = 0;");
    text_.OpenLoop("c", num_columns_);
    text_.Line("sum[r][c] = 0;");
    text_.Close();
    text_.Close();
    std::string end = text_.Size(found_.keys);
    if (found_.causal) end = fmt::format("min({}, q0 + {})", end, kQueries);
    text_.Line("const Index end = {};", end);
    text_.Open("for (Index key0 = 0; key0 < end; key0 += {})", kWarp);
    text_.Line("__syncthreads();");
    WriteTile("k", kWarp, found_.width, found_.width + 1, "key0", found_.keys, ElementOf(1, "hk"));
    WriteTile("v", kWarp, found_.value_width, found_.value_width, "key0", found_.keys,
              ElementOf(2, "hk"));
    text_.Line("__syncthreads();");
    text_.OpenLoop("r", kPerWarp);
    WriteScore();
    WriteUpdate();
    text_.Close();
    text_.Close();
    WriteOutput();
    return text_.Finish(EntryName("attention", site_.body),
                        {CeilDiv(found_.length, kQueries) * found_.num_heads()}, kWarps * kWarp,
                        static_cast<int>(FindSmem(found_)));
  }

 private:
  void WritePosition() {
    int64_t k_tile = kWarp * (found_.width + 1), v_tile = kWarp * found_.value_width;
    text_.Line("{0}* const k_tile = reinterpret_cast<{0}*>(DynamicShared());", type_);
    text_.Line("{}* const v_tile = k_tile + {};", type_, k_tile);
    text_.Line("{}* const q_tile = v_tile + {};", type_, v_tile);
    WriteHead(text_, found_, kQueries);
    text_.Line("const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;");
  }

  // Operand `i` at (b..., head, row, e).
  std::string ElementOf(size_t i, const std::string& head) {
    return fmt::format("{}[{}]", text_.input_at(found_.body.operands[i]),
                       OffsetInHead(text_, found_, i, head, "row", "e"));
  }

  // Reads `rows` rows from `first` on into a tile; zeros behind the last one.
  void WriteTile(std::string_view name, int rows, int64_t width, int64_t pitch,
                 std::string_view first, const Dim& count, const std::string& element) {
    if (width == 0) return;
    text_.Open("for (unsigned at = threadIdx.x; at < {}; at += {})", rows * width, kWarps * kWarp);
    text_.Line("const Index e = at % {}, row = {} + at / {};", width, first, width);
    text_.Line("{}_tile[at / {} * {} + e] = row < {} ? ToCompute({}) : {}(0);", name, width, pitch,
               text_.Size(count), element, type_);
    text_.Close();
  }

  // score: of the lane's key for query l.
  void WriteScore() {
    text_.Line("const Index l = q0 + warp * {} + r, s = key0 + lane;", kPerWarp);
    text_.Line("{} dot = 0;", type_);
    text_.Open("for (int e = 0; e < {}; ++e)", found_.width);
    text_.Line("dot += q_tile[(warp * {} + r) * {} + e] * k_tile[lane * {} + e];", kPerWarp,
               found_.width, found_.width + 1);
    text_.Close();
    text_.Line("const bool seen = s < {} && l < {}{};", text_.Size(found_.keys),
               text_.Size(found_.length), found_.causal ? " && s <= l" : "");
    text_.Line("{} score = -kInfinity;", type_);
    text_.Line("if (seen) score = {};", ScoreText(text_, found_, "dot", type_));
  }

  void WriteUpdate() {
    text_.Line("const {} next = maximum(top[r], WarpReduce<32>(score, Max()));", type_);
    text_.Line("const {0} shift = next == -kInfinity ? {0}(0) : next;  // no key seen yet", type_);
    text_.Line("const {} factor = exp(top[r] - shift), weight = exp(score - shift);", type_);
    text_.Line("total[r] = total[r] * factor + WarpReduce<32>(weight, Sum());");
    text_.Line("top[r] = next;");
    text_.OpenLoop("c", num_columns_);
    text_.Line("sum[r][c] *= factor;");
    text_.Close();
    text_.Open("for (int key = 0; key < {}; ++key)", kWarp);
    text_.Line("const {} of_key = __shfl_sync(0xffffffffu, weight, key);", type_);
    text_.OpenLoop("c", num_columns_);
    text_.Line("const unsigned e = lane + {} * c;", kWarp);
    std::string inside =
        found_.value_width % kWarp == 0 ? "" : fmt::format("if (e < {}) ", found_.value_width);
    text_.Line("{}sum[r][c] += of_key * v_tile[key * {} + e];", inside, found_.value_width);
    text_.Close();
    text_.Close();
  }

  void WriteOutput() {
    text_.OpenLoop("r", kPerWarp);
    text_.OpenLoop("c", num_columns_);
    text_.Line("const Index l = q0 + warp * {} + r, e = lane + {} * c;", kPerWarp, kWarp);
    text_.Open("if (l < {} && e < {})", text_.Size(found_.length), found_.value_width);
    output_.WriteResults(fmt::format("(total[r] == 0 ? {}(0) : sum[r][c] / total[r])", type_));
    for (int i = 0; i < 3; ++i) text_.Close();
  }

  const CudaSite& site_;
  AttentionSite found_;
  KernelText text_;
  OutputText output_;
  std::string type_;
  int64_t num_columns_;
};

CudaKernel MakeAttentionKernel(const CudaSite& site, const Attrs&) {
  return AttentionWriter(site).Write();
}

}  // namespace

const KernelFamily kAttentionFamily = {"attention", FindAttentionVariants, MakeAttentionKernel};

}  // namespace stator
