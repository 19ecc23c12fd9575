// The row embedding_bag: rows of a table at indices, joined bag by bag.
#include <algorithm>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

std::vector<TensorType> InferEmbeddingBag(const InferContext& context) {
  const TensorType &weight = context.input(0), &indices = context.input(1);
  const TensorType& offsets = context.input(2);
  RequireFloat(weight, "weight");
  RequireIndex(indices, "indices");
  RequireIndex(offsets, "offsets");
  const std::string& mode = context.attrs.GetString("mode");
  if (mode != "sum" && mode != "mean" && mode != "max") {
    Reject("mode is \"{}\", expected \"sum\", \"mean\" or \"max\"", mode);
  }
  if (weight.rank() != 2 || indices.rank() != 1 || offsets.rank() != 1) {
    Reject("weight is {}, indices are {} and offsets are {}, expected 2, 1 and 1 dims",
           weight.ToString(), indices.ToString(), offsets.ToString());
  }
  bool has_last = context.attrs.GetBool("include_last_offset");
  if (has_last && offsets.dims[0] == Dim(0)) Reject("offsets need the last one");
  if (context.inputs.size() > 3 && context.inputs[3] != nullptr) {
    const TensorType& scales = context.input(3);
    if (mode != "sum") Reject("per_sample_weights are for mode \"sum\"");
    if (scales.dtype != weight.dtype || scales.dims != indices.dims) {
      Reject("per_sample_weights are {}, expected {}", scales.ToString(),
             TensorType{.dtype = weight.dtype, .dims = indices.dims, .order = {}}.ToString());
    }
  }
  Dim num_bags = has_last ? offsets.dims[0] - Dim(1) : offsets.dims[0];
  return OneOutput(weight.dtype, {num_bags, weight.dims[1]});
}

// The indices [begin, end) of a bag.
struct Bag {
  int64_t begin, end;
};

Bag ReadBag(const TensorRef& offsets, int64_t bag, int64_t num_indices) {
  int64_t step = offsets.strides[0];
  int64_t begin = ReadIndex(offsets, bag * step);
  int64_t end = bag + 1 < offsets.dims[0] ? ReadIndex(offsets, (bag + 1) * step) : num_indices;
  if (begin < 0 || end > num_indices) {
    Reject("a bag is indices {} to {}, which are {}", begin, end, num_indices);
  }
  return {.begin = begin, .end = end};
}

// As torch joins: of the rows in a bag but those at padding_idx; 0 where there is none; NaN is the
// largest only as the first row of a bag.
void ReferenceEmbeddingBag(const Attrs& attrs, std::span<const TensorRef> inputs,
                           std::span<TensorRef> outputs) {
  const TensorRef &weight = inputs[0], &indices = inputs[1], &y = outputs[0];
  const std::string& mode = attrs.GetString("mode");
  int64_t padding = attrs.GetInt("padding_idx"), num_rows = weight.dims[0];
  bool is_scaled = inputs.size() > 3 && inputs[3].data != nullptr;
  DispatchFloat(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<double> joined(weight.dims[1]);
    for (int64_t b = 0; b < y.dims[0]; ++b) {
      Bag bag = ReadBag(inputs[2], b, indices.dims[0]);
      std::fill(joined.begin(), joined.end(), 0.0);
      int64_t count = 0;
      for (int64_t i = bag.begin; i < bag.end; ++i) {
        int64_t index = ReadIndex(indices, i * indices.strides[0]);
        if (index < 0 || index >= num_rows) {
          Reject("index {} is out of bounds for dimension 0 with size {}", index, num_rows);
        }
        if (index == padding) continue;
        double scale = 1;
        if (is_scaled) scale = ToAccumulator(Data<T>(inputs[3])[i * inputs[3].strides[0]]);
        for (size_t j = 0; j < joined.size(); ++j) {
          int64_t at = index * weight.strides[0] + static_cast<int64_t>(j) * weight.strides[1];
          double value = ToAccumulator(Data<T>(weight)[at]);
          if (mode != "max") {
            joined[j] += scale * value;
          } else if (count == 0 || value > joined[j]) {
            joined[j] = value;
          }
        }
        ++count;
      }
      for (size_t j = 0; j < joined.size(); ++j) {
        double value = joined[j];
        if (mode == "mean" && count > 0) value /= static_cast<double>(count);
        Data<T>(y)[b * y.strides[0] + static_cast<int64_t>(j) * y.strides[1]] =
            scalar::CastTo<T>(value);
      }
    }
  });
}

// ---- row
constexpr AttrDef kAttrs[] = {
    {"mode", AttrDef::kString, true, "\"sum\", \"mean\" or \"max\""},
    {"include_last_offset", AttrDef::kBool, true, "whether the last offset ends the last bag"},
    {"padding_idx", AttrDef::kInt, true, "the row that takes no part; -1 for none"},
};
constexpr OpSample kSamples[] = {
    {"_[7, 5], i64[0], i64[3]", R"({mode = "sum", include_last_offset = false, padding_idx = -1})",
     0, 1},
    {"_[7, 5], i64[9], i64[1]", R"({mode = "mean", include_last_offset = false, padding_idx = 2})",
     0, 1},
    {"_[1, 5], i32[9], i32[4]", R"({mode = "max", include_last_offset = false, padding_idx = -1})",
     0, 1},
    {"_[4, 3], i64[6], i64[2], _[6]",
     R"({mode = "sum", include_last_offset = false, padding_idx = -1})", 0, 1},
    {"_[4, 3], i64[0], i64[2]", R"({mode = "sum", include_last_offset = true, padding_idx = -1})",
     0, 1},
};

const OpDef kRows[] = {
    {.id = 611,
     .name = "embedding_bag",
     .min_inputs = 3,
     .max_inputs = 4,
     .attrs = kAttrs,
     .infer = InferEmbeddingBag,
     .reference = ReferenceEmbeddingBag,
     .samples = kSamples,
     .torch = "torch.nn.functional.embedding_bag(x[1], x[0], x[2], mode=a['mode'], "
              "per_sample_weights=x[3] if len(x) > 3 else None, "
              "include_last_offset=a['include_last_offset'], "
              "padding_idx=a['padding_idx'] if a['padding_idx'] >= 0 else None)",
     .doc = "rows of weight[V, D] at indices, joined over the bags that start at offsets"},
};

}  // namespace

std::span<const OpDef> EmbeddingBagRows() { return kRows; }

}  // namespace stator
