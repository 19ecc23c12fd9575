// Scaled dot-product attention, with grouped heads, a mask or a causal bound.
//
// As torch on a CPU: a bool mask acts by adding -inf where it is false, and a row without any key
// left gives zeros.
#include <cmath>
#include <limits>

#include "ops/builder.h"
#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<TensorType> InferAttention(const InferContext& context) {
  const TensorType &q = context.input(0), &k = context.input(1), &v = context.input(2);
  RequireRank(q, 3, "q");
  RequireFloat(q, "q");
  int rank = q.rank(), heads = rank - 3, length = rank - 2, width = rank - 1;
  if (k.dtype != q.dtype || v.dtype != q.dtype || k.rank() != rank || v.rank() != rank) {
    Reject("q, k and v are {}, {} and {}, expected one dtype and rank", q.ToString(), k.ToString(),
           v.ToString());
  }
  bool fits = k.dims[width] == q.dims[width] && k.dims[length] == v.dims[length] &&
              k.dims[heads] == v.dims[heads];
  for (int i = 0; i < heads; ++i) fits = fits && k.dims[i] == q.dims[i] && v.dims[i] == q.dims[i];
  if (!fits || k.dims[heads] == Dim(0) || Mod(q.dims[heads], k.dims[heads]) != Dim(0)) {
    Reject(
        "q, k and v are {}, {} and {}, expected q[B..., Hq, L, E], k[B..., Hkv, S, E] and "
        "v[B..., Hkv, S, Ev] with Hkv dividing Hq",
        q.ToString(), k.ToString(), v.ToString());
  }
  if (context.inputs.size() > 3 && context.inputs[3] != nullptr) {
    const TensorType& mask = context.input(3);
    if (context.attrs.GetBool("causal")) Reject("both a mask and `causal` are given");
    if (mask.dtype != DType::kBool && mask.dtype != q.dtype) {
      Reject("mask is {}, expected bool or {}", mask.ToString(), DTypeName(q.dtype));
    }
    Dims scores = q.dims;
    scores[width] = k.dims[length];
    if (BroadcastDims(mask.dims, scores) != scores) {
      Reject("mask is {}, which does not broadcast to {}", mask.ToString(), DimsToString(scores));
    }
  }
  Dims dims = q.dims;
  dims[width] = v.dims[width];
  return OneOutput(q.dtype, std::move(dims));
}

// ---- reference
// One head: q[L, E], k[S, E], v[S, Ev] and what is added to the scores, all as strided rows.
struct Head {
  int64_t q, k, v, mask, y;  // offsets of the first elements
};

struct Shape {
  int64_t length, keys, width, value_width;
  bool causal;
  double scale;
};

double MaskBias(const TensorRef& mask, int64_t offset) {
  if (mask.dtype == DType::kBool) return Data<bool>(mask)[offset] ? 0.0 : -kInfinity;
  double bias = 0;
  DispatchFloat(mask.dtype,
                [&](auto zero) { bias = ToAccumulator(Data<decltype(zero)>(mask)[offset]); });
  return bias;
}

template <typename T>
void RunHead(const Shape& shape, const Head& head, std::span<const TensorRef> inputs,
             const Sizes& mask_strides, const TensorRef& y) {
  auto at = [](const TensorRef& t, int64_t base, int64_t row, int64_t column) {
    size_t rank = t.strides.size();
    return base + row * t.strides[rank - 2] + column * t.strides[rank - 1];
  };
  const TensorRef &q = inputs[0], &k = inputs[1], &v = inputs[2];
  std::vector<double> scores(shape.keys), sums(shape.value_width);
  for (int64_t i = 0; i < shape.length; ++i) {
    double top = -kInfinity, total = 0;
    int64_t keys = shape.causal ? std::min(i + 1, shape.keys) : shape.keys;
    for (int64_t j = 0; j < keys; ++j) {
      double dot = 0;
      for (int64_t e = 0; e < shape.width; ++e) {
        dot += ToAccumulator(Data<T>(q)[at(q, head.q, i, e)]) *
               ToAccumulator(Data<T>(k)[at(k, head.k, j, e)]);
      }
      scores[j] = dot * shape.scale;
      if (!mask_strides.empty()) {
        size_t rank = mask_strides.size();
        scores[j] += MaskBias(inputs[3],
                              head.mask + i * mask_strides[rank - 2] + j * mask_strides[rank - 1]);
      }
      top = scalar::maximum(top, scores[j]);
    }
    std::fill(sums.begin(), sums.end(), 0.0);
    bool masked = top == -kInfinity;  // no key left: zeros
    for (int64_t j = 0; j < keys && !masked; ++j) {
      double weight = std::exp(scores[j] - top);
      total += weight;
      for (int64_t e = 0; e < shape.value_width; ++e) {
        sums[e] += weight * ToAccumulator(Data<T>(v)[at(v, head.v, j, e)]);
      }
    }
    for (int64_t e = 0; e < shape.value_width; ++e) {
      Data<T>(y)[at(y, head.y, i, e)] = scalar::CastTo<T>(masked ? 0.0 : sums[e] / total);
    }
  }
}

void ReferenceAttention(const Attrs& attrs, std::span<const TensorRef> inputs,
                        std::span<TensorRef> outputs) {
  const TensorRef &q = inputs[0], &k = inputs[1], &v = inputs[2], &y = outputs[0];
  if (y.num_elements() == 0) return;  // no heads of k, too, where their number is symbolic
  size_t rank = q.dims.size(), heads = rank - 3;
  Shape shape{.length = q.dims[rank - 2],
              .keys = k.dims[rank - 2],
              .width = q.dims[rank - 1],
              .value_width = v.dims[rank - 1],
              .causal = attrs.GetBool("causal"),
              .scale = attrs.GetFloat("scale")};
  Sizes mask_strides;
  if (inputs.size() > 3 && inputs[3].data != nullptr) {
    Sizes dims = q.dims;
    dims[rank - 1] = shape.keys;
    mask_strides = BroadcastStrides(inputs[3], dims);
  }
  Sizes no_mask(rank, 0);
  auto batch = [&](const Sizes& strides) { return std::span(strides).first(heads); };
  int64_t group = q.dims[heads] / k.dims[heads];
  const Sizes& m_strides = mask_strides.empty() ? no_mask : mask_strides;
  DispatchFloat(q.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<5>(
        batch(q.dims),
        {batch(q.strides), batch(k.strides), batch(v.strides), batch(m_strides), batch(y.strides)},
        [&](const auto& base) {
          for (int64_t h = 0; h < q.dims[heads]; ++h) {
            Head head{.q = base[0] + h * q.strides[heads],
                      .k = base[1] + h / group * k.strides[heads],
                      .v = base[2] + h / group * v.strides[heads],
                      .mask = base[3] + h * m_strides[heads],
                      .y = base[4] + h * y.strides[heads]};
            RunHead<T>(shape, head, inputs, mask_strides, y);
          }
        });
  });
}

// ---- decomposition
// [..., H, A, B] as [..., heads, group, A, B], for a tensor of `heads * group`, `heads` or 1 heads.
Dims SplitHeads(Dims dims, const Dim& heads, const Dim& group) {
  Dim& own = *(dims.end() - 3);
  Dim inner = own == heads * group ? group : Dim(1);
  own = own == Dim(1) ? Dim(1) : heads;
  dims.insert(dims.end() - 2, inner);
  return dims;
}

// Scores with -inf where a later key would be seen.
ValueId ApplyCausal(Builder& b, ValueId scores) {
  const Dims dims = b.type(scores).dims;
  auto positions = [&](const Dim& size) {
    return b.Add("arange", {},
                 {{"dtype", DType::kInt64}, {"start", 0.0}, {"step", 1.0}, {"size", size}});
  };
  const Dim &length = dims[dims.size() - 2], &keys = dims[dims.size() - 1];
  ValueId row = b.Reshape(positions(length), {length, 1});
  ValueId seen = b.Add("ge", {row, positions(keys)});
  return b.Add("where", {seen, scores, b.Scalar(b.type(scores).dtype, -kInfinity)});
}

std::vector<ValueId> DecomposeAttention(Graph& graph, const Node& node) {
  Builder b(graph, node);
  const TensorType type = b.type(node.outputs[0]);
  DType dtype = StatisticsDType(type.dtype);
  ValueId q = b.Cast(node.inputs[0], dtype), k = b.Cast(node.inputs[1], dtype),
          v = b.Cast(node.inputs[2], dtype);
  int heads_dim = b.type(q).rank() - 3;
  Dim heads = b.type(k).dims[heads_dim];
  Dim group = FloorDiv(b.type(q).dims[heads_dim], heads);
  bool grouped = group != Dim(1);
  auto split = [&](ValueId x) {
    return grouped ? b.Reshape(x, SplitHeads(b.type(x).dims, heads, group)) : x;
  };
  q = split(q), k = split(k), v = split(v);

  Dims perm;
  int rank = b.type(k).rank();
  for (int i = 0; i < rank - 2; ++i) perm.push_back(i);
  perm.push_back(rank - 1), perm.push_back(rank - 2);
  ValueId keys = b.Add("permute", {k}, {{"perm", perm}});
  q = b.Add("mul", {q, b.Scalar(dtype, node.attrs.GetFloat("scale"))});
  ValueId scores = b.Add("matmul", {q, keys});

  bool masked = node.inputs.size() > 3 && node.inputs[3].valid();
  if (masked) {
    ValueId mask = node.inputs[3];
    if (b.type(mask).dtype == DType::kBool) {
      mask = b.Add("where", {mask, b.Scalar(dtype, 0), b.Scalar(dtype, -kInfinity)});
    }
    mask = b.Cast(mask, dtype);
    if (b.type(mask).rank() >= 3) mask = split(mask);
    scores = b.Add("add", {scores, mask});
  }
  if (node.attrs.GetBool("causal")) scores = ApplyCausal(b, scores);

  ValueId weights = b.Add("softmax", {scores}, {{"axis", Dim(rank - 1)}});
  if (masked) {  // a row without any key left
    ValueId lost = b.Add("eq", {scores, b.Scalar(dtype, -kInfinity)});
    weights = b.Add("where", {b.Reduce("all", lost, {rank - 1}), b.Scalar(dtype, 0), weights});
  }
  ValueId y = b.Add("matmul", {weights, v});
  return {b.Cast(b.Reshape(y, type.dims), type.dtype)};
}

// ---- rows
constexpr AttrDef kAttentionAttrs[] = {
    {"causal", AttrDef::kBool, true, "whether query i sees keys 0..i only"},
    {"scale", AttrDef::kFloat, true, "factor of the scores; torch's default is 1/sqrt(E)"},
};

constexpr OpSample kAttentionSamples[] = {
    {"_[2, 3, 5, 4], _[2, 3, 7, 4], _[2, 3, 7, 6]", "{causal = false, scale = 0.5}"},
    {"_[1, 2, 5, 4], _[1, 2, 5, 4], _[1, 2, 5, 4]", "{causal = true, scale = 0.5}"},
    {"_[2, 7, 8], _[2, 5, 8], _[2, 5, 8]", "{causal = true, scale = 0.3}"},
    {"_[2, 3, 8], _[2, 9, 8], _[2, 9, 8]", "{causal = true, scale = 0.3}"},
    {"_[1, 6, 3, 4], _[1, 2, 5, 4], _[1, 2, 5, 4]", "{causal = false, scale = 0.5}"},
    {"_[1, 4, 3, 4], _[1, 1, 3, 4], _[1, 1, 3, 4]", "{causal = true, scale = 0.5}"},
    {"_[2, 2, 3, 4], _[2, 2, 5, 4], _[2, 2, 5, 4], bool[3, 5]", "{causal = false, scale = 0.5}"},
    {"_[2, 2, 3, 4], _[2, 2, 5, 4], _[2, 2, 5, 4], bool[2, 1, 1, 5]",
     "{causal = false, scale = 0.5}"},
    {"_[2, 2, 3, 4], _[2, 2, 5, 4], _[2, 2, 5, 4], _[2, 2, 3, 5]", "{causal = false, scale = 0.5}"},
    {"_[1, 4, 3, 4], _[1, 2, 5, 4], _[1, 2, 5, 4], _[1, 4, 3, 5]", "{causal = false, scale = 0.5}"},
    {"_[1, 4, 3, 4], _[1, 2, 5, 4], _[1, 2, 5, 4], bool[1, 3, 5]", "{causal = false, scale = 0.5}"},
    {"_[1, 1, 1, 1], _[1, 1, 1, 1], _[1, 1, 1, 1]", "{causal = false, scale = 1.0}"},
    {"_[0, 2, 3, 4], _[0, 2, 3, 4], _[0, 2, 3, 4]", "{causal = false, scale = 0.5}"},
    {"_[1, 2, 0, 4], _[1, 2, 3, 4], _[1, 2, 3, 4]", "{causal = false, scale = 0.5}"},
};

const OpDef kRows[] = {
    {.id = 550,
     .name = "attention",
     .min_inputs = 3,
     .max_inputs = 4,
     .attrs = kAttentionAttrs,
     .infer = InferAttention,
     .traits = kStructured,
     .decompose = DecomposeAttention,
     .reference = ReferenceAttention,
     .samples = kAttentionSamples,
     .torch = "torch.nn.functional.scaled_dot_product_attention(x[0], x[1], x[2], "
              "x[3] if len(x) > 3 else None, 0.0, a['causal'], scale=a['scale'], "
              "enable_gqa=x[0].shape[-3] != x[1].shape[-3])",
     .doc = "softmax(scale * q k^T + mask) v per head (Vaswani et al. 2017); q[B..., Hq, L, E], "
            "k[B..., Hkv, S, E], v[B..., Hkv, S, Ev], Hkv divides Hq (Ainslie et al. 2023); mask "
            "bool (true: seen) or float (added), broadcast to [B..., Hq, L, S]; a row that sees "
            "no key gives zeros"},
};

}  // namespace

std::span<const OpDef> AttentionRows() { return kRows; }

}  // namespace stator
