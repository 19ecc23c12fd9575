// Converters of ops that put elements in order.
#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

constexpr std::string_view kUnstable =
    "a sort that is not stable leaves equal elements in the order of torch's algorithm";

// A stable sort, or one of values alone.
Values ConvertSort(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank(), dim = c.DimIndex("dim", rank, -1);
  c.Require(c.Bool("stable", false) || !c.IsUsed(1) || rank == 0, kUnstable);
  if (rank == 0) return {self, c.Literal(DType::kInt64, 0)};
  return c.graph()
      .node(c.AddNode("sort", {self},
                      {{"dim", Dim(dim)}, {"descending", c.Bool("descending", false)}}))
      .outputs;
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
    {"aten.searchsorted.Tensor", ConvertSearchsorted, "sorted_sequence,self"},
    {"aten.searchsorted.Scalar", ConvertSearchsorted, "sorted_sequence,self"},
    {"aten.bucketize.Tensor", ConvertSearchsorted, "boundaries,self"},
    {"aten.bucketize.Scalar", ConvertSearchsorted, "boundaries,self"},
};

}  // namespace

std::span<const Converter> OrderConverters() { return kRows; }

}  // namespace stator
