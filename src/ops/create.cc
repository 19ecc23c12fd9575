// Rows that make a tensor from attributes alone.
#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

void RequireSize(const Dim& dim) {
  if (dim.is_static() && dim.value() < 0) Reject("size {} is negative", dim.ToString());
}

std::vector<TensorType> InferArange(const InferContext& context) {
  DType dtype = context.attrs.GetDType("dtype");
  if (dtype == DType::kBool) Reject("arange of bool");
  Dim size = context.attrs.GetDim("size");
  RequireSize(size);
  return OneOutput(dtype, {size});
}

void ReferenceArange(const Attrs& attrs, std::span<const TensorRef>, std::span<TensorRef> outputs) {
  double start = attrs.GetFloat("start"), step = attrs.GetFloat("step");
  const TensorRef& y = outputs[0];
  DispatchDType(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < y.dims[0]; ++i) {
      if constexpr (std::is_integral_v<T>) {  // torch cuts both before it multiplies
        scalar::Int<int64_t> first = scalar::TruncateTo<int64_t>(start);
        scalar::Int<int64_t> each = scalar::TruncateTo<int64_t>(step);
        Data<T>(y)[i * y.strides[0]] = scalar::CastTo<T>(first + each * i);
      } else {
        Data<T>(y)[i * y.strides[0]] = scalar::CastTo<T>(start + step * static_cast<double>(i));
      }
    }
  });
}

std::vector<TensorType> InferFull(const InferContext& context) {
  const Dims& dims = context.attrs.GetDims("dims");
  for (const Dim& dim : dims) RequireSize(dim);
  return OneOutput(context.attrs.GetDType("dtype"), dims);
}

void ReferenceFull(const Attrs& attrs, std::span<const TensorRef>, std::span<TensorRef> outputs) {
  double value = attrs.GetFloat("value");
  const TensorRef& y = outputs[0];
  DispatchDType(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T element = scalar::CastTo<T>(value);
    ForEachOffset<1>(y.dims, {y.strides},
                     [&](const auto& offset) { Data<T>(y)[offset[0]] = element; });
  });
}

constexpr AttrDef kArangeAttrs[] = {
    {"dtype", AttrDef::kDType, true, "dtype of the result"},
    {"start", AttrDef::kFloat, true, "the first element; for integers an integer"},
    {"step", AttrDef::kFloat, true, "the difference of neighbours; for integers an integer"},
    {"size", AttrDef::kInt, true, "how many elements"},
};
constexpr AttrDef kFullAttrs[] = {
    {"dims", AttrDef::kInts, true, "sizes of the result"},
    {"value", AttrDef::kFloat, true, "every element; integers above 2^53 are not exact"},
    {"dtype", AttrDef::kDType, true, "dtype of the result"},
};

constexpr OpSample kArangeSamples[] = {
    {"", "{dtype = _, size = 5, start = 0.0, step = 1.0}"},
    {"", "{dtype = _, size = 33, start = 7.0, step = 2.0}"},
    {"", "{dtype = _, size = 0, start = 0.0, step = 1.0}"},
    {"", "{dtype = f32, size = 7, start = 0.5, step = -0.25}"},
    {"", "{dtype = i64, size = 1, start = -3.0, step = -2.0}"},
};
constexpr OpSample kFullSamples[] = {
    {"", "{dims = [2, 3], dtype = _, value = 1.0}"},
    {"", "{dims = [], dtype = _, value = 0.0}"},
    {"", "{dims = [0, 3], dtype = _, value = 3.0}"},
    {"", "{dims = [7], dtype = f32, value = -inf}"},
    {"", "{dims = [1], dtype = f16, value = 0.1}"},
};

const OpDef kRows[] = {
    {.id = 700,
     .name = "arange",
     .min_inputs = 0,
     .max_inputs = 0,
     .attrs = kArangeAttrs,
     .infer = InferArange,
     .reference = ReferenceArange,
     .samples = kArangeSamples,
     .torch = "(a['start'] + a['step'] * torch.arange(a['size'], dtype=torch.float64))"
              ".to(a['dtype'])",
     .doc = "start + step * i for i in [0, size)"},
    {.id = 701,
     .name = "full",
     .min_inputs = 0,
     .max_inputs = 0,
     .attrs = kFullAttrs,
     .infer = InferFull,
     .reference = ReferenceFull,
     .samples = kFullSamples,
     .torch = "torch.full(a['dims'], a['value'], dtype=a['dtype'])",
     .doc = "one value everywhere"},
};

}  // namespace

std::span<const OpDef> CreateRows() { return kRows; }

}  // namespace stator
