// Converters of pooling, padding, resampling and sampling at points.
#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// A list with one integer per spatial dim; one integer stands for all, none for the fallback.
Dims Window(const Conversion& c, std::string_view name, int count, const Dims& fallback) {
  if (!c.Has(name)) return fallback;
  std::vector<int64_t> values = c.Ints(name);
  if (values.empty()) return fallback;
  if (values.size() == 1) values.resize(count, values[0]);
  return ToDims(values);
}

// The input with a batch dim, which `single` says was added.
ValueId BatchedInput(Conversion& c, int num_spatial, bool& single) {
  ValueId x = c.Tensor("self");
  single = c.type(x).rank() == num_spatial + 1;
  return single ? c.Unsqueeze(x, 0) : x;
}

int NumSpatial(std::string_view dims) { return dims[0] - '0'; }

// max_pool1d..3d, with or without indices; `dims` is the number of spatial dims.
Values ConvertMaxPool(Conversion& c, std::string_view dims) {
  int count = NumSpatial(dims);
  bool single;
  ValueId x = BatchedInput(c, count, single);
  Dims kernel = Window(c, "kernel_size", count, {});
  Attrs attrs = {{"kernel", kernel},
                 {"stride", Window(c, "stride", count, kernel)},
                 {"padding", Window(c, "padding", count, Dims(count, Dim(0)))},
                 {"dilation", Window(c, "dilation", count, Dims(count, Dim(1)))},
                 {"ceil_mode", c.Bool("ceil_mode", false)}};
  auto pool = [&](std::string_view op) {
    ValueId y = c.Add(op, {x}, attrs);
    return single ? c.Squeeze(y, 0) : y;
  };
  Values values = {pool("max_pool")};
  if (c.num_outputs() > 1) values.push_back(c.IsUsed(1) ? pool("max_pool_indices") : ValueId{});
  return values;
}

Values ConvertAvgPool(Conversion& c, std::string_view dims) {
  int count = NumSpatial(dims);
  bool single;
  ValueId x = BatchedInput(c, count, single);
  Dims kernel = Window(c, "kernel_size", count, {});
  ValueId y = c.Add("avg_pool", {x},
                    {{"kernel", kernel},
                     {"stride", Window(c, "stride", count, kernel)},
                     {"padding", Window(c, "padding", count, Dims(count, Dim(0)))},
                     {"ceil_mode", c.Bool("ceil_mode", false)},
                     {"count_include_pad", c.Bool("count_include_pad", true)},
                     {"divisor_override", Dim(c.Int("divisor_override", 0))}});
  return {single ? c.Squeeze(y, 0) : y};
}

Values ConvertAdaptiveAvgPool(Conversion& c, std::string_view dims) {
  int count = NumSpatial(dims);
  bool single;
  ValueId x = BatchedInput(c, count, single);
  ValueId y =
      c.Add("adaptive_avg_pool", {x}, {{"output_size", Window(c, "output_size", count, {})}});
  return {single ? c.Squeeze(y, 0) : y};
}

// Pads are given from the last dim backwards in torch, from the first dim in our op.
Values ConvertPad(Conversion& c, std::string_view mode) {
  ValueId self = c.Tensor("self");
  Dims torch_pads = c.Sizes(c.Has("pad") ? "pad" : "padding");
  int rank = c.type(self).rank();
  c.Require(torch_pads.size() % 2 == 0 && static_cast<int>(torch_pads.size()) <= 2 * rank,
            "a list of pads that does not fit the tensor");
  std::string kind = mode.empty() ? c.String("mode", "constant") : std::string(mode);
  if (kind == "circular") c.Reject("circular padding");
  Dims pads(2 * rank, Dim(0));
  for (size_t i = 0; i < torch_pads.size(); i += 2) {
    size_t dim = rank - 1 - i / 2;
    pads[2 * dim] = torch_pads[i];
    pads[2 * dim + 1] = torch_pads[i + 1];
  }
  double value = kind == "constant" ? c.Float("value", 0) : 0;
  if (kind == "constant") {
    return {c.Add("pad", {self}, {{"pads", pads}, {"mode", kind}, {"value", value}})};
  }
  // What a negative pad takes away is there for the other end to repeat.
  Dims grown = pads;
  auto is_negative = [](const Dim& pad) { return pad.is_static() && pad.value() < 0; };
  std::replace_if(grown.begin(), grown.end(), is_negative, Dim(0));
  ValueId result = c.Add("pad", {self}, {{"pads", grown}, {"mode", kind}, {"value", value}});
  for (int dim = 0; dim < rank; ++dim) {
    Dim before = grown[2 * dim] - pads[2 * dim], after = grown[2 * dim + 1] - pads[2 * dim + 1];
    if (before == Dim(0) && after == Dim(0)) continue;
    result = c.Slice(result, dim, before, c.type(result).dims[dim] - after);
  }
  return {result};
}

// adaptive_max_pool2d and 3d: the elements and where they lie.
Values ConvertAdaptiveMaxPool(Conversion& c, std::string_view dims) {
  int count = NumSpatial(dims);
  bool single;
  ValueId x = BatchedInput(c, count, single);
  Attrs attrs = {{"output_size", Window(c, "output_size", count, {})}};
  auto pool = [&](std::string_view op) {
    ValueId y = c.Add(op, {x}, attrs);
    return single ? c.Squeeze(y, 0) : y;
  };
  return {pool("adaptive_max_pool"), c.IsUsed(1) ? pool("adaptive_max_pool_indices") : ValueId{}};
}

// upsample_*: scales that are given take the place of the ratios of the sizes.
Values ConvertResample(Conversion& c, std::string_view mode) {
  ValueId x = c.Tensor(c.Has("input") ? "input" : "self");
  const Dims to = c.output_type().dims;
  Attrs attrs = {{"mode", std::string(mode)},
                 {"align_corners", c.Bool("align_corners", false)},
                 {"output_size", Dims(to.begin() + 2, to.end())}};
  constexpr std::string_view kNames[] = {"scale_d", "scale_h", "scale_w"};
  constexpr std::string_view kArguments[] = {"scales_d", "scales_h", "scales_w"};
  if (c.Has("scale_factors")) {
    std::vector<double> scales = c.Floats("scale_factors");
    c.Require(scales.size() + 2 == to.size(), "as many scale factors as spatial dims");
    for (size_t i = 0; i < scales.size(); ++i) {
      attrs.Set(kNames[std::size(kNames) - scales.size() + i], scales[i]);
    }
  }
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (c.Has(kArguments[i])) attrs.Set(kNames[i], c.Float(kArguments[i]));
  }
  if (c.Has("scales")) attrs.Set("scale_w", c.Float("scales"));
  return {c.Add("resample", {x}, std::move(attrs))};
}

Values ConvertGridSample(Conversion& c, std::string_view) {
  constexpr std::string_view kModes[] = {"bilinear", "nearest", "bicubic"};
  constexpr std::string_view kPaddings[] = {"zeros", "border", "reflection"};
  size_t mode = c.Int("interpolation_mode"), padding = c.Int("padding_mode");
  c.Require(mode < std::size(kModes) && padding < std::size(kPaddings), "an unknown mode");
  return {c.Add("grid_sample", {c.Tensor("input"), c.Tensor("grid")},
                {{"mode", std::string(kModes[mode])},
                 {"padding", std::string(kPaddings[padding])},
                 {"align_corners", c.Bool("align_corners")}})};
}

constexpr Converter kRows[] = {
    {"aten.max_pool1d.default", ConvertMaxPool, "1"},
    {"aten.max_pool2d.default", ConvertMaxPool, "2"},
    {"aten.max_pool3d.default", ConvertMaxPool, "3"},
    {"aten.max_pool1d_with_indices.default", ConvertMaxPool, "1"},
    {"aten.max_pool2d_with_indices.default", ConvertMaxPool, "2"},
    {"aten.max_pool3d_with_indices.default", ConvertMaxPool, "3"},
    {"aten.avg_pool1d.default", ConvertAvgPool, "1"},
    {"aten.avg_pool2d.default", ConvertAvgPool, "2"},
    {"aten.avg_pool3d.default", ConvertAvgPool, "3"},
    {"aten.adaptive_avg_pool1d.default", ConvertAdaptiveAvgPool, "1"},
    {"aten.adaptive_avg_pool2d.default", ConvertAdaptiveAvgPool, "2"},
    {"aten.adaptive_avg_pool3d.default", ConvertAdaptiveAvgPool, "3"},
    {"aten._adaptive_avg_pool2d.default", ConvertAdaptiveAvgPool, "2"},
    {"aten._adaptive_avg_pool3d.default", ConvertAdaptiveAvgPool, "3"},
    {"aten.constant_pad_nd.default", ConvertPad, "constant"},
    {"aten.pad.default", ConvertPad},
    {"aten.reflection_pad1d.default", ConvertPad, "reflect"},
    {"aten.reflection_pad2d.default", ConvertPad, "reflect"},
    {"aten.reflection_pad3d.default", ConvertPad, "reflect"},
    {"aten.replication_pad1d.default", ConvertPad, "replicate"},
    {"aten.replication_pad2d.default", ConvertPad, "replicate"},
    {"aten.replication_pad3d.default", ConvertPad, "replicate"},
    {"aten.upsample_nearest1d.default", ConvertResample, "nearest"},
    {"aten.upsample_nearest1d.vec", ConvertResample, "nearest"},
    {"aten.upsample_nearest2d.default", ConvertResample, "nearest"},
    {"aten.upsample_nearest2d.vec", ConvertResample, "nearest"},
    {"aten.upsample_nearest3d.default", ConvertResample, "nearest"},
    {"aten.upsample_nearest3d.vec", ConvertResample, "nearest"},
    {"aten._upsample_nearest_exact1d.default", ConvertResample, "nearest_exact"},
    {"aten._upsample_nearest_exact1d.vec", ConvertResample, "nearest_exact"},
    {"aten._upsample_nearest_exact2d.default", ConvertResample, "nearest_exact"},
    {"aten._upsample_nearest_exact2d.vec", ConvertResample, "nearest_exact"},
    {"aten._upsample_nearest_exact3d.default", ConvertResample, "nearest_exact"},
    {"aten._upsample_nearest_exact3d.vec", ConvertResample, "nearest_exact"},
    {"aten.upsample_linear1d.default", ConvertResample, "linear"},
    {"aten.upsample_linear1d.vec", ConvertResample, "linear"},
    {"aten.upsample_bilinear2d.default", ConvertResample, "linear"},
    {"aten.upsample_bilinear2d.vec", ConvertResample, "linear"},
    {"aten.upsample_trilinear3d.default", ConvertResample, "linear"},
    {"aten.upsample_trilinear3d.vec", ConvertResample, "linear"},
    {"aten.upsample_bicubic2d.default", ConvertResample, "cubic"},
    {"aten.upsample_bicubic2d.vec", ConvertResample, "cubic"},
    {"aten._upsample_bilinear2d_aa.default", ConvertResample, "linear_aa"},
    {"aten._upsample_bilinear2d_aa.vec", ConvertResample, "linear_aa"},
    {"aten._upsample_bicubic2d_aa.default", ConvertResample, "cubic_aa"},
    {"aten._upsample_bicubic2d_aa.vec", ConvertResample, "cubic_aa"},
    {"aten.grid_sampler_2d.default", ConvertGridSample},
    {"aten.grid_sampler_3d.default", ConvertGridSample},
    {"aten.grid_sampler.default", ConvertGridSample},
    {"aten.adaptive_max_pool2d.default", ConvertAdaptiveMaxPool, "2"},
    {"aten.adaptive_max_pool3d.default", ConvertAdaptiveMaxPool, "3"},
};

}  // namespace

std::span<const Converter> WindowConverters() { return kRows; }

}  // namespace stator
