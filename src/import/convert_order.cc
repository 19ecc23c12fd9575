// Converters of ops that put elements in order, or choose one.
#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// Values alone are the same in any order of equal elements, and quicker in a stable sort.
Values ConvertSort(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank(), dim = c.DimIndex("dim", rank, -1);
  if (rank == 0) return {self, c.Literal(DType::kInt64, 0)};
  return c.graph()
      .node(c.AddNode("sort", {self},
                      {{"dim", Dim(dim)},
                       {"descending", c.Bool("descending", false)},
                       {"stable", c.Bool("stable", false) || !c.IsUsed(1)}}))
      .outputs;
}

// kthvalue, median, nanmedian and mode along a dim, which ours keep; median also over all.
Values ConvertChosen(Conversion& c, std::string_view op) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  bool ignores_nan = op == "nanmedian", is_whole = c.num_outputs() == 1;
  Attrs attrs;
  if (op == "kthvalue") attrs.Set("k", Dim(c.Int("k")));
  if (ignores_nan || op == "median") attrs.Set("ignore_nan", ignores_nan);
  if (ignores_nan) op = "median";
  if (rank == 0 || is_whole) {
    self = c.Reshape(self, {NumElements(c.type(self).dims)});
    attrs.Set("dim", Dim(0));
  } else {
    attrs.Set("dim", Dim(c.DimIndex("dim", rank, -1)));
  }
  int dim = static_cast<int>(attrs.GetInt("dim"));
  Values values = c.graph().node(c.AddNode(op, {self}, std::move(attrs))).outputs;
  bool keeps = !is_whole && rank > 0 && c.Bool("keepdim", false);
  if (!keeps) {
    for (ValueId& value : values) value = c.Squeeze(value, dim);
  }
  values.resize(c.num_outputs());
  return values;
}

Values ConvertTopk(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank(), dim = c.DimIndex("dim", rank, -1);
  if (rank == 0) {
    c.Require(c.Int("k") == 1, "no element of a number");
    return {self, c.Literal(DType::kInt64, 0)};
  }
  return c.graph()
      .node(c.AddNode("topk", {self},
                      {{"dim", Dim(dim)},
                       {"k", Dim(c.Int("k"))},
                       {"largest", c.Bool("largest", true)},
                       {"sorted", c.Bool("sorted", true)}}))
      .outputs;
}

// searchsorted, and bucketize, which names its arguments otherwise.
Values ConvertSearchsorted(Conversion& c, std::string_view names) {
  size_t comma = names.find(',');
  std::string_view values_name = names.substr(comma + 1);
  ValueId sorted = c.Tensor(names.substr(0, comma));
  ValueId values = c.IsTensor(values_name)
                       ? c.Tensor(values_name)
                       : c.Literal(c.type(sorted).dtype, c.GetScalar(values_name));
  if (c.Has("sorter")) {
    Dim last = c.type(sorted).rank() - 1;
    sorted = c.Add("gather", {sorted, c.Tensor("sorter")}, {{"dim", last}});
  }
  bool right = c.Has("side") ? c.String("side", "left") == "right" : c.Bool("right", false);
  return {c.Add("searchsorted", {sorted, values},
                {{"right", right}, {"dtype", c.output_type().dtype}})};
}

constexpr Converter kRows[] = {
    {"aten.sort.default", ConvertSort},
    {"aten.sort.stable", ConvertSort},
    {"aten.topk.default", ConvertTopk},
    {"aten.kthvalue.default", ConvertChosen, "kthvalue"},
    {"aten.median.default", ConvertChosen, "median"},
    {"aten.median.dim", ConvertChosen, "median"},
    {"aten.nanmedian.default", ConvertChosen, "nanmedian"},
    {"aten.nanmedian.dim", ConvertChosen, "nanmedian"},
    {"aten.mode.default", ConvertChosen, "mode"},
    {"aten.searchsorted.Tensor", ConvertSearchsorted, "sorted_sequence,self"},
    {"aten.searchsorted.Scalar", ConvertSearchsorted, "sorted_sequence,self"},
    {"aten.bucketize.Tensor", ConvertSearchsorted, "boundaries,self"},
    {"aten.bucketize.Scalar", ConvertSearchsorted, "boundaries,self"},
};

}  // namespace

std::span<const Converter> OrderConverters() { return kRows; }

}  // namespace stator
