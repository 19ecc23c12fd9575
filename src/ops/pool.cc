// Pooling over 1 to 3 spatial dims of x[N, C, spatial...].
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/window.h"

namespace stator {
namespace {

// ---- types
int RequireSpatial(const TensorType& x) {
  RequireFloat(x, "x");
  RequireRank(x, 3, "x");
  if (x.rank() > 2 + kMaxSpatialDims) Reject("x is {}, expected 1 to 3 spatial dims", x.ToString());
  return x.rank() - 2;
}

Dims PooledDims(const InferContext& context, bool dilated) {
  const TensorType& x = context.input(0);
  int count = RequireSpatial(x);
  const Attrs& attrs = context.attrs;
  std::vector<int64_t> kernel = GetWindow(attrs, "kernel", count, 1);
  std::vector<int64_t> stride = GetWindow(attrs, "stride", count, 1);
  std::vector<int64_t> padding = GetWindow(attrs, "padding", count, 0);
  std::vector<int64_t> dilation(count, 1);
  if (dilated) dilation = GetWindow(attrs, "dilation", count, 1);
  Dims dims = {x.dims[0], x.dims[1]};
  for (int i = 0; i < count; ++i) {
    int64_t span = dilation[i] * (kernel[i] - 1) + 1;
    if (padding[i] > span / 2) Reject("padding {} is above half a window of {}", padding[i], span);
    dims.push_back(WindowOutputSize(x.dims[i + 2], kernel[i], stride[i], padding[i], dilation[i],
                                    attrs.GetBool("ceil_mode")));
  }
  return dims;
}

std::vector<TensorType> InferMaxPool(const InferContext& context) {
  return OneOutput(context.input(0).dtype, PooledDims(context, true));
}

std::vector<TensorType> InferMaxPoolIndices(const InferContext& context) {
  return OneOutput(DType::kInt64, PooledDims(context, true));
}

std::vector<TensorType> InferAvgPool(const InferContext& context) {
  Dim divisor = context.attrs.GetDim("divisor_override");
  if (!divisor.is_static()) Reject("divisor_override {} is symbolic", divisor.ToString());
  return OneOutput(context.input(0).dtype, PooledDims(context, false));
}

std::vector<TensorType> InferAdaptive(const InferContext& context) {
  const TensorType& x = context.input(0);
  int count = RequireSpatial(x);
  Dims dims = {x.dims[0], x.dims[1]};
  for (int64_t size : GetWindow(context.attrs, "output_size", count, 0)) dims.push_back(size);
  for (int i = 2; i < x.rank(); ++i) {
    if (x.dims[i] == Dim(0)) Reject("x is {}, which has nothing to pool", x.ToString());
  }
  return OneOutput(x.dtype, std::move(dims));
}

// ---- references
// Calls fn(n, c, position) for each output element.
template <typename Fn>
void ForEachOutput(const SpatialView& y, Fn&& fn) {
  for (int64_t n = 0; n < y.outer; ++n) {
    for (int64_t c = 0; c < y.inner; ++c) {
      ForEachPosition({0, 0, 0}, y.dims, [&](const Triple& out) { fn(n, c, out); });
    }
  }
}

// The largest element of a window, as torch finds it: the first of equals, and the last NaN; minus
// infinity of none.
struct Largest {
  double value = -std::numeric_limits<double>::infinity();
  int64_t index = -1;  // in the spatial dims

  void Offer(double offered, const Triple& position, const SpatialView& x) {
    if (index >= 0 && !(offered > value) && !std::isnan(offered)) return;
    value = offered;
    index = (position[0] * x.dims[1] + position[1]) * x.dims[2] + position[2];
  }

  template <bool kIndices, typename T>
  void Write(const TensorRef& output, int64_t offset) const {
    if constexpr (kIndices) {
      Data<int64_t>(output)[offset] = index;
    } else {
      Data<T>(output)[offset] = scalar::CastTo<T>(value);
    }
  }
};

// Writes the largest element of each window, or (kIndices) where it lies in the spatial dims.
template <bool kIndices>
void ReferenceMaxPool(const Attrs& attrs, std::span<const TensorRef> inputs,
                      std::span<TensorRef> outputs) {
  SpatialView x = MakeSpatialView(inputs[0]), y = MakeSpatialView(outputs[0]);
  Triple kernel = MakeTriple(attrs.GetInts("kernel"), 1);
  Triple stride = MakeTriple(attrs.GetInts("stride"), 1);
  Triple padding = MakeTriple(attrs.GetInts("padding"), 0);
  Triple dilation = MakeTriple(attrs.GetInts("dilation"), 1);
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOutput(y, [&](int64_t n, int64_t c, const Triple& out) {
      Largest largest;
      ForEachPosition({0, 0, 0}, kernel, [&](const Triple& k) {
        Triple in;
        for (int i = 0; i < kMaxSpatialDims; ++i) {
          in[i] = out[i] * stride[i] - padding[i] + k[i] * dilation[i];
        }
        if (!x.Contains(in)) return;
        largest.Offer(ToAccumulator(Data<T>(inputs[0])[x.OffsetOf(n, c, in)]), in, x);
      });
      largest.Write<kIndices, T>(outputs[0], y.OffsetOf(n, c, out));
    });
  });
}

// The mean of x[n, c] over [begin, end), its sum divided by `divisor`.
template <typename T>
T MeanOf(const TensorRef& tensor, const SpatialView& x, int64_t n, int64_t c, const Triple& begin,
         const Triple& end, double divisor) {
  double sum = 0;
  ForEachPosition(begin, end, [&](const Triple& in) {
    sum += ToAccumulator(Data<T>(tensor)[x.OffsetOf(n, c, in)]);
  });
  return scalar::CastTo<T>(sum / divisor);
}

double VolumeOf(const Triple& begin, const Triple& end) {
  double volume = 1;
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    volume *= static_cast<double>(std::max<int64_t>(end[i] - begin[i], 0));
  }
  return volume;
}

void ReferenceAvgPool(const Attrs& attrs, std::span<const TensorRef> inputs,
                      std::span<TensorRef> outputs) {
  SpatialView x = MakeSpatialView(inputs[0]), y = MakeSpatialView(outputs[0]);
  Triple kernel = MakeTriple(attrs.GetInts("kernel"), 1);
  Triple stride = MakeTriple(attrs.GetInts("stride"), 1);
  Triple padding = MakeTriple(attrs.GetInts("padding"), 0);
  bool include_pad = attrs.GetBool("count_include_pad");
  double override = static_cast<double>(attrs.GetInt("divisor_override"));
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOutput(y, [&](int64_t n, int64_t c, const Triple& out) {
      Triple begin, end, inner_begin, inner_end;
      for (int i = 0; i < kMaxSpatialDims; ++i) {
        begin[i] = out[i] * stride[i] - padding[i];
        end[i] = std::min(begin[i] + kernel[i], x.dims[i] + padding[i]);
        inner_begin[i] = std::max<int64_t>(begin[i], 0);
        inner_end[i] = std::min(end[i], x.dims[i]);
      }
      double volume = VolumeOf(inner_begin, inner_end);
      double divisor = include_pad ? VolumeOf(begin, end) : volume;
      if (override != 0) divisor = override;
      if (volume == 0) divisor = 1;  // a window of padding alone is 0
      Data<T>(outputs[0])[y.OffsetOf(n, c, out)] =
          MeanOf<T>(inputs[0], x, n, c, inner_begin, inner_end, divisor);
    });
  });
}

void AdaptiveWindow(const SpatialView& x, const SpatialView& y, const Triple& out, Triple& begin,
                    Triple& end) {
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    if (x.dims[i] == 0) Reject("x has nothing to pool");  // symbolic until now
    begin[i] = out[i] * x.dims[i] / y.dims[i];
    end[i] = ((out[i] + 1) * x.dims[i] + y.dims[i] - 1) / y.dims[i];
  }
}

void ReferenceAdaptive(const Attrs&, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  SpatialView x = MakeSpatialView(inputs[0]), y = MakeSpatialView(outputs[0]);
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOutput(y, [&](int64_t n, int64_t c, const Triple& out) {
      Triple begin, end;
      AdaptiveWindow(x, y, out, begin, end);
      Data<T>(outputs[0])[y.OffsetOf(n, c, out)] =
          MeanOf<T>(inputs[0], x, n, c, begin, end, VolumeOf(begin, end));
    });
  });
}

std::vector<TensorType> InferAdaptiveIndices(const InferContext& context) {
  return OneOutput(DType::kInt64, InferAdaptive(context)[0].dims);
}

// The largest element of each adaptive window, or (kIndices) where it lies, as ReferenceMaxPool.
template <bool kIndices>
void ReferenceAdaptiveMax(const Attrs&, std::span<const TensorRef> inputs,
                          std::span<TensorRef> outputs) {
  SpatialView x = MakeSpatialView(inputs[0]), y = MakeSpatialView(outputs[0]);
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOutput(y, [&](int64_t n, int64_t c, const Triple& out) {
      Triple begin, end;
      AdaptiveWindow(x, y, out, begin, end);
      Largest largest;
      ForEachPosition(begin, end, [&](const Triple& in) {
        largest.Offer(ToAccumulator(Data<T>(inputs[0])[x.OffsetOf(n, c, in)]), in, x);
      });
      largest.Write<kIndices, T>(outputs[0], y.OffsetOf(n, c, out));
    });
  });
}

// ---- rows
constexpr AttrDef kMaxPoolAttrs[] = {
    {"kernel", AttrDef::kInts, true, "window sizes, per spatial dim"},
    {"stride", AttrDef::kInts, true, "per spatial dim"},
    {"padding", AttrDef::kInts, true, "-inf on both sides, per spatial dim"},
    {"dilation", AttrDef::kInts, true, "distance of window elements, per spatial dim"},
    {"ceil_mode", AttrDef::kBool, true, "whether a window may reach past the end"},
};
constexpr AttrDef kAvgPoolAttrs[] = {
    {"kernel", AttrDef::kInts, true, "window sizes, per spatial dim"},
    {"stride", AttrDef::kInts, true, "per spatial dim"},
    {"padding", AttrDef::kInts, true, "zeros on both sides, per spatial dim"},
    {"ceil_mode", AttrDef::kBool, true, "whether a window may reach past the end"},
    {"count_include_pad", AttrDef::kBool, true, "whether padding counts in the divisor"},
    {"divisor_override", AttrDef::kInt, true, "the divisor; 0: the window's own count"},
};
constexpr AttrDef kAdaptiveAttrs[] = {
    {"output_size", AttrDef::kInts, true, "sizes of the result, per spatial dim"}};

#define MAX_ATTRS(k, s, p, d, ceil) \
  "{kernel = " k ", stride = " s ", padding = " p ", dilation = " d ", ceil_mode = " ceil "}"
constexpr OpSample kMaxPoolSamples[] = {
    {"_[2, 3, 7, 5]", MAX_ATTRS("[3, 2]", "[2, 2]", "[1, 0]", "[1, 1]", "false")},
    {"_[1, 2, 9, 8]", MAX_ATTRS("[2, 3]", "[1, 2]", "[1, 1]", "[2, 1]", "true")},
    {"_[2, 3, 11]", MAX_ATTRS("[3]", "[2]", "[1]", "[1]", "true")},
    {"_[1, 2, 5, 4, 6]", MAX_ATTRS("[2, 2, 3]", "[2, 1, 2]", "[0, 1, 1]", "[1, 1, 1]", "false")},
    {"_[1, 1, 1, 1]", MAX_ATTRS("[1, 1]", "[1, 1]", "[0, 0]", "[1, 1]", "false")},
    {"_[0, 2, 4, 4]", MAX_ATTRS("[2, 2]", "[2, 2]", "[0, 0]", "[1, 1]", "false")},
    {"_[1, 2, 6, 6]", MAX_ATTRS("[3, 3]", "[4, 4]", "[1, 1]", "[1, 1]", "true")},
    {"_[1, 3, 7, 9]", MAX_ATTRS("[3, 3]", "[2, 2]", "[1, 1]", "[1, 1]", "false")},
    {"_[1, 1, 2, 2]", MAX_ATTRS("[3, 3]", "[2, 2]", "[0, 0]", "[1, 1]", "true")},
};
#undef MAX_ATTRS
#define AVG_ATTRS(k, s, p, ceil, include, divisor)                      \
  "{kernel = " k ", stride = " s ", padding = " p ", ceil_mode = " ceil \
  ", count_include_pad = " include ", divisor_override = " divisor "}"
constexpr OpSample kAvgPoolSamples[] = {
    {"_[2, 3, 7, 5]", AVG_ATTRS("[3, 2]", "[2, 2]", "[1, 1]", "false", "true", "0")},
    {"_[2, 3, 7, 5]", AVG_ATTRS("[3, 2]", "[2, 2]", "[1, 1]", "true", "false", "0")},
    {"_[1, 2, 6, 6]", AVG_ATTRS("[3, 3]", "[2, 2]", "[1, 1]", "true", "true", "0")},
    {"_[1, 2, 6, 6]", AVG_ATTRS("[3, 3]", "[2, 2]", "[1, 1]", "true", "true", "5")},
    {"_[2, 3, 11]", AVG_ATTRS("[3]", "[2]", "[1]", "true", "true", "0")},
    {"_[1, 2, 5, 4, 6]", AVG_ATTRS("[2, 2, 3]", "[2, 1, 2]", "[0, 1, 1]", "false", "false", "0")},
    {"_[1, 1, 1, 1]", AVG_ATTRS("[1, 1]", "[1, 1]", "[0, 0]", "false", "true", "0")},
    {"_[0, 2, 4, 4]", AVG_ATTRS("[2, 2]", "[2, 2]", "[0, 0]", "false", "true", "0")},
    {"_[1, 3, 7, 9]", AVG_ATTRS("[3, 3]", "[2, 2]", "[1, 1]", "false", "true", "0")},
};
#undef AVG_ATTRS
constexpr OpSample kAdaptiveSamples[] = {
    {"_[2, 3, 7, 5]", "{output_size = [1, 1]}"},       {"_[2, 3, 7, 5]", "{output_size = [3, 2]}"},
    {"_[1, 2, 3, 2]", "{output_size = [5, 7]}"},       {"_[2, 3, 11]", "{output_size = [4]}"},
    {"_[1, 2, 5, 4, 6]", "{output_size = [2, 3, 1]}"}, {"_[0, 2, 4, 4]", "{output_size = [2, 2]}"},
    {"_[1, 3, 7, 9]", "{output_size = [3, 5]}"},       {"_[1, 1, 1, 1]", "{output_size = [1, 1]}"},
};

#define POOL(name) "getattr(torch.nn.functional, f'" name "{x[0].dim() - 2}d')"

const OpDef kRows[] = {
    {.id = 560,
     .name = "max_pool",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kMaxPoolAttrs,
     .infer = InferMaxPool,
     .traits = kStructured,
     .reference = ReferenceMaxPool<false>,
     .samples = kMaxPoolSamples,
     .torch = POOL("max_pool") "(x[0], a['kernel'], a['stride'], a['padding'], a['dilation'], "
                               "a['ceil_mode'])",
     .doc = "largest element of each window; NaN if any is NaN"},
    {.id = 561,
     .name = "max_pool_indices",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kMaxPoolAttrs,
     .infer = InferMaxPoolIndices,
     .traits = kStructured,
     .reference = ReferenceMaxPool<true>,
     .samples = kMaxPoolSamples,
     .torch = POOL("max_pool") "(x[0], a['kernel'], a['stride'], a['padding'], a['dilation'], "
                               "a['ceil_mode'], return_indices=True)[1]",
     .doc = "where max_pool's elements lie: positions in x's spatial dims taken as one; -1 for a "
            "window "
            "that holds padding alone"},
    {.id = 562,
     .name = "avg_pool",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kAvgPoolAttrs,
     .infer = InferAvgPool,
     .traits = kStructured,
     .reference = ReferenceAvgPool,
     .samples = kAvgPoolSamples,
     .torch = POOL("avg_pool") "(x[0], a['kernel'], a['stride'], a['padding'], a['ceil_mode'], "
                               "a['count_include_pad'], **({'divisor_override': "
                               "a['divisor_override']} if a['divisor_override'] else {}))",
     .doc = "mean of each window"},
    {.id = 563,
     .name = "adaptive_avg_pool",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kAdaptiveAttrs,
     .infer = InferAdaptive,
     .traits = kStructured,
     .reference = ReferenceAdaptive,
     .samples = kAdaptiveSamples,
     .torch = POOL("adaptive_avg_pool") "(x[0], a['output_size'])",
     .doc = "mean of windows [floor(i * in / out), ceil((i + 1) * in / out))"},
    {.id = 564,
     .name = "adaptive_max_pool",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kAdaptiveAttrs,
     .infer = InferAdaptive,
     .traits = kStructured,
     .reference = ReferenceAdaptiveMax<false>,
     .samples = kAdaptiveSamples,
     .torch = POOL("adaptive_max_pool") "(x[0], a['output_size'])",
     .doc = "largest element of the windows of adaptive_avg_pool; NaN if any is NaN"},
    {.id = 565,
     .name = "adaptive_max_pool_indices",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kAdaptiveAttrs,
     .infer = InferAdaptiveIndices,
     .traits = kStructured,
     .reference = ReferenceAdaptiveMax<true>,
     .samples = kAdaptiveSamples,
     .torch = POOL("adaptive_max_pool") "(x[0], a['output_size'], return_indices=True)[1]",
     .doc = "where adaptive_max_pool's elements lie: positions in x's spatial dims taken as one"},
};
#undef POOL

}  // namespace

std::span<const OpDef> PoolRows() { return kRows; }

}  // namespace stator
