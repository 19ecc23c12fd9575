// Normalisations: softmax along a dim, and layer, RMS, group and batch norm.
//
// Each has a reference of its own (statistics in double) and a spelling in simpler ops, whose
// statistics are kept in f32 for f16 and bf16.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/builder.h"
#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

bool Has(std::span<const TensorRef> inputs, size_t i) {
  return i < inputs.size() && inputs[i].data != nullptr;
}

bool Has(const Node& node, size_t i) { return i < node.inputs.size() && node.inputs[i].valid(); }

// ---- softmax, log_softmax
std::vector<TensorType> InferSoftmax(const InferContext& context) {
  const TensorType& x = context.input(0);
  RequireFloat(x, "x");
  GetAxis(context.attrs, "axis", x.rank());
  return OneOutput(x.dtype, x.dims);
}

template <bool logarithm>
void ReferenceSoftmax(const Attrs& attrs, std::span<const TensorRef> inputs,
                      std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  const int64_t axis[] = {attrs.GetInt("axis")};
  int64_t count = x.dims[axis[0]], x_step = x.strides[axis[0]], y_step = y.strides[axis[0]];
  Sizes outer = Drop(x.dims, axis), x_strides = Drop(x.strides, axis),
        y_strides = Drop(y.strides, axis);
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<2>(outer, {x_strides, y_strides}, [&](const auto& base) {
      auto element = [&](int64_t i) { return ToAccumulator(Data<T>(x)[base[0] + i * x_step]); };
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (int64_t i = 0; i < count; ++i) top = scalar::maximum(top, element(i));
      for (int64_t i = 0; i < count; ++i) sum += std::exp(element(i) - top);
      for (int64_t i = 0; i < count; ++i) {
        double centred = element(i) - top;
        double value = logarithm ? centred - std::log(sum) : std::exp(centred) / sum;
        Data<T>(y)[base[1] + i * y_step] = scalar::CastTo<T>(value);
      }
    });
  });
}

template <bool logarithm>
std::vector<ValueId> DecomposeSoftmax(Graph& graph, const Node& node) {
  Builder b(graph, node);
  DType dtype = b.type(node.inputs[0]).dtype;
  Dims axes = {node.attrs.GetDim("axis")};
  ValueId x = b.Cast(node.inputs[0], StatisticsDType(dtype));
  ValueId centred = b.Add("sub", {x, b.Reduce("amax", x, axes)});
  ValueId exp = b.Add("exp", {centred});
  ValueId sum = b.Reduce("sum", exp, axes);
  ValueId y = logarithm ? b.Add("sub", {centred, b.Add("log", {sum})}) : b.Add("div", {exp, sum});
  return {b.Cast(y, dtype)};
}

// ---- layer_norm, rms_norm
int GetNumDims(const InferContext& context) {
  Dim count = context.attrs.GetDim("num_dims");
  const TensorType& x = context.input(0);
  if (!count.is_static() || count.value() < 1 || count.value() > x.rank()) {
    Reject("num_dims {} is not in [1, {}]", count.ToString(), x.rank());
  }
  return static_cast<int>(count.value());
}

std::vector<TensorType> InferLayerNorm(const InferContext& context) {
  const TensorType& x = context.input(0);
  RequireSameDType(context);
  RequireFloat(x, "x");
  Dims normalised = LastDims(x.dims, GetNumDims(context));
  for (size_t i = 1; i < context.inputs.size(); ++i) {
    if (context.inputs[i] != nullptr) {
      RequireDims(context.input(i), normalised, i == 1 ? "weight" : "bias");
    }
  }
  return OneOutput(x.dtype, x.dims);
}

template <bool centre>
void ReferenceLayerNorm(const Attrs& attrs, std::span<const TensorRef> inputs,
                        std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  size_t lead = x.dims.size() - attrs.GetInt("num_dims");
  auto first = [&](const Sizes& v) { return std::span(v).first(lead); };
  auto last = [&](const Sizes& v) { return std::span(v).subspan(lead); };
  double eps = attrs.GetFloat("eps");
  Sizes inner(last(x.dims).begin(), last(x.dims).end());
  Sizes none(inner.size(), 0);
  const Sizes& w_strides = Has(inputs, 1) ? inputs[1].strides : none;
  const Sizes& b_strides = Has(inputs, 2) ? inputs[2].strides : none;
  double count = 1;
  for (int64_t size : inner) count *= static_cast<double>(size);

  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<2>(first(x.dims), {first(x.strides), first(y.strides)}, [&](const auto& base) {
      const T* row = Data<T>(x) + base[0];
      auto sum_of = [&](auto&& term) {
        double sum = 0;
        ForEachOffset<1>(inner, {last(x.strides)},
                         [&](const auto& at) { sum += term(ToAccumulator(row[at[0]])); });
        return sum;
      };
      double mean = centre ? sum_of([](double v) { return v; }) / count : 0;
      double square = sum_of([&](double v) { return (v - mean) * (v - mean); }) / count;
      double scale = 1 / std::sqrt(square + eps);
      ForEachOffset<4>(inner, {last(x.strides), last(y.strides), w_strides, b_strides},
                       [&](const auto& at) {
                         double value = (ToAccumulator(row[at[0]]) - mean) * scale;
                         if (Has(inputs, 1)) value *= ToAccumulator(Data<T>(inputs[1])[at[2]]);
                         if (Has(inputs, 2)) value += ToAccumulator(Data<T>(inputs[2])[at[3]]);
                         Data<T>(y)[base[1] + at[1]] = scalar::CastTo<T>(value);
                       });
    });
  });
}

// (x - mean) / sqrt(mean of squares + eps) over `axes`; the mean is left out unless `centre`.
ValueId Normalise(Builder& b, ValueId x, const Dims& axes, double eps, bool centre) {
  if (centre) x = b.Add("sub", {x, b.Reduce("mean", x, axes)});
  ValueId square = b.Reduce("mean", b.Add("square", {x}), axes);
  ValueId scale = b.Add("rsqrt", {b.Add("add", {square, b.Scalar(b.type(x).dtype, eps)})});
  return b.Add("mul", {x, scale});
}

// x * weight + bias, either of them absent, each reshaped to `dims`.
ValueId Affine(Builder& b, ValueId x, const Node& node, size_t weight, const Dims& dims) {
  DType dtype = b.type(x).dtype;
  if (Has(node, weight)) {
    x = b.Add("mul", {x, b.Reshape(b.Cast(node.inputs[weight], dtype), dims)});
  }
  if (Has(node, weight + 1)) {
    x = b.Add("add", {x, b.Reshape(b.Cast(node.inputs[weight + 1], dtype), dims)});
  }
  return x;
}

template <bool centre>
std::vector<ValueId> DecomposeLayerNorm(Graph& graph, const Node& node) {
  Builder b(graph, node);
  const TensorType type = b.type(node.inputs[0]);
  int num_dims = static_cast<int>(node.attrs.GetInt("num_dims"));
  Dims axes;
  for (int i = type.rank() - num_dims; i < type.rank(); ++i) axes.push_back(i);
  ValueId x = b.Cast(node.inputs[0], StatisticsDType(type.dtype));
  x = Normalise(b, x, axes, node.attrs.GetFloat("eps"), centre);
  x = Affine(b, x, node, 1, LastDims(type.dims, num_dims));
  return {b.Cast(x, type.dtype)};
}

// ---- group_norm
std::vector<TensorType> InferGroupNorm(const InferContext& context) {
  const TensorType& x = context.input(0);
  RequireSameDType(context);
  RequireFloat(x, "x");
  RequireRank(x, 2, "x");
  Dim groups = context.attrs.GetDim("groups");
  if (!groups.is_static() || groups.value() < 1 || Mod(x.dims[1], groups) != Dim(0)) {
    Reject("x is {}, whose channels do not part into {} groups", x.ToString(), groups.ToString());
  }
  for (size_t i = 1; i < context.inputs.size(); ++i) {
    if (context.inputs[i] != nullptr) {
      RequireDims(context.input(i), {x.dims[1]}, i == 1 ? "weight" : "bias");
    }
  }
  return OneOutput(x.dtype, x.dims);
}

void ReferenceGroupNorm(const Attrs& attrs, std::span<const TensorRef> inputs,
                        std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  int64_t groups = attrs.GetInt("groups"), channels = x.dims[1] / groups;
  double eps = attrs.GetFloat("eps");
  Sizes block = {channels}, x_strides = {x.strides[1]}, y_strides = {y.strides[1]}, w_strides = {1};
  for (size_t i = 2; i < x.dims.size(); ++i) {
    block.push_back(x.dims[i]);
    x_strides.push_back(x.strides[i]);
    y_strides.push_back(y.strides[i]);
    w_strides.push_back(0);
  }
  double count = 1;
  for (int64_t size : block) count *= static_cast<double>(size);
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto parameter = [&](size_t input, int64_t channel, double absent) {
      if (!Has(inputs, input)) return absent;
      return ToAccumulator(Data<T>(inputs[input])[channel * inputs[input].strides[0]]);
    };
    auto normalise = [&](int64_t n, int64_t g) {
      int64_t channel = g * channels;
      const T* from = Data<T>(x) + n * x.strides[0] + channel * x.strides[1];
      T* to = Data<T>(y) + n * y.strides[0] + channel * y.strides[1];
      double mean = 0, square = 0;
      ForEachOffset<1>(block, {x_strides},
                       [&](const auto& at) { mean += ToAccumulator(from[at[0]]) / count; });
      ForEachOffset<1>(block, {x_strides}, [&](const auto& at) {
        double difference = ToAccumulator(from[at[0]]) - mean;
        square += difference * difference / count;
      });
      double scale = 1 / std::sqrt(square + eps);
      ForEachOffset<3>(block, {x_strides, y_strides, w_strides}, [&](const auto& at) {
        double value = (ToAccumulator(from[at[0]]) - mean) * scale;
        value = value * parameter(1, channel + at[2], 1) + parameter(2, channel + at[2], 0);
        to[at[1]] = scalar::CastTo<T>(value);
      });
    };
    for (int64_t n = 0; n < x.dims[0]; ++n) {
      for (int64_t g = 0; g < groups; ++g) normalise(n, g);
    }
  });
}

// Sizes that broadcast one value per channel over x[N, C, ...].
Dims ChannelDims(const TensorType& type) {
  Dims dims(type.rank() - 1, Dim(1));
  dims[0] = type.dims[1];
  return dims;
}

std::vector<ValueId> DecomposeGroupNorm(Graph& graph, const Node& node) {
  Builder b(graph, node);
  const TensorType type = b.type(node.inputs[0]);
  Dim groups = node.attrs.GetDim("groups");
  Dim rest = FloorDiv(type.dims[1], groups);
  for (int i = 2; i < type.rank(); ++i) rest = rest * type.dims[i];
  ValueId x = b.Cast(node.inputs[0], StatisticsDType(type.dtype));
  x = b.Reshape(x, {type.dims[0], groups, rest});
  x = Normalise(b, x, {2}, node.attrs.GetFloat("eps"), true);
  x = Affine(b, b.Reshape(x, type.dims), node, 1, ChannelDims(type));
  return {b.Cast(x, type.dtype)};
}

// ---- batch_norm
std::vector<TensorType> InferBatchNorm(const InferContext& context) {
  const TensorType& x = context.input(0);
  RequireSameDType(context);
  RequireFloat(x, "x");
  RequireRank(x, 2, "x");
  constexpr std::string_view kNames[] = {"x", "weight", "bias", "mean", "var"};
  for (int i = 1; i < 5; ++i) {
    if (context.inputs[i] != nullptr) RequireDims(context.input(i), {x.dims[1]}, kNames[i]);
    if (i >= 3 && context.inputs[i] == nullptr) Reject("{} is absent", kNames[i]);
  }
  return OneOutput(x.dtype, x.dims);
}

void ReferenceBatchNorm(const Attrs& attrs, std::span<const TensorRef> inputs,
                        std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  const int64_t channel_axis[] = {1};
  double eps = attrs.GetFloat("eps");
  Sizes dims = Drop(x.dims, channel_axis), x_strides = Drop(x.strides, channel_axis),
        y_strides = Drop(y.strides, channel_axis);
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t c = 0; c < x.dims[1]; ++c) {
      auto parameter = [&](size_t input, double absent) {
        if (!Has(inputs, input)) return absent;
        return ToAccumulator(Data<T>(inputs[input])[c * inputs[input].strides[0]]);
      };
      double mean = parameter(3, 0);
      double scale = parameter(1, 1) / std::sqrt(parameter(4, 1) + eps);
      double bias = parameter(2, 0);
      ForEachOffset<2>(dims, {x_strides, y_strides}, [&](const auto& at) {
        double value = ToAccumulator(Data<T>(x)[at[0] + c * x.strides[1]]);
        Data<T>(y)[at[1] + c * y.strides[1]] = scalar::CastTo<T>((value - mean) * scale + bias);
      });
    }
  });
}

std::vector<ValueId> DecomposeBatchNorm(Graph& graph, const Node& node) {
  Builder b(graph, node);
  const TensorType type = b.type(node.inputs[0]);
  DType dtype = StatisticsDType(type.dtype);
  Dims dims = ChannelDims(type);
  ValueId x = b.Cast(node.inputs[0], dtype);
  x = b.Add("sub", {x, b.Reshape(b.Cast(node.inputs[3], dtype), dims)});
  ValueId var =
      b.Add("add", {b.Cast(node.inputs[4], dtype), b.Scalar(dtype, node.attrs.GetFloat("eps"))});
  x = b.Add("mul", {x, b.Reshape(b.Add("rsqrt", {var}), dims)});
  x = Affine(b, x, node, 1, dims);
  return {b.Cast(x, type.dtype)};
}

// ---- rows
constexpr AttrDef kSoftmaxAttrs[] = {{"axis", AttrDef::kInt, true, "the dim that sums to 1"}};
constexpr AttrDef kLayerNormAttrs[] = {
    {"num_dims", AttrDef::kInt, true, "how many trailing dims are normalised together"},
    {"eps", AttrDef::kFloat, true, "added to the mean square"},
};
constexpr AttrDef kGroupNormAttrs[] = {
    {"groups", AttrDef::kInt, true, "groups of neighbouring channels"},
    {"eps", AttrDef::kFloat, true, "added to the variance"},
};
constexpr AttrDef kBatchNormAttrs[] = {{"eps", AttrDef::kFloat, true, "added to the variance"}};

constexpr OpSample kSoftmaxSamples[] = {
    {"_[4, 5]", "{axis = 1}"}, {"_[4, 5]", "{axis = 0}"}, {"_[2, 3, 7]", "{axis = 1}"},
    {"_[3, 1]", "{axis = 1}"}, {"_[0, 3]", "{axis = 1}"}, {"_[67]", "{axis = 0}"},
    {"_[1]", "{axis = 0}"},
};
constexpr OpSample kLayerNormSamples[] = {
    {"_[4, 5], _[5], _[5]", "{eps = 1e-05, num_dims = 1}"},
    {"_[2, 3, 7], _[3, 7], _[3, 7]", "{eps = 1e-05, num_dims = 2}"},
    {"_[2, 3, 7]", "{eps = 0.1, num_dims = 1}"},
    {"_[3, 33], _[33]", "{eps = 1e-05, num_dims = 1}"},
    {"_[3, 33], none, _[33]", "{eps = 1e-05, num_dims = 1}"},
    {"_[0, 3], _[3], _[3]", "{eps = 1e-05, num_dims = 1}"},
    {"_[3, 1], _[1], _[1]", "{eps = 1e-05, num_dims = 1}"},
};
constexpr OpSample kRmsNormSamples[] = {
    {"_[4, 5], _[5]", "{eps = 1e-05, num_dims = 1}"},
    {"_[2, 3, 7], _[3, 7]", "{eps = 1e-06, num_dims = 2}"},
    {"_[2, 3, 33]", "{eps = 0.1, num_dims = 1}"},
    {"_[0, 3], _[3]", "{eps = 1e-05, num_dims = 1}"},
    {"_[3, 1], _[1]", "{eps = 1e-05, num_dims = 1}"},
};
constexpr OpSample kGroupNormSamples[] = {
    {"_[2, 6, 5, 3], _[6], _[6]", "{eps = 1e-05, groups = 3}"},
    {"_[2, 4, 7]", "{eps = 1e-05, groups = 2}"},
    {"_[3, 6], _[6]", "{eps = 0.1, groups = 1}"},
    {"_[1, 5, 3, 3], none, _[5]", "{eps = 1e-05, groups = 5}"},
    {"_[0, 4, 3], _[4], _[4]", "{eps = 1e-05, groups = 2}"},
    {"_[3, 1, 5], _[1], _[1]", "{eps = 1e-05, groups = 1}"},
};
constexpr OpSample kBatchNormSamples[] = {
    {"_[2, 3, 5, 4], _[3], _[3], _[3], _[3]", "{eps = 1e-05}"},
    {"_[4, 7], none, none, _[7], _[7]", "{eps = 0.001}"},
    {"_[1, 5, 9], _[5], none, _[5], _[5]", "{eps = 1e-05}"},
    {"_[0, 3, 2], _[3], _[3], _[3], _[3]", "{eps = 1e-05}"},
    {"_[3, 1, 5], _[1], _[1], _[1], _[1]", "{eps = 1e-05}"},
};

constexpr std::string_view kLayerNormTorch =
    "torch.nn.functional.layer_norm(x[0], x[0].shape[x[0].dim() - a['num_dims']:], "
    "x[1] if len(x) > 1 else None, x[2] if len(x) > 2 else None, a['eps'])";
constexpr std::string_view kRmsNormTorch =
    "torch.nn.functional.rms_norm(x[0], x[0].shape[x[0].dim() - a['num_dims']:], "
    "x[1] if len(x) > 1 else None, a['eps'])";
constexpr std::string_view kGroupNormTorch =
    "torch.group_norm(x[0], a['groups'], x[1] if len(x) > 1 else None, "
    "x[2] if len(x) > 2 else None, a['eps'])";

const OpDef kRows[] = {
    {.id = 500,
     .name = "softmax",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kSoftmaxAttrs,
     .infer = InferSoftmax,
     .traits = kRowwise,
     .decompose = DecomposeSoftmax<false>,
     .reference = ReferenceSoftmax<false>,
     .samples = kSoftmaxSamples,
     .torch = "torch.softmax(x[0], a['axis'])",
     .doc = "exp(x) / sum(exp(x)) along one dim"},
    {.id = 501,
     .name = "log_softmax",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kSoftmaxAttrs,
     .infer = InferSoftmax,
     .traits = kRowwise,
     .decompose = DecomposeSoftmax<true>,
     .reference = ReferenceSoftmax<true>,
     .samples = kSoftmaxSamples,
     .torch = "torch.log_softmax(x[0], a['axis'])",
     .doc = "x - log(sum(exp(x))) along one dim"},
    {.id = 502,
     .name = "layer_norm",
     .min_inputs = 1,
     .max_inputs = 3,
     .attrs = kLayerNormAttrs,
     .infer = InferLayerNorm,
     .traits = kRowwise,
     .decompose = DecomposeLayerNorm<true>,
     .reference = ReferenceLayerNorm<true>,
     .samples = kLayerNormSamples,
     .torch = kLayerNormTorch,
     .doc = "(x - mean) / sqrt(var + eps) * weight + bias over the last dims (Ba et al. 2016)"},
    {.id = 503,
     .name = "rms_norm",
     .min_inputs = 1,
     .max_inputs = 2,
     .attrs = kLayerNormAttrs,
     .infer = InferLayerNorm,
     .traits = kRowwise,
     .decompose = DecomposeLayerNorm<false>,
     .reference = ReferenceLayerNorm<false>,
     .samples = kRmsNormSamples,
     .torch = kRmsNormTorch,
     .doc = "x / sqrt(mean(x^2) + eps) * weight over the last dims (Zhang & Sennrich 2019)"},
    {.id = 504,
     .name = "group_norm",
     .min_inputs = 1,
     .max_inputs = 3,
     .attrs = kGroupNormAttrs,
     .infer = InferGroupNorm,
     .decompose = DecomposeGroupNorm,
     .reference = ReferenceGroupNorm,
     .samples = kGroupNormSamples,
     .torch = kGroupNormTorch,
     .doc = "x[N, C, ...] normalised per sample and group of channels, times weight[C] plus "
            "bias[C] (Wu & He 2018)"},
    {.id = 505,
     .name = "batch_norm",
     .min_inputs = 5,
     .max_inputs = 5,
     .attrs = kBatchNormAttrs,
     .infer = InferBatchNorm,
     .decompose = DecomposeBatchNorm,
     .reference = ReferenceBatchNorm,
     .samples = kBatchNormSamples,
     .torch = "torch.nn.functional.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.0, a['eps'])",
     .doc = "(x - mean[C]) / sqrt(var[C] + eps) * weight[C] + bias[C] with given statistics "
            "(Ioffe & Szegedy 2015, inference)"},
};

}  // namespace

std::span<const OpDef> NormRows() { return kRows; }

}  // namespace stator
