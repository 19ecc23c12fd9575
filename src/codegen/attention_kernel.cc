// Scaled dot-product attention in one pass over the keys, with running maximum and sum (Dao et al.
// 2022, "FlashAttention").
//
// A block of 4 warps has 16 queries of a head, 4 per warp. Tiles of 32 keys and values lie in
// shared memory; a lane computes the score of one key, and then the columns of the result that are
// its own. For any layout, with grouped heads, a mask or a causal bound; computed in float, in
// double for f64.
#include "base/error.h"
#include "codegen/families.h"
#include "codegen/output_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kWarp = 32, kWarps = 4, kPerWarp = 4, kQueries = kWarps * kPerWarp;
constexpr int64_t kMaxWidth = 256;

struct Attention {
  AnchoredBody body;
  const KernelOperand *q = nullptr, *k = nullptr, *v = nullptr, *mask = nullptr;
  size_t rank = 0;
  int64_t width = 0, value_width = 0;
};

std::optional<Attention> FindAttention(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "attention") return std::nullopt;
  Attention found{.body = *body};
  auto operand = [&](size_t i) { return &site.inputs[body->operands[i]]; };
  found.q = operand(0), found.k = operand(1), found.v = operand(2);
  if (body->operands.size() > 3 && body->operands[3] >= 0) found.mask = operand(3);
  found.rank = found.q->dims.size();
  const Dim &width = found.q->dims.back(), &value_width = found.v->dims.back();
  if (!width.is_static() || !value_width.is_static()) return std::nullopt;
  found.width = width.value();
  found.value_width = value_width.value();
  bool fits = found.width > 0 && found.width <= kMaxWidth && found.value_width > 0 &&
              found.value_width <= kMaxWidth;
  if (!fits) return std::nullopt;
  return found;
}

// Bytes of the tiles of keys, values and queries.
int64_t FindSmem(const Attention& attention) {
  int64_t size = attention.q->dtype == DType::kFloat64 ? 8 : 4;
  return size * (kWarp * (attention.width + 1) + kWarp * attention.value_width +
                 kQueries * attention.width);
}

std::vector<Attrs> FindAttentionVariants(const CudaSite& site) {
  std::optional<Attention> found = FindAttention(site);
  if (!found || FindSmem(*found) > site.target.max_smem_per_block) return {};
  return {Attrs{}};
}

class AttentionWriter {
 public:
  explicit AttentionWriter(const CudaSite& site)
      : site_(site),
        found_(*FindAttention(site)),
        text_(site),
        output_(text_, found_.body, Names(), 1),
        type_(found_.q->dtype == DType::kFloat64 ? "double" : "float"),
        length_(site.outputs[0].dims[found_.rank - 2]),
        keys_(found_.k->dims[found_.rank - 2]),
        causal_(found_.body.anchor->attrs.GetBool("causal")),
        num_columns_((found_.value_width + kWarp - 1) / kWarp) {}

  CudaKernel Write() {
    Dim tiles = CeilDiv(length_, kQueries);
    WritePosition(tiles);
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
    WriteTile("q", kQueries, found_.width, found_.width, "q0", length_, AddressOf(0, "h", "row"));
    text_.Line("{0} top[{1}], total[{1}], sum[{1}][{2}];", type_, kPerWarp, num_columns_);
    text_.OpenLoop("r", kPerWarp);
    text_.Line("top[r] = -kInfinity;");
    text_.Line("total[r] = 0;");
    text_.OpenLoop("c", num_columns_);
    text_.Line("sum[r][c] = 0;");
    text_.Close();
    text_.Close();
    std::string end = text_.Size(keys_);
    if (causal_) end = fmt::format("min({}, q0 + {})", end, kQueries);
    text_.Line("const Index end = {};", end);
    text_.Open("for (Index key0 = 0; key0 < end; key0 += {})", kWarp);
    text_.Line("__syncthreads();");
    WriteTile("k", kWarp, found_.width, found_.width + 1, "key0", keys_, AddressOf(1, "hk", "row"));
    WriteTile("v", kWarp, found_.value_width, found_.value_width, "key0", keys_,
              AddressOf(2, "hk", "row"));
    text_.Line("__syncthreads();");
    text_.OpenLoop("r", kPerWarp);
    WriteScore();
    WriteUpdate();
    text_.Close();
    text_.Close();
    WriteOutput();
    Dim heads = 1;
    for (size_t d = 0; d + 2 < found_.rank; ++d) heads = heads * site_.outputs[0].dims[d];
    return text_.Finish(EntryName("attention", site_.body), {tiles * heads}, kWarps * kWarp,
                        static_cast<int>(FindSmem(found_)));
  }

 private:
  // Coordinates of the output: b0, ..., h, l, e.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (size_t d = 0; d + 3 < found_.rank; ++d) names.push_back(fmt::format("b{}", d));
    for (const char* name : {"h", "l", "e"}) names.push_back(name);
    return names;
  }

  void WritePosition(const Dim& tiles) {
    int64_t k_tile = kWarp * (found_.width + 1), v_tile = kWarp * found_.value_width;
    text_.Line("{0}* const k_tile = reinterpret_cast<{0}*>(DynamicShared());", type_);
    text_.Line("{}* const v_tile = k_tile + {};", type_, k_tile);
    text_.Line("{}* const q_tile = v_tile + {};", type_, v_tile);
    text_.Line("const Index q0 = Index(blockIdx.x) % {} * {};", text_.Size(tiles), kQueries);
    text_.Line("const Index head = Index(blockIdx.x) / {};", text_.Size(tiles));
    LoopDims heads;
    for (size_t d = 0; d + 2 < found_.rank; ++d) heads.dims.push_back(site_.outputs[0].dims[d]);
    std::vector<std::string> names = Names();
    names.resize(heads.dims.size());
    WriteCoordinates(text_, heads, "head", names, std::vector<bool>(names.size(), true));
    Dim group = FloorDiv(found_.q->dims[found_.rank - 3], found_.k->dims[found_.rank - 3]);
    text_.Line("const Index hk = h / {};", text_.Size(group));
    text_.Line("const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;");
  }

  // Operand `i` at (b..., head, row, e).
  std::string AddressOf(size_t i, const std::string& head, const std::string& row) {
    const KernelOperand& operand = site_.inputs[found_.body.operands[i]];
    std::vector<KernelText::Term> terms;
    for (size_t d = 0; d + 3 < found_.rank; ++d) {
      terms.push_back({fmt::format("b{}", d), operand.strides[d]});
    }
    terms.push_back({head, operand.strides[found_.rank - 3]});
    terms.push_back({row, operand.strides[found_.rank - 2]});
    terms.push_back({"e", operand.strides[found_.rank - 1]});
    return fmt::format("{}[{}]", text_.input_at(found_.body.operands[i]), text_.Offset(terms));
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
    DType dtype = type_ == "double" ? DType::kFloat64 : DType::kFloat32;
    text_.Line("const Index l = q0 + warp * {} + r, s = key0 + lane;", kPerWarp);
    text_.Line("{} dot = 0;", type_);
    text_.Open("for (int e = 0; e < {}; ++e)", found_.width);
    text_.Line("dot += q_tile[(warp * {} + r) * {} + e] * k_tile[lane * {} + e];", kPerWarp,
               found_.width, found_.width + 1);
    text_.Close();
    text_.Line("const bool seen = s < {} && l < {}{};", text_.Size(keys_), text_.Size(length_),
               causal_ ? " && s <= l" : "");
    text_.Line("{} score = -kInfinity;", type_);
    std::string scaled =
        fmt::format("dot * {}", NumberText(dtype, found_.body.anchor->attrs.GetFloat("scale")));
    if (found_.mask == nullptr) {
      text_.Line("if (seen) score = {};", scaled);
      return;
    }
    Dims scores = found_.q->dims;
    scores.back() = keys_;
    Dims strides = BroadcastStrides(*found_.mask, scores);
    std::vector<KernelText::Term> terms;
    std::vector<std::string> names = Names();
    names.back() = "s";
    for (size_t d = 0; d < names.size(); ++d) terms.push_back({names[d], strides[d]});
    std::string mask = fmt::format("ToCompute({}[{}])", text_.input_at(found_.body.operands[3]),
                                   text_.Offset(terms));
    bool is_bool = found_.mask->dtype == DType::kBool;
    text_.Line("if (seen) score = {} + {};", scaled,
               is_bool ? fmt::format("({} ? {}(0) : -kInfinity)", mask, type_) : mask);
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
    text_.Open("if (l < {} && e < {})", text_.Size(length_), found_.value_width);
    output_.WriteResults(fmt::format("(total[r] == 0 ? {}(0) : sum[r][c] / total[r])", type_));
    for (int i = 0; i < 3; ++i) text_.Close();
  }

  const CudaSite& site_;
  Attention found_;
  KernelText text_;
  OutputText output_;
  std::string type_;
  Dim length_, keys_;
  bool causal_;
  int64_t num_columns_;
};

CudaKernel MakeAttentionKernel(const CudaSite& site, const Attrs&) {
  return AttentionWriter(site).Write();
}

}  // namespace

const KernelFamily kAttentionFamily = {"attention", FindAttentionVariants, MakeAttentionKernel};

}  // namespace stator
