// Matrix products and convolutions. Floats are accumulated in double, integers wrap.
#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/window.h"

namespace stator {
namespace {

// ---- matmul
std::vector<TensorType> InferMatmul(const InferContext& context) {
  const TensorType &a = context.input(0), &b = context.input(1);
  RequireSameDType(context);
  RequireNumber(a, "a");
  RequireRank(a, 2, "a");
  RequireRank(b, 2, "b");
  if (a.dims[a.rank() - 1] != b.dims[b.rank() - 2]) {
    Reject("a is {} and b is {}, expected a[..., M, K] and b[..., K, N]", a.ToString(),
           b.ToString());
  }
  Dims dims =
      BroadcastDims(Dims(a.dims.begin(), a.dims.end() - 2), Dims(b.dims.begin(), b.dims.end() - 2));
  dims.push_back(a.dims[a.rank() - 2]);
  dims.push_back(b.dims[b.rank() - 1]);
  return OneOutput(a.dtype, std::move(dims));
}

// The leading dims of a stack of matrices.
TensorRef BatchOf(const TensorRef& tensor) {
  TensorRef batch = tensor;
  batch.dims.resize(tensor.dims.size() - 2);
  batch.strides.resize(tensor.dims.size() - 2);
  return batch;
}

void ReferenceMatmul(const Attrs&, std::span<const TensorRef> inputs,
                     std::span<TensorRef> outputs) {
  const TensorRef &a = inputs[0], &b = inputs[1], &y = outputs[0];
  size_t m_dim = y.dims.size() - 2, n_dim = y.dims.size() - 1;
  int64_t m = y.dims[m_dim], n = y.dims[n_dim], k = a.dims.back();
  TensorRef batch = BatchOf(y);
  Sizes a_strides = BroadcastStrides(BatchOf(a), batch.dims);
  Sizes b_strides = BroadcastStrides(BatchOf(b), batch.dims);
  int64_t a_row = a.strides[a.dims.size() - 2], a_column = a.strides.back();
  int64_t b_row = b.strides[b.dims.size() - 2], b_column = b.strides.back();
  DispatchDType(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<Accumulator<T>> sums(n);
    ForEachOffset<3>(batch.dims, {a_strides, b_strides, batch.strides}, [&](const auto& base) {
      for (int64_t i = 0; i < m; ++i) {
        std::fill(sums.begin(), sums.end(), Accumulator<T>(0));
        for (int64_t l = 0; l < k; ++l) {
          auto left = ToAccumulator(Data<T>(a)[base[0] + i * a_row + l * a_column]);
          const T* right = Data<T>(b) + base[1] + l * b_row;
          for (int64_t j = 0; j < n; ++j) {
            sums[j] = sums[j] + left * ToAccumulator(right[j * b_column]);
          }
        }
        T* out = Data<T>(y) + base[2] + i * y.strides[m_dim];
        for (int64_t j = 0; j < n; ++j) out[j * y.strides[n_dim]] = scalar::CastTo<T>(sums[j]);
      }
    });
  });
}

// ---- conv
std::vector<TensorType> InferConv(const InferContext& context) {
  const TensorType &x = context.input(0), &w = context.input(1);
  RequireSameDType(context);
  RequireFloat(x, "x");
  RequireRank(x, 3, "x");
  int num_spatial = x.rank() - 2;
  if (num_spatial > kMaxSpatialDims || w.rank() != x.rank()) {
    Reject("x is {} and w is {}, expected 1 to 3 spatial dims", x.ToString(), w.ToString());
  }
  const Attrs& attrs = context.attrs;
  std::vector<int64_t> stride = GetWindow(attrs, "stride", num_spatial, 1);
  std::vector<int64_t> padding = GetWindow(attrs, "padding", num_spatial, 0);
  std::vector<int64_t> dilation = GetWindow(attrs, "dilation", num_spatial, 1);
  std::vector<int64_t> output_padding = GetWindow(attrs, "output_padding", num_spatial, 0);
  Dim groups = attrs.GetDim("groups");
  if (!groups.is_static() || groups.value() < 1) Reject("groups {} is below 1", groups.ToString());
  bool transposed = attrs.GetBool("transposed");

  const Dim& in_channels = x.dims[1];
  Dim out_channels = transposed ? w.dims[1] * groups : w.dims[0];
  bool fits = transposed ? w.dims[0] == in_channels : w.dims[1] * groups == in_channels;
  if (!fits || !(Mod(w.dims[0], groups) == Dim(0))) {
    Reject("x is {} and w is {}, expected w of {} for {} groups", x.ToString(), w.ToString(),
           transposed ? "[Cin, Cout/groups, k...]" : "[Cout, Cin/groups, k...]", groups.ToString());
  }
  if (context.inputs.size() > 2 && context.inputs[2] != nullptr) {
    RequireDims(context.input(2), {out_channels}, "bias");
  }
  Dims dims = {x.dims[0], out_channels};
  for (int i = 0; i < num_spatial; ++i) {
    const Dim &size = x.dims[i + 2], &kernel = w.dims[i + 2];
    if (!transposed) {
      dims.push_back(WindowOutputSize(size, kernel, stride[i], padding[i], dilation[i], false));
      continue;
    }
    if (output_padding[i] >= stride[i] && output_padding[i] >= dilation[i]) {
      Reject("output_padding {} is not below stride or dilation", output_padding[i]);
    }
    Dim out = (size - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel - 1) +
              output_padding[i] + 1;
    if (out.is_static() && out.value() < 0) Reject("output size {} is negative", out.ToString());
    dims.push_back(out);
  }
  return OneOutput(x.dtype, std::move(dims));
}

struct ConvShape {
  Triple stride, padding, dilation;
  bool transposed;
  int64_t groups;

  // The input position that output `out` reads through kernel position `k`; false when there is
  // none: transposed, out = in * stride - padding + k * dilation.
  bool FindInput(const Triple& out, const Triple& k, Triple& in) const {
    for (int i = 0; i < kMaxSpatialDims; ++i) {
      if (!transposed) {
        in[i] = out[i] * stride[i] - padding[i] + k[i] * dilation[i];
        continue;
      }
      int64_t scaled = out[i] + padding[i] - k[i] * dilation[i];
      if (scaled < 0 || scaled % stride[i] != 0) return false;
      in[i] = scaled / stride[i];
    }
    return true;
  }
};

template <typename T>
void RunConv(const ConvShape& shape, const TensorRef& x_ref, const TensorRef& w_ref,
             const TensorRef* bias, const TensorRef& y_ref) {
  SpatialView x = MakeSpatialView(x_ref), w = MakeSpatialView(w_ref), y = MakeSpatialView(y_ref);
  const T *x_data = Data<T>(x_ref), *w_data = Data<T>(w_ref);
  int64_t in_per_group = x.inner / shape.groups, out_per_group = y.inner / shape.groups;
  auto compute = [&](int64_t n, int64_t co, const Triple& out) {
    double sum = bias ? ToAccumulator(Data<T>(*bias)[co * bias->strides[0]]) : 0;
    int64_t group = co / out_per_group;
    ForEachPosition({0, 0, 0}, w.dims, [&](const Triple& k) {
      Triple in;
      if (!shape.FindInput(out, k, in) || !x.Contains(in)) return;
      for (int64_t c = 0; c < in_per_group; ++c) {
        int64_t ci = group * in_per_group + c;
        int64_t w_offset =
            shape.transposed ? w.OffsetOf(ci, co - group * out_per_group, k) : w.OffsetOf(co, c, k);
        sum += ToAccumulator(x_data[x.OffsetOf(n, ci, in)]) * ToAccumulator(w_data[w_offset]);
      }
    });
    Data<T>(y_ref)[y.OffsetOf(n, co, out)] = scalar::CastTo<T>(sum);
  };
  for (int64_t n = 0; n < y.outer; ++n) {
    for (int64_t co = 0; co < y.inner; ++co) {
      ForEachPosition({0, 0, 0}, y.dims, [&](const Triple& out) { compute(n, co, out); });
    }
  }
}

void ReferenceConv(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  ConvShape shape{.stride = MakeTriple(attrs.GetInts("stride"), 1),
                  .padding = MakeTriple(attrs.GetInts("padding"), 0),
                  .dilation = MakeTriple(attrs.GetInts("dilation"), 1),
                  .transposed = attrs.GetBool("transposed"),
                  .groups = attrs.GetInt("groups")};
  const TensorRef* bias = inputs.size() > 2 && inputs[2].data != nullptr ? &inputs[2] : nullptr;
  DispatchFloat(outputs[0].dtype, [&](auto zero) {
    RunConv<decltype(zero)>(shape, inputs[0], inputs[1], bias, outputs[0]);
  });
}

// ---- rows
constexpr AttrDef kConvAttrs[] = {
    {"stride", AttrDef::kInts, true, "per spatial dim"},
    {"padding", AttrDef::kInts, true, "zeros on both sides, per spatial dim"},
    {"dilation", AttrDef::kInts, true, "distance of kernel elements, per spatial dim"},
    {"groups", AttrDef::kInt, true, "channel groups that do not mix"},
    {"transposed", AttrDef::kBool, true, "whether x and y change places"},
    {"output_padding", AttrDef::kInts, true, "transposed: added to the output's size at its end"},
};

constexpr OpSample kMatmulSamples[] = {
    {"_[4, 5], _[5, 3]", ""},    {"_[2, 4, 5], _[5, 3]", ""},    {"_[2, 1, 4, 5], _[3, 5, 7]", ""},
    {"_[1, 1], _[1, 1]", ""},    {"_[0, 5], _[5, 3]", ""},       {"_[4, 0], _[0, 3]", ""},
    {"_[1, 17], _[17, 33]", ""}, {"_[3, 0, 5], _[3, 5, 2]", ""},
};
#define CONV_ATTRS(s, p, d, g, t, op)                                                   \
  "{stride = " s ", padding = " p ", dilation = " d ", groups = " g ", transposed = " t \
  ", output_padding = " op "}"
constexpr OpSample kConvSamples[] = {
    {"_[2, 3, 7, 5], _[4, 3, 3, 3], _[4]",
     CONV_ATTRS("[1, 1]", "[1, 1]", "[1, 1]", "1", "false", "[0, 0]")},
    {"_[1, 4, 9, 8], _[6, 2, 3, 2], none",
     CONV_ATTRS("[2, 1]", "[0, 1]", "[2, 1]", "2", "false", "[0, 0]")},
    {"_[1, 4, 5, 5], _[4, 1, 3, 3]",
     CONV_ATTRS("[1, 1]", "[1, 1]", "[1, 1]", "4", "false", "[0, 0]")},
    {"_[2, 3, 11], _[5, 3, 4], _[5]", CONV_ATTRS("[3]", "[2]", "[1]", "1", "false", "[0]")},
    {"_[1, 2, 4, 5, 6], _[3, 2, 2, 3, 1], _[3]",
     CONV_ATTRS("[1, 2, 1]", "[0, 1, 0]", "[1, 1, 1]", "1", "false", "[0, 0, 0]")},
    {"_[1, 1, 1, 1], _[1, 1, 1, 1]",
     CONV_ATTRS("[1, 1]", "[0, 0]", "[1, 1]", "1", "false", "[0, 0]")},
    {"_[0, 3, 5, 5], _[2, 3, 3, 3], _[2]",
     CONV_ATTRS("[1, 1]", "[1, 1]", "[1, 1]", "1", "false", "[0, 0]")},
    {"_[2, 3, 4, 5], _[3, 2, 3, 3], _[2]",
     CONV_ATTRS("[2, 2]", "[1, 1]", "[1, 1]", "1", "true", "[1, 1]")},
    {"_[1, 4, 5, 3], _[4, 3, 2, 3], _[6]",
     CONV_ATTRS("[2, 1]", "[0, 1]", "[1, 2]", "2", "true", "[0, 0]")},
    {"_[1, 2, 6], _[2, 3, 3]", CONV_ATTRS("[2]", "[1]", "[1]", "1", "true", "[1]")},
    {"_[1, 2, 3, 2, 3], _[2, 2, 2, 2, 2]",
     CONV_ATTRS("[1, 2, 2]", "[0, 0, 1]", "[1, 1, 1]", "1", "true", "[0, 1, 0]")},
};
#undef CONV_ATTRS

const OpDef kRows[] = {
    {.id = 450,
     .name = "matmul",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = InferMatmul,
     .traits = kStructured,
     .reference = ReferenceMatmul,
     .samples = kMatmulSamples,
     .torch = "torch.matmul(x[0], x[1])",
     .doc = "a[..., M, K] times b[..., K, N]; leading dims broadcast"},
    {.id = 451,
     .name = "conv",
     .min_inputs = 2,
     .max_inputs = 3,
     .attrs = kConvAttrs,
     .infer = InferConv,
     .traits = kStructured,
     .reference = ReferenceConv,
     .samples = kConvSamples,
     .torch = "torch.ops.aten.convolution(x[0], x[1], x[2] if len(x) > 2 else None, a['stride'], "
              "a['padding'], a['dilation'], a['transposed'], a['output_padding'], a['groups'])",
     .doc = "cross-correlation of x[N, Cin, spatial...] with w[Cout, Cin/groups, kernel...], or "
            "its transpose with w[Cin, Cout/groups, kernel...], plus a bias[Cout]"},
};

}  // namespace

std::span<const OpDef> LinalgRows() { return kRows; }

}  // namespace stator
