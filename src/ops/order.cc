// Rows that put elements in order along a dim: sort, topk, searchsorted. NaN counts as the largest.
#include <algorithm>
#include <numeric>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// Whether `a` stands before `b`.
template <bool descending, typename T>
bool Precedes(T a, T b) {
  if (descending) return (a != a && b == b) || a > b;
  return (a == a && b != b) || a < b;
}

// Calls fn(offset in x, offset in y, offset in z) for each line along `dim`, of tensors with the
// same other dims.
template <typename Fn>
void ForEachLine(const TensorRef& x, const TensorRef& y, const TensorRef& z, int64_t dim, Fn&& fn) {
  const int64_t axes[] = {dim};
  Sizes outer = Drop(x.dims, axes), x_strides = Drop(x.strides, axes),
        y_strides = Drop(y.strides, axes), z_strides = Drop(z.strides, axes);
  ForEachOffset<3>(outer, {x_strides, y_strides, z_strides},
                   [&](const auto& at) { fn(at[0], at[1], at[2]); });
}

// ---- sort
std::vector<TensorType> InferSort(const InferContext& context) {
  const TensorType& x = context.input(0);
  GetAxis(context.attrs, "dim", x.rank());
  return {{.dtype = x.dtype, .dims = x.dims, .order = {}},
          {.dtype = DType::kInt64, .dims = x.dims, .order = {}}};
}

template <bool descending, typename T>
void SortLines(const TensorRef& x, const TensorRef& values, const TensorRef& indices, int64_t dim,
               bool stable) {
  std::vector<int64_t> order(x.dims[dim]);
  ForEachLine(x, values, indices, dim, [&](int64_t from, int64_t to, int64_t to_index) {
    const T* line = Data<T>(x) + from;
    int64_t step = x.strides[dim];
    std::iota(order.begin(), order.end(), 0);
    auto precedes = [&](int64_t a, int64_t b) {
      return Precedes<descending>(scalar::ToCompute(line[a * step]),
                                  scalar::ToCompute(line[b * step]));
    };
    if (stable) {
      std::stable_sort(order.begin(), order.end(), precedes);
    } else {
      std::sort(order.begin(), order.end(), precedes);
    }
    for (size_t i = 0; i < order.size(); ++i) {
      int64_t at = static_cast<int64_t>(i);
      Data<T>(values)[to + at * values.strides[dim]] = line[order[i] * step];
      Data<int64_t>(indices)[to_index + at * indices.strides[dim]] = order[i];
    }
  });
}

void ReferenceSort(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  bool descending = attrs.GetBool("descending");
  const Attr* stable = attrs.Find("stable");
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    (descending ? SortLines<true, T>
                : SortLines<false, T>)(inputs[0], outputs[0], outputs[1], attrs.GetInt("dim"),
                                       stable == nullptr || std::get<bool>(*stable));
  });
}

// ---- topk
std::vector<TensorType> InferTopk(const InferContext& context) {
  const TensorType& x = context.input(0);
  RequireNumber(x, "x");
  int dim = GetAxis(context.attrs, "dim", x.rank());
  Dim k = context.attrs.GetDim("k");
  bool fits = k.is_static() && k.value() >= 0;
  if (!fits || (x.dims[dim].is_static() && k.value() > x.dims[dim].value())) {
    Reject("k is {} for x, which is {}", k.ToString(), x.ToString());
  }
  Dims dims = x.dims;
  dims[dim] = k;
  return {{.dtype = x.dtype, .dims = dims, .order = {}},
          {.dtype = DType::kInt64, .dims = dims, .order = {}}};
}

// As torch chooses among equal elements (ATen/native/TopKImpl.h): the standard library's selection
// algorithms on pairs of value and index.
template <bool largest, typename T>
void SelectLines(const TensorRef& x, const TensorRef& values, const TensorRef& indices, int64_t dim,
                 int64_t k, bool sorted) {
  using Pair = std::pair<scalar::Compute<T>, int64_t>;
  auto precedes = [](const Pair& a, const Pair& b) { return Precedes<largest>(a.first, b.first); };
  int64_t n = x.dims[dim], step = x.strides[dim];
  if (k > n) Reject("k is {} for a dim of {}", k, n);
  std::vector<Pair> queue(n);
  ForEachLine(x, values, indices, dim, [&](int64_t from, int64_t to, int64_t to_index) {
    if (k == 0) return;
    const T* line = Data<T>(x) + from;
    for (int64_t i = 0; i < n; ++i) queue[i] = {scalar::ToCompute(line[i * step]), i};
    if (k * 64 <= n) {
      std::partial_sort(queue.begin(), queue.begin() + k, queue.end(), precedes);
    } else {
      std::nth_element(queue.begin(), queue.begin() + k - 1, queue.end(), precedes);
      if (sorted) std::sort(queue.begin(), queue.begin() + k - 1, precedes);
    }
    for (int64_t i = 0; i < k; ++i) {
      Data<T>(values)[to + i * values.strides[dim]] = line[queue[i].second * step];
      Data<int64_t>(indices)[to_index + i * indices.strides[dim]] = queue[i].second;
    }
  });
}

void ReferenceTopk(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  bool largest = attrs.GetBool("largest");
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    (largest ? SelectLines<true, T> : SelectLines<false, T>)(inputs[0], outputs[0], outputs[1],
                                                             attrs.GetInt("dim"), attrs.GetInt("k"),
                                                             attrs.GetBool("sorted"));
  });
}

// ---- searchsorted
std::vector<TensorType> InferSearchsorted(const InferContext& context) {
  const TensorType &sorted = context.input(0), &values = context.input(1);
  RequireSameDType(context);
  RequireNumber(values, "values");
  DType dtype = context.attrs.GetDType("dtype");
  if (dtype != DType::kInt64 && dtype != DType::kInt32) Reject("dtype is {}", DTypeName(dtype));
  bool fits = sorted.rank() == 1 || (sorted.rank() > 1 && sorted.rank() == values.rank());
  for (int i = 0; fits && i + 1 < sorted.rank(); ++i) fits = sorted.dims[i] == values.dims[i];
  if (!fits) {
    Reject("sorted is {} and values are {}, expected one line, or one for each of values",
           sorted.ToString(), values.ToString());
  }
  return OneOutput(dtype, values.dims);
}

void ReferenceSearchsorted(const Attrs& attrs, std::span<const TensorRef> inputs,
                           std::span<TensorRef> outputs) {
  const TensorRef &sorted = inputs[0], &values = inputs[1], &y = outputs[0];
  bool right = attrs.GetBool("right");
  int64_t n = sorted.dims.back(), step = sorted.strides.back();
  Sizes line_strides(values.dims.size(), 0);  // of the lines, over the dims of values
  if (sorted.rank() > 1) {
    std::copy(sorted.strides.begin(), sorted.strides.end() - 1, line_strides.begin());
  }
  DispatchDType(values.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<3>(values.dims, {values.strides, y.strides, line_strides}, [&](const auto& at) {
      auto value = scalar::ToCompute(Data<T>(values)[at[0]]);
      int64_t low = 0, high = n;
      while (low < high) {  // NaN in either is beyond all others
        int64_t middle = low + (high - low) / 2;
        auto element = scalar::ToCompute(Data<T>(sorted)[at[2] + middle * step]);
        bool stop = right ? element > value : element >= value;
        if (stop) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      if (y.dtype == DType::kInt32) {
        Data<int32_t>(y)[at[1]] = static_cast<int32_t>(low);
      } else {
        Data<int64_t>(y)[at[1]] = low;
      }
    });
  });
}

// ---- rows
constexpr AttrDef kSortAttrs[] = {
    {"dim", AttrDef::kInt, true, "the dim to sort along"},
    {"descending", AttrDef::kBool, true, "whether the largest comes first"},
    {"stable", AttrDef::kBool, false,
     "whether equal elements keep their order; else as torch sorts"},
};
constexpr AttrDef kTopkAttrs[] = {
    {"dim", AttrDef::kInt, true, "the dim to choose along"},
    {"k", AttrDef::kInt, true, "how many"},
    {"largest", AttrDef::kBool, true, "the largest, or the smallest"},
    {"sorted", AttrDef::kBool, true, "whether they come in order"},
};
constexpr AttrDef kSearchsortedAttrs[] = {
    {"right", AttrDef::kBool, true, "whether equal elements of sorted come before"},
    {"dtype", AttrDef::kDType, true, "i64 or i32"},
};

constexpr OpSample kSortSamples[] = {
    {"_[4, 5]", "{dim = 1, descending = false}"},
    {"_[4, 5]", "{dim = 0, descending = true}"},
    {"_[2, 3, 7]", "{dim = 1, descending = false}"},
    {"_[67]", "{dim = 0, descending = true}"},
    {"_[1, 1]", "{dim = 1, descending = false}"},
    {"_[0, 3]", "{dim = 0, descending = false}"},
    {"_[3, 90]", "{dim = 1, descending = false, stable = false}"},
    {"_[90, 3]", "{dim = 0, descending = true, stable = false}"},
};
constexpr OpSample kTopkSamples[] = {
    {"_[4, 9]", "{dim = 1, k = 3, largest = true, sorted = true}"},
    {"_[9, 4]", "{dim = 0, k = 2, largest = false, sorted = true}"},
    {"_[2, 3, 7]", "{dim = 2, k = 7, largest = true, sorted = true}"},
    {"_[3, 200]", "{dim = 1, k = 2, largest = true, sorted = true}"},
    {"_[5, 3]", "{dim = 0, k = 3, largest = true, sorted = true}"},
    {"_[200]", "{dim = 0, k = 50, largest = false, sorted = false}"},
    {"_[1, 1]", "{dim = 1, k = 1, largest = true, sorted = false}"},
    {"_[0, 3]", "{dim = 1, k = 2, largest = true, sorted = true}"},
    {"_[3, 4]", "{dim = 1, k = 0, largest = true, sorted = true}"},
};
constexpr OpSample kSearchsortedSamples[] = {
    {"_[1], _[4, 5]", "{right = false, dtype = i64}"},
    {"_[1], _[]", "{right = true, dtype = i64}"},
    {"_[0], _[7]", "{right = true, dtype = i32}"},
    {"_[3, 1], _[3, 4]", "{right = true, dtype = i32}"},
    {"_[2, 0], _[2, 1]", "{right = false, dtype = i64}"},
};

OpDef MakeRow(int id, std::string_view name, int num_inputs, std::span<const AttrDef> attrs,
              TypeRule infer, ReferenceFn reference, std::span<const OpSample> samples,
              std::string_view torch, std::string_view doc) {
  return {.id = id,
          .name = name,
          .min_inputs = num_inputs,
          .max_inputs = num_inputs,
          .attrs = attrs,
          .infer = infer,
          .reference = reference,
          .samples = samples,
          .torch = torch,
          .doc = doc};
}

const OpDef kRows[] = {
    MakeRow(650, "sort", 1, kSortAttrs, InferSort, ReferenceSort, kSortSamples,
            "torch.sort(x[0], dim=a['dim'], descending=a['descending'], "
            "stable=a.get('stable', True))",
            "x in order along one dim, and where each element was; equal ones keep their order, "
            "or lie as torch leaves them"),
    MakeRow(651, "topk", 1, kTopkAttrs, InferTopk, ReferenceTopk, kTopkSamples,
            "torch.topk(x[0], a['k'], a['dim'], a['largest'], a['sorted'])",
            "the k largest or smallest along one dim, and where they are; among equal ones as "
            "torch chooses"),
    MakeRow(652, "searchsorted", 2, kSearchsortedAttrs, InferSearchsorted, ReferenceSearchsorted,
            kSearchsortedSamples,
            "torch.searchsorted(x[0], x[1], right=a['right'], out_int32=a['dtype'] == torch.int32)",
            "for each value its place in the last dim of sorted"),
};

}  // namespace

std::span<const OpDef> OrderRows() { return kRows; }

}  // namespace stator
