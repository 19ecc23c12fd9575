// Converters of scaled dot product attention in all its overloads, and of layers made of it.
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
  const Dims dims = c.type(q).dims;
  c.Require(dims.size() >= 2 && c.type(k).rank() >= 2, "attention of vectors");
  bool causal = c.Bool("is_causal", false);
  if (causal && mask_argument.empty()) {
    // The CUDA flash kernels align the diagonal at the last key, our op at the first.
    c.Require(dims[dims.size() - 2] == c.type(k).dims[c.type(k).rank() - 2],
              "causal flash attention over another number of keys than queries");
  }
  const Dim width = dims.back();
  double scale = c.Float("scale", 1);
  if (!c.Has("scale") && width.is_static()) {
    c.Require(width.value() > 0, "attention of width 0");
    scale = 1 / std::sqrt(static_cast<double>(width.value()));
  } else if (!c.Has("scale")) {
    DType dtype = c.type(q).dtype;
    c.Require(dtype == DType::kFloat32 || dtype == DType::kFloat64,
              "attention of 16-bit floats of symbolic width without a scale");
    ValueId size = c.Literal(dtype, Scalar{.kind = Scalar::Kind::kInt, .number = 0, .size = width});
    q = c.Add("mul", {q, c.Add("rsqrt", {size})});
  }
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

// x times weight[out, in], plus a bias.
ValueId Linear(Conversion& c, ValueId x, std::string_view weight, std::string_view bias) {
  ValueId product = c.Add("matmul", {x, c.Transpose(c.Tensor(weight), 0, 1)});
  return c.Add("add", {product, c.Tensor(bias)});
}

// Attention of x[batch, length, width] to itself, by weights packed for q, k and v.
ValueId SelfAttention(Conversion& c, ValueId x) {
  const Dims dims = c.type(x).dims;
  const Dim width = dims[2], heads = c.Int("num_heads");
  Dim head_width = FloorDiv(width, heads);
  c.Require(head_width.is_static() && head_width.value() > 0, "attention of symbolic width");
  ValueId packed = Linear(c, x, "qkv_weight", "qkv_bias");
  Values inputs;
  for (int64_t i = 0; i < 3; ++i) {
    ValueId part = c.Slice(packed, 2, width * i, width * (i + 1));
    inputs.push_back(c.Transpose(c.Reshape(part, {dims[0], dims[1], heads, head_width}), 1, 2));
  }
  double scale = 1 / std::sqrt(static_cast<double>(head_width.value()));
  ValueId y = c.Add("attention", std::move(inputs), {{"causal", false}, {"scale", scale}});
  return Linear(c, c.Reshape(c.Transpose(y, 1, 2), dims), "proj_weight", "proj_bias");
}

// The fast path of torch.nn.TransformerEncoderLayer.
Values ConvertEncoderLayer(Conversion& c, std::string_view) {
  ValueId x = c.Tensor("src");
  c.Require(c.type(x).rank() == 3 && !c.Has("mask"), "an encoder layer with a mask");
  bool norm_first = c.Bool("norm_first");
  auto norm = [&](ValueId value, std::string_view weight, std::string_view bias) {
    return c.Add("layer_norm", {value, c.Tensor(weight), c.Tensor(bias)},
                 {{"num_dims", Dim(1)}, {"eps", c.Float("eps")}});
  };
  auto norm1 = [&](ValueId value) { return norm(value, "norm_weight_1", "norm_bias_1"); };
  auto norm2 = [&](ValueId value) { return norm(value, "norm_weight_2", "norm_bias_2"); };
  auto feed_forward = [&](ValueId value) {
    value = Linear(c, value, "ffn_weight_1", "ffn_bias_1");
    value = c.Add(c.Bool("use_gelu") ? "gelu" : "relu", {value});
    return Linear(c, value, "ffn_weight_2", "ffn_bias_2");
  };
  if (norm_first) {
    x = c.Add("add", {x, SelfAttention(c, norm1(x))});
    return {c.Add("add", {x, feed_forward(norm2(x))})};
  }
  x = norm1(c.Add("add", {x, SelfAttention(c, x)}));
  return {norm2(c.Add("add", {x, feed_forward(x)}))};
}

constexpr Converter kRows[] = {
    {"aten._transformer_encoder_layer_fwd.default", ConvertEncoderLayer},
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
