// Converters of scaled dot product attention in all its overloads.
#include <cmath>

#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// `mask` names the argument of the additive or boolean mask; "" when the overload has none.
// Statistics that the backward pass would read are not computed.
Values ConvertAttention(Conversion& c, std::string_view mask_argument) {
  ValueId q = c.Tensor("query"), k = c.Tensor("key"), v = c.Tensor("value");
  c.Require(c.Float("dropout_p", 0) == 0, "attention with dropout draws random numbers");
  c.Require(!c.Has("dropout_mask"), "attention with a dropout mask");
  const Dims& dims = c.type(q).dims;
  c.Require(dims.size() >= 2 && c.type(k).rank() >= 2, "attention of vectors");
  bool causal = c.Bool("is_causal", false);
  if (causal && mask_argument.empty()) {
    // The CUDA flash kernels align the diagonal at the last key, our op at the first.
    c.Require(dims[dims.size() - 2] == c.type(k).dims[c.type(k).rank() - 2],
              "causal flash attention over another number of keys than queries");
  }
  const Dim& width = dims.back();
  c.Require(c.Has("scale") || (width.is_static() && width.value() > 0),
            "attention of symbolic width without a scale");
  double scale =
      c.Has("scale") ? c.Float("scale") : 1 / std::sqrt(static_cast<double>(width.value()));
  ValueId mask = mask_argument.empty() ? ValueId{} : c.FindTensor(mask_argument);
  bool one_head = dims.size() == 2;
  if (one_head) {
    for (ValueId* tensor : {&q, &k, &v}) *tensor = c.Unsqueeze(*tensor, 0);
  }
  Values inputs = {q, k, v};
  if (mask.valid()) inputs.push_back(mask);
  ValueId y = c.Add("attention", std::move(inputs), {{"causal", causal}, {"scale", scale}});
  Values values(std::max(c.num_outputs(), 1));
  values[0] = one_head ? c.Squeeze(y, 0) : y;
  return values;
}

constexpr Converter kRows[] = {
    {"aten.scaled_dot_product_attention.default", ConvertAttention, "attn_mask"},
    {"aten._scaled_dot_product_attention_math.default", ConvertAttention, "attn_mask"},
    {"aten._scaled_dot_product_flash_attention_for_cpu.default", ConvertAttention, "attn_mask"},
    {"aten._scaled_dot_product_flash_attention.default", ConvertAttention},
    {"aten._scaled_dot_product_efficient_attention.default", ConvertAttention, "attn_bias"},
    {"aten._scaled_dot_product_cudnn_attention.default", ConvertAttention, "attn_bias"},
    {"aten._scaled_dot_product_fused_attention_overrideable.default", ConvertAttention,
     "attn_bias"},
};

}  // namespace

std::span<const Converter> AttentionConverters() { return kRows; }

}  // namespace stator
