// Sampling of x[N, C, spatial...] at the points of a grid.
#include "ops/grid_sample.h"

#include <algorithm>
#include <cmath>

#include "ops/rows.h"
#include "ops/rules.h"

namespace stator {
namespace {

// ---- coordinates
template <typename T>
T Clip(T x, int64_t size) {  // NaN becomes 0
  return std::min(static_cast<T>(size - 1), x > 0 ? x : T(0));
}

// `x` folded into [low / 2, high / 2].
template <typename T>
T Reflect(T x, int64_t low, int64_t high) {
  if (low == high) return 0;
  T min = static_cast<T>(low) / 2, span = static_cast<T>(high - low) / 2;
  x = std::abs(x - min);
  T rest = std::fmod(x, span);
  return std::fmod(std::floor(x / span), T(2)) == 0 ? rest + min : span - rest + min;
}

template <typename T>
T Unnormalize(const GridSampling& sampling, T x, int64_t size) {
  T scale = static_cast<T>(sampling.align_corners ? size - 1 : size) / 2;
  return sampling.align_corners ? (x + 1) * scale : (x + 1) * scale - T(0.5);
}

template <typename T>
T ApplyPadding(const GridSampling& sampling, T x, int64_t size) {
  if (sampling.padding == GridSampling::kZeros) return x;
  if (sampling.padding == GridSampling::kReflection) {
    x = sampling.align_corners ? Reflect<T>(x, 0, 2 * (size - 1)) : Reflect<T>(x, -1, 2 * size - 1);
  }
  return Clip(x, size);
}

// `x` as a position, or -1 outside of [0, size); x is whole or no number.
template <typename T>
int64_t ToPosition(T x, int64_t size) {
  return x >= 0 && x < static_cast<T>(size) ? static_cast<int64_t>(x) : -1;
}

// The factors of the four neighbours of a point `t` behind the second (Keys 1981, a = -0.75).
template <typename T>
void CubicWeights(T t, T (&weights)[4]) {
  constexpr T a = T(-0.75);
  auto near = [](T x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  auto far = [](T x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  weights[0] = far(t + 1);
  weights[1] = near(t);
  weights[2] = near(1 - t);
  weights[3] = far(2 - t);
}

// The positions and weights along one spatial dim.
template <typename T>
struct AxisTaps {
  int count = 0;
  int64_t at[4];
  T weight[4];
};

template <typename T>
AxisTaps<T> FindAxisTaps(const GridSampling& sampling, T x, int64_t size) {
  x = Unnormalize(sampling, x, size);
  AxisTaps<T> taps;
  if (sampling.mode == GridSampling::kBicubic) {
    T first = std::floor(x);
    taps.count = 4;
    CubicWeights<T>(x - first, taps.weight);
    for (int k = 0; k < 4; ++k) {
      T neighbour = ApplyPadding(sampling, first + static_cast<T>(k - 1), size);
      taps.at[k] = ToPosition(std::trunc(neighbour), size);
    }
    return taps;
  }
  x = ApplyPadding(sampling, x, size);
  if (sampling.mode == GridSampling::kNearest) {
    taps.count = 1;
    taps.at[0] = ToPosition(std::nearbyint(x), size);
    taps.weight[0] = 1;
    return taps;
  }
  T first = std::floor(x);
  taps.count = 2;
  taps.weight[1] = x - first;
  taps.weight[0] = 1 - taps.weight[1];
  for (int k = 0; k < 2; ++k) taps.at[k] = ToPosition(first + static_cast<T>(k), size);
  return taps;
}

template <typename T>
void FindTaps(const GridSampling& sampling, const T* point, GridTaps<T>& taps) {
  AxisTaps<T> axes[kMaxSpatialDims];
  for (int i = 0; i < kMaxSpatialDims; ++i) {
    int coordinate = kMaxSpatialDims - 1 - i;  // x is that of the last dim
    if (coordinate < sampling.num_spatial) {
      axes[i] = FindAxisTaps(sampling, point[coordinate], sampling.size[i]);
    } else {
      axes[i] = {.count = 1, .at = {0}, .weight = {1}};
    }
  }
  int n = 0;
  for (int i = 0; i < axes[0].count; ++i) {
    for (int j = 0; j < axes[1].count; ++j) {
      for (int k = 0; k < axes[2].count; ++k, ++n) {
        bool outside = axes[0].at[i] < 0 || axes[1].at[j] < 0 || axes[2].at[k] < 0;
        taps.at[n] = {outside ? -1 : axes[0].at[i], axes[1].at[j], axes[2].at[k]};
        taps.weight[n] = axes[0].weight[i] * axes[1].weight[j] * axes[2].weight[k];
      }
    }
  }
}

// ---- the row
std::vector<TensorType> InferGridSample(const InferContext& context) {
  const TensorType &x = context.input(0), &grid = context.input(1);
  RequireSameDType(context);
  RequireFloat(x, "x");
  int num_spatial = x.rank() - 2;
  if (num_spatial < 2 || num_spatial > kMaxSpatialDims || grid.rank() != x.rank() ||
      grid.dims[0] != x.dims[0] || grid.dims.back() != Dim(num_spatial)) {
    Reject(
        "x is {} and grid is {}, expected x[N, C, H, W] and grid[N, h, w, 2], or one spatial dim "
        "more",
        x.ToString(), grid.ToString());
  }
  std::optional<GridSampling> sampling = FindGridSampling(context.attrs, num_spatial);
  if (!sampling || (sampling->mode == GridSampling::kBicubic && num_spatial == 3)) {
    Reject("mode \"{}\" with padding \"{}\" over {} spatial dims", context.attrs.GetString("mode"),
           context.attrs.GetString("padding"), num_spatial);
  }
  for (int i = 2; i < x.rank(); ++i) {
    if (x.dims[i] == Dim(0)) Reject("x is {}, which has nothing to sample", x.ToString());
  }
  Dims dims = {x.dims[0], x.dims[1]};
  dims.insert(dims.end(), grid.dims.begin() + 1, grid.dims.end() - 1);
  return OneOutput(x.dtype, std::move(dims));
}

void ReferenceGridSample(const Attrs& attrs, std::span<const TensorRef> inputs,
                         std::span<TensorRef> outputs) {
  const TensorRef& grid = inputs[1];
  SpatialView x = MakeSpatialView(inputs[0]), y = MakeSpatialView(outputs[0]);
  GridSampling sampling = *FindGridSampling(attrs, inputs[0].rank() - 2);
  sampling.size = x.dims;
  Triple grid_strides = MakeTriple(std::span(grid.strides).subspan(1, sampling.num_spatial), 0);
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using Coordinate = std::conditional_t<std::is_same_v<T, double>, double, float>;
    GridTaps<Coordinate> taps;
    for (int64_t n = 0; n < y.outer; ++n) {
      ForEachPosition({0, 0, 0}, y.dims, [&](const Triple& out) {
        int64_t offset = n * grid.strides[0];
        for (int i = 0; i < kMaxSpatialDims; ++i) offset += out[i] * grid_strides[i];
        Coordinate point[kMaxSpatialDims];
        for (int i = 0; i < sampling.num_spatial; ++i) {
          point[i] = scalar::CastTo<Coordinate>(Data<T>(grid)[offset + i * grid.strides.back()]);
        }
        FindGridTaps(sampling, point, taps);
        for (int64_t c = 0; c < y.inner; ++c) {
          double sum = 0;
          for (int k = 0; k < sampling.num_taps(); ++k) {
            bool outside = taps.at[k][0] < 0;
            double value =
                outside ? 0 : ToAccumulator(Data<T>(inputs[0])[x.OffsetOf(n, c, taps.at[k])]);
            sum += value * static_cast<double>(taps.weight[k]);
          }
          Data<T>(outputs[0])[y.OffsetOf(n, c, out)] = scalar::CastTo<T>(sum);
        }
      });
    }
  });
}

constexpr AttrDef kAttrs[] = {
    {"mode", AttrDef::kString, true,
     "\"bilinear\", \"nearest\", and for 2 spatial dims \"bicubic\""},
    {"padding", AttrDef::kString, true,
     "what is outside: \"zeros\", \"border\" (the nearest element) or \"reflection\""},
    {"align_corners", AttrDef::kBool, true,
     "whether -1 and 1 are the centres of the first and last elements, or their outer edges"},
};

#define GRID_ATTRS(mode, padding, align) \
  "{mode = \"" mode "\", padding = \"" padding "\", align_corners = " align "}"
constexpr OpSample kSamples[] = {
    {"_[1, 3, 5, 5], _[1, 3, 7, 2]", GRID_ATTRS("bilinear", "zeros", "false")},
    {"_[2, 3, 4, 5], _[2, 3, 7, 2]", GRID_ATTRS("bilinear", "zeros", "false")},
    {"_[1, 2, 4, 5], _[1, 6, 3, 2]", GRID_ATTRS("bilinear", "border", "true")},
    {"_[1, 2, 4, 5], _[1, 6, 3, 2]", GRID_ATTRS("bilinear", "reflection", "false")},
    {"_[1, 2, 4, 5], _[1, 6, 3, 2]", GRID_ATTRS("nearest", "zeros", "true")},
    {"_[1, 2, 4, 5], _[1, 6, 3, 2]", GRID_ATTRS("nearest", "reflection", "true")},
    {"_[1, 2, 4, 5], _[1, 6, 3, 2]", GRID_ATTRS("bicubic", "zeros", "false")},
    {"_[1, 2, 4, 5], _[1, 6, 3, 2]", GRID_ATTRS("bicubic", "reflection", "true")},
    {"_[1, 2, 3, 4, 5], _[1, 2, 2, 3, 3]", GRID_ATTRS("bilinear", "zeros", "false")},
    {"_[1, 2, 3, 4, 5], _[1, 2, 2, 3, 3]", GRID_ATTRS("nearest", "border", "false")},
    {"_[0, 2, 4, 5], _[0, 6, 3, 2]", GRID_ATTRS("bilinear", "zeros", "false")},
    {"_[1, 1, 1, 1], _[1, 1, 1, 2]", GRID_ATTRS("bilinear", "border", "false")},
};
#undef GRID_ATTRS

const OpDef kRows[] = {
    {.id = 580,
     .name = "grid_sample",
     .min_inputs = 2,
     .max_inputs = 2,
     .attrs = kAttrs,
     .infer = InferGridSample,
     .traits = kStructured,
     .reference = ReferenceGridSample,
     .samples = kSamples,
     .torch = "torch.nn.functional.grid_sample(x[0], x[1], a['mode'], a['padding'], "
              "a['align_corners'])",
     .doc =
         "x[N, C, spatial...] at the points grid[N, spatial..., (x, y, z)], which are in [-1, 1] "
         "inside of x"},
};

}  // namespace

int GridSampling::num_taps() const {
  int per_dim = mode == kNearest ? 1 : mode == kBilinear ? 2 : 4, taps = 1;
  for (int i = 0; i < num_spatial; ++i) taps *= per_dim;
  return taps;
}

std::optional<GridSampling> FindGridSampling(const Attrs& attrs, int num_spatial) {
  constexpr std::string_view kModes[] = {"bilinear", "nearest", "bicubic"};
  constexpr std::string_view kPaddings[] = {"zeros", "border", "reflection"};
  auto mode = std::ranges::find(kModes, attrs.GetString("mode"));
  auto padding = std::ranges::find(kPaddings, attrs.GetString("padding"));
  if (mode == std::end(kModes) || padding == std::end(kPaddings)) return std::nullopt;
  return GridSampling{
      .mode = static_cast<GridSampling::Mode>(mode - std::begin(kModes)),
      .padding = static_cast<GridSampling::Padding>(padding - std::begin(kPaddings)),
      .align_corners = attrs.GetBool("align_corners"),
      .num_spatial = num_spatial};
}

void FindGridTaps(const GridSampling& sampling, const float* point, GridTaps<float>& taps) {
  FindTaps(sampling, point, taps);
}
void FindGridTaps(const GridSampling& sampling, const double* point, GridTaps<double>& taps) {
  FindTaps(sampling, point, taps);
}

std::span<const OpDef> GridSampleRows() { return kRows; }

}  // namespace stator
