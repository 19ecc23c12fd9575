// Resampling of 1 to 3 spatial dims of x[N, C, spatial...] to other sizes.
#include "ops/resample.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/window.h"

namespace stator {
namespace {

// ---- taps
enum class Filter { kNearest, kNearestExact, kLinear, kCubic };

struct Mode {
  std::string_view name;
  Filter filter;
  bool antialias;
};
constexpr Mode kModes[] = {
    {"nearest", Filter::kNearest, false}, {"nearest_exact", Filter::kNearestExact, false},
    {"linear", Filter::kLinear, false},   {"cubic", Filter::kCubic, false},
    {"linear_aa", Filter::kLinear, true}, {"cubic_aa", Filter::kCubic, true},
};

const Mode* FindMode(const Attrs& attrs) {
  const std::string& name = attrs.GetString("mode");
  auto it = std::find_if(std::begin(kModes), std::end(kModes),
                         [&](const Mode& mode) { return mode.name == name; });
  return it == std::end(kModes) ? nullptr : it;
}

constexpr std::string_view kScaleNames[] = {"scale_d", "scale_h", "scale_w"};

// The cubic convolution kernel (Keys 1981) at distance |x| with its parameter a.
template <typename T>
T Cubic(T x, T a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// Positions of the input per position of the output.
template <typename T>
T FindStep(int64_t in, int64_t out, bool align_corners, double scale) {
  if (align_corners) return out > 1 ? static_cast<T>(in - 1) / static_cast<T>(out - 1) : T(0);
  return scale > 0 ? static_cast<T>(1.0 / scale) : static_cast<T>(in) / static_cast<T>(out);
}

template <typename T>
void AddInterpolated(Filter filter, int64_t i, T step, int64_t in, int64_t out, bool align_corners,
                     ResampleTaps& taps) {
  auto add = [&](int64_t index, T weight) {
    taps.index.push_back(std::clamp<int64_t>(index, 0, in - 1));
    taps.weight.push_back(static_cast<double>(weight));
  };
  auto cut = [](T position) {
    return static_cast<int64_t>(std::floor(static_cast<float>(position)));
  };
  T at = align_corners ? step * static_cast<T>(i) : step * (static_cast<T>(i) + T(0.5)) - T(0.5);
  if (filter == Filter::kNearest) return add(cut(step * static_cast<T>(i)), 1);
  if (filter == Filter::kNearestExact) return add(cut(std::max(at, T(0)) + T(0.5)), 1);
  if (filter == Filter::kLinear && in == out) return add(i, 1);
  if (filter == Filter::kLinear) at = std::max(at, T(0));
  int64_t first = std::min(cut(at), in - 1);
  T rest = std::clamp(at - static_cast<T>(first), T(0), T(1));
  if (filter == Filter::kLinear) {
    add(first, 1 - rest);
    return add(first + 1, rest);
  }
  for (int k = -1; k <= 2; ++k) add(first + k, Cubic<T>(rest - static_cast<T>(k), T(-0.75)));
}

// The filter is stretched over as many positions as an output position stands for.
template <typename T>
void AddAntialiased(Filter filter, int64_t i, T step, int64_t in, ResampleTaps& taps) {
  T reach = filter == Filter::kCubic ? 2 : 1;
  T support = step >= 1 ? reach * step : reach, shrink = step >= 1 ? 1 / step : T(1);
  T centre = step * (static_cast<T>(i) + T(0.5));
  int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + T(0.5)), 0);
  int64_t end = std::min<int64_t>(static_cast<int64_t>(centre + support + T(0.5)), in);
  size_t begin = taps.weight.size();
  T total = 0;
  for (int64_t k = first; k < end; ++k) {
    T x = (static_cast<T>(k) - centre + T(0.5)) * shrink;
    T weight = filter == Filter::kCubic ? Cubic<T>(x, T(-0.5)) : std::max(1 - std::abs(x), T(0));
    taps.index.push_back(k);
    taps.weight.push_back(static_cast<double>(weight));
    total += weight;
  }
  for (size_t k = begin; k < taps.weight.size() && total != 0; ++k) {
    taps.weight[k] = static_cast<double>(static_cast<T>(taps.weight[k]) / total);
  }
}

template <typename T>
ResampleTaps MakeTaps(const Mode& mode, int64_t in, int64_t out, bool align_corners, double scale) {
  T step = FindStep<T>(in, out, align_corners, scale);
  ResampleTaps taps{.begin = {0}, .index = {}, .weight = {}};
  for (int64_t i = 0; i < out; ++i) {
    if (mode.antialias) {
      AddAntialiased<T>(mode.filter, i, step, in, taps);
    } else {
      AddInterpolated<T>(mode.filter, i, step, in, out, align_corners, taps);
    }
    taps.begin.push_back(static_cast<int64_t>(taps.index.size()));
  }
  return taps;
}

// ---- the row
std::vector<TensorType> InferResample(const InferContext& context) {
  const TensorType& x = context.input(0);
  RequireFloat(x, "x");
  RequireRank(x, 3, "x");
  if (x.rank() > 2 + kMaxSpatialDims) Reject("x is {}, expected 1 to 3 spatial dims", x.ToString());
  const Mode* mode = FindMode(context.attrs);
  if (mode == nullptr) Reject("mode is \"{}\"", context.attrs.GetString("mode"));
  if ((mode->filter == Filter::kCubic || mode->antialias) && x.rank() != 4) {
    Reject("x is {}, expected 2 spatial dims for mode \"{}\"", x.ToString(), mode->name);
  }
  bool aligns =
      !mode->antialias && (mode->filter == Filter::kLinear || mode->filter == Filter::kCubic);
  if (!aligns && context.attrs.GetBool("align_corners")) {
    Reject("align_corners with mode \"{}\"", mode->name);
  }
  const Dims& sizes = context.attrs.GetDims("output_size");
  bool fits = static_cast<int>(sizes.size()) == x.rank() - 2;
  for (const Dim& size : sizes) fits = fits && !(size.is_static() && size.value() < 1);
  if (!fits) Reject("output_size is {} for x, which is {}", DimsToString(sizes), x.ToString());
  for (int i = 2; i < x.rank(); ++i) {
    if (x.dims[i] == Dim(0)) Reject("x is {}, which has nothing to resample", x.ToString());
  }
  Dims dims = {x.dims[0], x.dims[1]};
  dims.insert(dims.end(), sizes.begin(), sizes.end());
  return OneOutput(x.dtype, std::move(dims));
}

void ReferenceResample(const Attrs& attrs, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  SpatialView x = MakeSpatialView(inputs[0]), y = MakeSpatialView(outputs[0]);
  int num_spatial = inputs[0].rank() - 2;
  std::array<ResampleTaps, kMaxSpatialDims> taps;
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    int dim = i - (kMaxSpatialDims - num_spatial);
    taps[i] = dim >= 0 ? MakeResampleTaps(attrs, dim, num_spatial, x.dims[i], y.dims[i],
                                          inputs[0].dtype == DType::kFloat64)
                       : ResampleTaps{.begin = {0, 1}, .index = {0}, .weight = {1}};
  }
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    auto compute = [&](int64_t n, int64_t c, const Triple& out) {
      Triple begin, end;
      for (int i = 0; i < kMaxSpatialDims; ++i) {
        begin[i] = taps[i].begin[out[i]];
        end[i] = taps[i].begin[out[i] + 1];
      }
      double sum = 0;
      ForEachPosition(begin, end, [&](const Triple& tap) {
        Triple in;
        double weight = 1;
        for (int i = 0; i < kMaxSpatialDims; ++i) {
          in[i] = taps[i].index[tap[i]];
          weight *= taps[i].weight[tap[i]];
        }
        sum += weight * ToAccumulator(Data<T>(inputs[0])[x.OffsetOf(n, c, in)]);
      });
      Data<T>(outputs[0])[y.OffsetOf(n, c, out)] = scalar::CastTo<T>(sum);
    };
    for (int64_t n = 0; n < y.outer; ++n) {
      for (int64_t c = 0; c < y.inner; ++c) {
        ForEachPosition({0, 0, 0}, y.dims, [&](const Triple& out) { compute(n, c, out); });
      }
    }
  });
}

constexpr AttrDef kAttrs[] = {
    {"mode", AttrDef::kString, true,
     "\"nearest\", \"nearest_exact\", \"linear\", and for 2 spatial dims \"cubic\", \"linear_aa\", "
     "\"cubic_aa\""},
    {"align_corners", AttrDef::kBool, true,
     "whether the first and last positions stay in place: of \"linear\" and \"cubic\""},
    {"output_size", AttrDef::kInts, true, "sizes of the result, per spatial dim"},
    {"scale_d", AttrDef::kFloat, false,
     "of the third last dim: output per input; absent: as sizes"},
    {"scale_h", AttrDef::kFloat, false, "of the second last dim"},
    {"scale_w", AttrDef::kFloat, false, "of the last dim"},
};

constexpr OpSample kSamples[] = {
    {"_[2, 3, 4, 5]", R"({mode = "nearest", align_corners = false, output_size = [7, 10]})"},
    {"_[2, 3, 9, 5]", R"({mode = "nearest_exact", align_corners = false, output_size = [4, 11]})"},
    {"_[2, 3, 4, 5]", R"({mode = "linear", align_corners = false, output_size = [8, 10]})"},
    {"_[2, 3, 4, 5]", R"({mode = "linear", align_corners = true, output_size = [9, 37]})"},
    {"_[1, 2, 9, 8]", R"({mode = "linear", align_corners = false, output_size = [4, 1]})"},
    {"_[1, 2, 5, 5]",
     R"({mode = "linear", align_corners = false, output_size = [8, 8], scale_h = 1.7, scale_w = 1.7})"},
    {"_[2, 3, 4, 5]", R"({mode = "cubic", align_corners = false, output_size = [7, 10]})"},
    {"_[1, 2, 9, 8]", R"({mode = "cubic", align_corners = true, output_size = [4, 19]})"},
    {"_[1, 2, 9, 8]", R"({mode = "linear_aa", align_corners = false, output_size = [4, 19]})"},
    {"_[1, 2, 9, 8]", R"({mode = "cubic_aa", align_corners = false, output_size = [5, 3]})"},
    {"_[2, 3, 7]", R"({mode = "linear", align_corners = false, output_size = [17]})"},
    {"_[1, 3, 7]", R"({mode = "nearest", align_corners = false, output_size = [11]})"},
    {"_[2, 3, 7]",
     R"({mode = "nearest", align_corners = false, output_size = [3], scale_w = 0.5})"},
    {"_[1, 2, 3, 4, 5]", R"({mode = "linear", align_corners = false, output_size = [4, 4, 9]})"},
    {"_[1, 2, 3, 4, 5]",
     R"({mode = "nearest_exact", align_corners = false, output_size = [6, 3, 9]})"},
    {"_[0, 3, 4, 5]", R"({mode = "linear", align_corners = false, output_size = [7, 10]})"},
    {"_[1, 1, 1, 1]", R"({mode = "cubic", align_corners = false, output_size = [1, 1]})"},
};

const OpDef kRows[] = {
    {.id = 570,
     .name = "resample",
     .min_inputs = 1,
     .max_inputs = 1,
     .attrs = kAttrs,
     .infer = InferResample,
     .traits = kStructured,
     .reference = ReferenceResample,
     .samples = kSamples,
     .torch = "getattr(torch.ops.aten, {'nearest': f'upsample_nearest{x[0].dim() - 2}d', "
              "'nearest_exact': f'_upsample_nearest_exact{x[0].dim() - 2}d', 'linear': "
              "['upsample_linear1d', 'upsample_bilinear2d', 'upsample_trilinear3d'][x[0].dim() - "
              "3], 'cubic': 'upsample_bicubic2d', 'linear_aa': '_upsample_bilinear2d_aa', "
              "'cubic_aa': '_upsample_bicubic2d_aa'}[a['mode']])(x[0], a['output_size'], *([] if "
              "'nearest' in a['mode'] else [a['align_corners']]), *[a.get(k) for k in ('scale_d', "
              "'scale_h', 'scale_w')[5 - x[0].dim():]])",
     .doc = "x with its spatial dims at other sizes: nearest neighbours, or weighted sums of them"},
};

}  // namespace

ResampleTaps MakeResampleTaps(const Attrs& attrs, int dim, int num_spatial, int64_t in, int64_t out,
                              bool is_f64) {
  const Attr* scale = attrs.Find(kScaleNames[kMaxSpatialDims - num_spatial + dim]);
  double factor = scale == nullptr ? 0 : std::get<double>(*scale);
  bool align_corners = attrs.GetBool("align_corners");
  const Mode& mode = *FindMode(attrs);
  return is_f64 ? MakeTaps<double>(mode, in, out, align_corners, factor)
                : MakeTaps<float>(mode, in, out, align_corners, factor);
}

std::span<const OpDef> ResampleRows() { return kRows; }

}  // namespace stator
