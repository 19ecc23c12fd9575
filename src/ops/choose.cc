// Rows that choose one element along a dim: kthvalue, median, mode.
#include "ops/choose.h"

#include <vector>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {

void ChosenElement::Check(int64_t n) const {
  if (n == 0) Reject("nothing to choose from along a dim of size 0");
  if (choice == Choice::kKth && k >= n) Reject("k is {} for a dim of {}", k + 1, n);
}

ChosenElement FindChoice(std::string_view op, const Attrs& attrs) {
  if (op == "kthvalue") return {.choice = Choice::kKth, .k = attrs.GetInt("k") - 1};
  if (op == "mode") return {.choice = Choice::kMode, .k = 0};
  bool ignores_nan = attrs.GetBool("ignore_nan");
  return {.choice = ignores_nan ? Choice::kNanMedian : Choice::kMedian, .k = 0};
}

ChosenElement FindChoice(const Node& node) { return FindChoice(node.op->name, node.attrs); }

namespace {

std::vector<TensorType> InferChosen(const InferContext& context) {
  const TensorType& x = context.input(0);
  Dims dims = x.dims;
  dims[GetAxis(context.attrs, "dim", x.rank())] = 1;
  return {{.dtype = x.dtype, .dims = dims, .order = {}},
          {.dtype = DType::kInt64, .dims = dims, .order = {}}};
}

std::vector<TensorType> InferMedian(const InferContext& context) {
  RequireNumber(context.input(0), "x");
  return InferChosen(context);
}

std::vector<TensorType> InferKthvalue(const InferContext& context) {
  Dim k = context.attrs.GetDim("k");
  if (!k.is_static() || k.value() < 1) Reject("k is {}", k.ToString());
  return InferMedian(context);
}

void ChooseLines(const ChosenElement& chosen, const Attrs& attrs, const TensorRef& x,
                 std::span<TensorRef> outputs) {
  const int64_t axes[] = {attrs.GetInt("dim")};
  int64_t n = x.dims[axes[0]], step = x.strides[axes[0]];
  if (outputs[0].num_elements() == 0) return;
  chosen.Check(n);
  std::vector<std::byte> buffer(n * kChoiceBytes);
  Sizes dims = Drop(x.dims, axes), x_strides = Drop(x.strides, axes),
        value_strides = Drop(outputs[0].strides, axes),
        index_strides = Drop(outputs[1].strides, axes);
  DispatchDType(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<3>(dims, {x_strides, value_strides, index_strides}, [&](const auto& at) {
      const T* line = Data<T>(x) + at[0];
      int64_t place = ChooseInLine(chosen.choice, line, step, n, chosen.k, buffer.data());
      Data<T>(outputs[0])[at[1]] = line[place * step];
      Data<int64_t>(outputs[1])[at[2]] = place;
    });
  });
}

void ReferenceKthvalue(const Attrs& attrs, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  ChooseLines(FindChoice("kthvalue", attrs), attrs, inputs[0], outputs);
}

void ReferenceMedian(const Attrs& attrs, std::span<const TensorRef> inputs,
                     std::span<TensorRef> outputs) {
  ChooseLines(FindChoice("median", attrs), attrs, inputs[0], outputs);
}

void ReferenceMode(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  ChooseLines(FindChoice("mode", attrs), attrs, inputs[0], outputs);
}

constexpr AttrDef kKthvalueAttrs[] = {
    {"dim", AttrDef::kInt, true, "the dim to choose along"},
    {"k", AttrDef::kInt, true, "the rank, from 1 on"},
};
constexpr AttrDef kMedianAttrs[] = {
    {"dim", AttrDef::kInt, true, "the dim to choose along"},
    {"ignore_nan", AttrDef::kBool, true, "whether a NaN takes no part; else it is the median"},
};
constexpr AttrDef kModeAttrs[] = {{"dim", AttrDef::kInt, true, "the dim to choose along"}};

constexpr OpSample kKthvalueSamples[] = {
    {"_[5, 9]", "{dim = 1, k = 3}"},    {"_[90, 4]", "{dim = 0, k = 31}"},
    {"_[2, 3, 7]", "{dim = 1, k = 1}"}, {"_[200]", "{dim = 0, k = 200}"},
    {"_[1, 1]", "{dim = 1, k = 1}"},    {"_[0, 3]", "{dim = 1, k = 2}"},
};
constexpr OpSample kMedianSamples[] = {
    {"_[5, 9]", "{dim = 1, ignore_nan = false}"},    {"_[90, 4]", "{dim = 0, ignore_nan = true}"},
    {"_[2, 4, 7]", "{dim = 1, ignore_nan = false}"}, {"_[200]", "{dim = 0, ignore_nan = false}"},
    {"_[1, 1]", "{dim = 1, ignore_nan = true}"},     {"_[0, 3]", "{dim = 1, ignore_nan = false}"},
};
constexpr OpSample kModeSamples[] = {
    {"_[5, 9]", "{dim = 1}"}, {"_[90, 4]", "{dim = 0}"}, {"_[2, 4, 7]", "{dim = 1}"},
    {"_[200]", "{dim = 0}"},  {"_[1, 1]", "{dim = 1}"},  {"_[0, 3]", "{dim = 1}"},
};

OpDef MakeRow(int id, std::string_view name, std::span<const AttrDef> attrs, TypeRule infer,
              ReferenceFn reference, std::span<const OpSample> samples, std::string_view torch,
              std::string_view doc) {
  return {.id = id,
          .name = name,
          .min_inputs = 1,
          .max_inputs = 1,
          .attrs = attrs,
          .infer = infer,
          .reference = reference,
          .samples = samples,
          .torch = torch,
          .doc = doc};
}

const OpDef kRows[] = {
    MakeRow(653, "kthvalue", kKthvalueAttrs, InferKthvalue, ReferenceKthvalue, kKthvalueSamples,
            "torch.kthvalue(x[0], a['k'], a['dim'], True)",
            "the k-th smallest along one dim, which stays as 1, and where it is; NaN is the "
            "largest; among equal ones as torch chooses"),
    MakeRow(654, "median", kMedianAttrs, InferMedian, ReferenceMedian, kMedianSamples,
            "(torch.nanmedian if a['ignore_nan'] else torch.median)(x[0], a['dim'], True)",
            "the lower median along one dim, which stays as 1, and where it is"),
    MakeRow(655, "mode", kModeAttrs, InferChosen, ReferenceMode, kModeSamples,
            "torch.mode(x[0], a['dim'], True)",
            "the most frequent element along one dim, which stays as 1, the smallest of several, "
            "and where it is, as torch chooses"),
};

}  // namespace

std::span<const OpDef> ChooseRows() { return kRows; }

}  // namespace stator
