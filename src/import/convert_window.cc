// Converters of pooling, padding and nearest upsampling.
#include <cmath>

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
  return {c.Add("pad", {self}, {{"pads", pads}, {"mode", kind}, {"value", value}})};
}

// Nearest upsampling by whole factors: each element becomes a block of equal ones.
Values ConvertUpsampleNearest(Conversion& c, std::string_view) {
  ValueId x = c.Tensor(c.Has("input") ? "input" : "self");
  const Dims from = c.type(x).dims, to = c.output_type().dims;
  c.Require(IsStatic(from) && IsStatic(to) && from.size() == to.size(),
            "upsampling to a symbolic size");
  Dims split, expanded;
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t size = from[i].value();
    if (size == 0 || to[i].value() % size != 0) c.Reject("upsampling by a fractional factor");
    split.insert(split.end(), {from[i], Dim(1)});
    expanded.insert(expanded.end(), {from[i], Dim(to[i].value() / size)});
  }
  // A given factor is used instead of the ratio of sizes: 2.5 * 2 gives 5, and 5 / 2 is not 2.5
  // in general, so only whole factors are alike in both.
  std::vector<double> factors =
      c.Has("scale_factors") ? c.Floats("scale_factors") : std::vector<double>{};
  for (std::string_view scale : {"scales", "scales_d", "scales_h", "scales_w"}) {
    factors.push_back(c.Float(scale, 1));
  }
  for (double factor : factors) {
    c.Require(factor == std::trunc(factor), "upsampling by a fractional factor");
  }
  return {c.Reshape(c.Expand(c.Reshape(x, split), expanded), to)};
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
    {"aten.upsample_nearest1d.default", ConvertUpsampleNearest},
    {"aten.upsample_nearest2d.default", ConvertUpsampleNearest},
    {"aten.upsample_nearest3d.default", ConvertUpsampleNearest},
    {"aten.upsample_nearest1d.vec", ConvertUpsampleNearest},
    {"aten.upsample_nearest2d.vec", ConvertUpsampleNearest},
    {"aten.upsample_nearest3d.vec", ConvertUpsampleNearest},
};

}  // namespace

std::span<const Converter> WindowConverters() { return kRows; }

}  // namespace stator
