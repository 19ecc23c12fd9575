#include "codegen/attention_site.h"

#include "ir/op_def.h"

namespace stator {

Dim AttentionSite::num_heads() const {
  Dim count = 1;
  for (size_t d = 0; d + 2 < rank; ++d) count = count * q->dims[d];
  return count;
}

std::optional<AttentionSite> FindAttention(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "attention") return std::nullopt;
  AttentionSite found{.body = *body};
  auto operand = [&](size_t i) { return &site.inputs[body->operands[i]]; };
  found.q = operand(0), found.k = operand(1), found.v = operand(2);
  if (body->operands.size() > 3 && body->operands[3] >= 0) found.mask = operand(3);
  found.rank = found.q->dims.size();
  const Dim &width = found.q->dims.back(), &value_width = found.v->dims.back();
  if (!width.is_static() || !value_width.is_static()) return std::nullopt;
  found.width = width.value();
  found.value_width = value_width.value();
  found.length = site.outputs[0].dims[found.rank - 2];
  found.keys = found.k->dims[found.rank - 2];
  found.causal = body->anchor->attrs.GetBool("causal");
  found.scale = body->anchor->attrs.GetFloat("scale");
  constexpr int64_t kMaxWidth = 256;
  bool fits = found.width > 0 && found.width <= kMaxWidth && found.value_width > 0 &&
              found.value_width <= kMaxWidth;
  return fits ? std::optional(found) : std::nullopt;
}

std::vector<std::string> AttentionNames(const AttentionSite& attention) {
  std::vector<std::string> names;
  for (size_t d = 0; d + 3 < attention.rank; ++d) names.push_back(fmt::format("b{}", d));
  for (const char* name : {"h", "l", "e"}) names.push_back(name);
  return names;
}

void WriteHead(KernelText& text, const AttentionSite& attention, int tile) {
  std::string tiles = text.Size(CeilDiv(attention.length, tile));
  text.Line("const Index q0 = Index(blockIdx.x) % {} * {};", tiles, tile);
  text.Line("const Index head = Index(blockIdx.x) / {};", tiles);
  LoopDims heads;
  for (size_t d = 0; d + 2 < attention.rank; ++d) heads.dims.push_back(attention.q->dims[d]);
  std::vector<std::string> names = AttentionNames(attention);
  names.resize(heads.dims.size());
  WriteCoordinates(text, heads, "head", names, std::vector<bool>(names.size(), true));
  size_t head = attention.rank - 3;
  text.Line("const Index hk = h / {};",
            text.Size(FloorDiv(attention.q->dims[head], attention.k->dims[head])));
}

std::string OffsetInHead(KernelText& text, const AttentionSite& attention, size_t i,
                         const std::string& head, const std::string& row, const std::string& e) {
  const KernelOperand& operand = text.site().inputs[attention.body.operands[i]];
  std::vector<KernelText::Term> terms;
  for (size_t d = 0; d + 3 < attention.rank; ++d) {
    terms.push_back({fmt::format("b{}", d), operand.strides[d]});
  }
  terms.push_back({head, operand.strides[attention.rank - 3]});
  terms.push_back({row, operand.strides[attention.rank - 2]});
  terms.push_back({e, operand.strides[attention.rank - 1]});
  return text.Offset(terms);
}

std::string ScoreText(KernelText& text, const AttentionSite& attention, const std::string& dot,
                      const std::string& type) {
  DType dtype = type == "double" ? DType::kFloat64 : DType::kFloat32;
  std::string scaled = fmt::format("{} * {}", dot, NumberText(dtype, attention.scale));
  if (attention.mask == nullptr) return scaled;
  Dims scores = attention.q->dims;
  scores.back() = attention.keys;
  Dims strides = BroadcastStrides(*attention.mask, scores);
  std::vector<KernelText::Term> terms;
  std::vector<std::string> names = AttentionNames(attention);
  names.back().assign(1, 's');
  for (size_t d = 0; d < names.size(); ++d) terms.push_back({names[d], strides[d]});
  std::string mask = fmt::format("ToCompute({}[{}])", text.input_at(attention.body.operands[3]),
                                 text.Offset(terms));
  bool is_bool = attention.mask->dtype == DType::kBool;
  return fmt::format("{} + {}", scaled,
                     is_bool ? fmt::format("({} ? {}(0) : -kInfinity)", mask, type) : mask);
}

}  // namespace stator
