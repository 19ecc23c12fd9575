// Reductions over the dims of `axes`.
//
// Floats are accumulated in double, integers wrap.
#include <algorithm>
#include <numeric>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// ---- types
Dims ReducedDims(const InferContext& context) {
  const TensorType& x = context.input(0);
  std::vector<int64_t> axes = GetAxes(context.attrs, "axes", x.rank());
  bool keepdim = context.attrs.GetBool("keepdim");
  Dims dims;
  for (int i = 0; i < x.rank(); ++i) {
    bool reduced = std::find(axes.begin(), axes.end(), i) != axes.end();
    if (!reduced || keepdim) dims.push_back(reduced ? Dim(1) : x.dims[i]);
  }
  return dims;
}

std::vector<TensorType> InferNumber(const InferContext& context) {
  RequireNumber(context.input(0), "x");
  return OneOutput(context.input(0).dtype, ReducedDims(context));
}

std::vector<TensorType> InferFloat(const InferContext& context) {
  RequireFloat(context.input(0), "x");
  return OneOutput(context.input(0).dtype, ReducedDims(context));
}

std::vector<TensorType> InferBool(const InferContext& context) {
  return OneOutput(DType::kBool, ReducedDims(context));
}

void RequireElements(const InferContext& context) {
  const TensorType& x = context.input(0);
  for (int64_t axis : GetAxes(context.attrs, "axes", x.rank())) {
    if (x.dims[axis] == Dim(0))
      Reject("x is {}, which has nothing along dim {}", x.ToString(), axis);
  }
}

std::vector<TensorType> InferExtremum(const InferContext& context) {
  RequireElements(context);
  return OneOutput(context.input(0).dtype, ReducedDims(context));
}

std::vector<TensorType> InferPosition(const InferContext& context) {
  RequireNumber(context.input(0), "x");
  RequireElements(context);
  if (context.attrs.GetDims("axes").size() != 1) Reject("axes needs one dim");
  return OneOutput(DType::kInt64, ReducedDims(context));
}

// ---- references
// An input seen as rows: one per output element, holding what that element is reduced from.
struct RowView {
  Sizes outer_dims, outer_strides, out_strides;
  Sizes dims, strides;

  int64_t count() const {
    return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
  }
};

RowView MakeRowView(const Attrs& attrs, const TensorRef& x, const TensorRef& y) {
  Sizes axes = attrs.GetInts("axes");
  std::sort(axes.begin(), axes.end());
  return {.outer_dims = Drop(x.dims, axes),
          .outer_strides = Drop(x.strides, axes),
          .out_strides = attrs.GetBool("keepdim") ? Drop(y.strides, axes) : y.strides,
          .dims = Pick(x.dims, axes),
          .strides = Pick(x.strides, axes)};
}

// Calls fn(each, out) per output element; each(visit) calls visit(element) along the row.
template <typename T, typename Output, typename Fn>
void ForEachRow(const RowView& view, const TensorRef& x, const TensorRef& y, Fn&& fn) {
  ForEachOffset<2>(view.outer_dims, {view.outer_strides, view.out_strides}, [&](const auto& base) {
    auto each = [&](auto&& visit) {
      const T* row = Data<T>(x) + base[0];
      ForEachOffset<1>(view.dims, {view.strides},
                       [&](const auto& offset) { visit(row[offset[0]]); });
    };
    fn(each, Data<Output>(y)[base[1]]);
  });
}

enum class Fold { kSum, kMean, kProd };

template <Fold fold>
void ReferenceFold(const Attrs& attrs, std::span<const TensorRef> inputs,
                   std::span<TensorRef> outputs) {
  RowView view = MakeRowView(attrs, inputs[0], outputs[0]);
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using Sum = Accumulator<T>;
    ForEachRow<T, T>(view, inputs[0], outputs[0], [&](auto&& each, T& out) {
      Sum sum = fold == Fold::kProd ? Sum(1) : Sum(0);
      each([&](T element) {
        Sum value = ToAccumulator(element);
        sum = fold == Fold::kProd ? Sum(sum * value) : Sum(sum + value);
      });
      if constexpr (fold == Fold::kMean && std::is_same_v<Sum, double>) {
        sum /= static_cast<double>(view.count());
      }
      out = scalar::CastTo<T>(sum);
    });
  });
}

// Whether `a` comes before `b` in the search for the largest (smallest): NaN before all.
template <bool largest, typename T>
bool Beats(T a, T b) {
  if (b != b) return false;
  return a != a || (largest ? a > b : a < b);
}

void RequireRow(const RowView& view) {
  if (view.count() == 0) Reject("nothing to choose from along a dim of size 0");
}

template <bool largest>
void ReferenceExtremum(const Attrs& attrs, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  RowView view = MakeRowView(attrs, inputs[0], outputs[0]);
  if (outputs[0].num_elements() == 0) return;
  RequireRow(view);
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachRow<T, T>(view, inputs[0], outputs[0], [&](auto&& each, T& out) {
      bool first = true;
      each([&](T element) {
        if (first || Beats<largest>(scalar::ToCompute(element), scalar::ToCompute(out))) {
          out = element;
        }
        first = false;
      });
    });
  });
}

template <bool largest>
void ReferencePosition(const Attrs& attrs, std::span<const TensorRef> inputs,
                       std::span<TensorRef> outputs) {
  RowView view = MakeRowView(attrs, inputs[0], outputs[0]);
  if (outputs[0].num_elements() == 0) return;
  RequireRow(view);
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachRow<T, int64_t>(view, inputs[0], outputs[0], [&](auto&& each, int64_t& out) {
      int64_t position = 0;
      T best{};
      each([&](T element) {
        bool beats = Beats<largest>(scalar::ToCompute(element), scalar::ToCompute(best));
        if (position == 0 || beats) {
          best = element;
          out = position;
        }
        ++position;
      });
    });
  });
}

template <bool all>
void ReferenceLogic(const Attrs& attrs, std::span<const TensorRef> inputs,
                    std::span<TensorRef> outputs) {
  RowView view = MakeRowView(attrs, inputs[0], outputs[0]);
  DispatchDType(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachRow<T, bool>(view, inputs[0], outputs[0], [&](auto&& each, bool& out) {
      out = all;
      each([&](T element) {
        bool set = scalar::CastTo<bool>(element);
        out = all ? out && set : out || set;
      });
    });
  });
}

// Two passes: the mean, then the squares of what differs from it.
void ReferenceVar(const Attrs& attrs, std::span<const TensorRef> inputs,
                  std::span<TensorRef> outputs) {
  RowView view = MakeRowView(attrs, inputs[0], outputs[0]);
  double count = static_cast<double>(view.count());
  double divisor = std::max(0.0, count - attrs.GetFloat("correction"));
  DispatchFloat(inputs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachRow<T, T>(view, inputs[0], outputs[0], [&](auto&& each, T& out) {
      double sum = 0, squares = 0;
      each([&](T element) { sum += ToAccumulator(element); });
      each([&](T element) {
        double difference = ToAccumulator(element) - sum / count;
        squares += difference * difference;
      });
      out = scalar::CastTo<T>(squares / divisor);
    });
  });
}

// ---- rows
constexpr AttrDef kAxesAttrs[] = {
    {"axes", AttrDef::kInts, true, "the dims to reduce, from 0; none leaves x as it is"},
    {"keepdim", AttrDef::kBool, true, "whether reduced dims stay, with size 1"},
};
constexpr AttrDef kAxisAttrs[] = {
    {"axes", AttrDef::kInts, true, "the one dim to search"},
    {"keepdim", AttrDef::kBool, true, "whether the reduced dim stays, with size 1"},
};
constexpr AttrDef kVarAttrs[] = {
    {"axes", AttrDef::kInts, true, "the dims to reduce, from 0"},
    {"correction", AttrDef::kFloat, true, "subtracted from the count: 1 is Bessel's"},
    {"keepdim", AttrDef::kBool, true, "whether reduced dims stay, with size 1"},
};

constexpr OpSample kAxesSamples[] = {
    {"_[4, 5]", "{axes = [1], keepdim = false}"},
    {"_[4, 5]", "{axes = [0], keepdim = true}"},
    {"_[2, 3, 7]", "{axes = [0, 2], keepdim = false}"},
    {"_[2, 3, 7]", "{axes = [0, 1, 2], keepdim = false}"},
    {"_[2, 3, 5, 7]", "{axes = [2, 3], keepdim = true}"},
    {"_[1, 1]", "{axes = [1], keepdim = false}"},
    {"_[0, 3]", "{axes = [1], keepdim = false}"},
    {"_[67]", "{axes = [0], keepdim = false}"},
};
constexpr OpSample kEmptySamples[] = {
    {"_[4, 5]", "{axes = [1], keepdim = false}"},
    {"_[4, 5]", "{axes = [0], keepdim = true}"},
    {"_[2, 3, 7]", "{axes = [0, 2], keepdim = false}"},
    {"_[2, 3, 7]", "{axes = [0, 1, 2], keepdim = false}"},
    {"_[2, 3, 5, 7]", "{axes = [2, 3], keepdim = true}"},
    {"_[1, 1]", "{axes = [1], keepdim = false}"},
    {"_[0, 3]", "{axes = [1], keepdim = false}"},
    {"_[0, 3]", "{axes = [0], keepdim = false}"},
    {"_[3, 0]", "{axes = [0, 1], keepdim = true}"},
    {"_[67]", "{axes = [0], keepdim = false}"},
};
constexpr OpSample kAxisSamples[] = {
    {"_[4, 5]", "{axes = [1], keepdim = false}"},    {"_[4, 5]", "{axes = [0], keepdim = true}"},
    {"_[2, 3, 7]", "{axes = [1], keepdim = false}"}, {"_[1, 1]", "{axes = [1], keepdim = false}"},
    {"_[0, 3]", "{axes = [1], keepdim = false}"},    {"_[67]", "{axes = [0], keepdim = false}"},
};
constexpr OpSample kVarSamples[] = {
    {"_[4, 5]", "{axes = [1], correction = 1.0, keepdim = false}"},
    {"_[4, 5]", "{axes = [0], correction = 0.0, keepdim = true}"},
    {"_[2, 3, 7]", "{axes = [0, 2], correction = 1.0, keepdim = false}"},
    {"_[3, 1]", "{axes = [1], correction = 1.0, keepdim = false}"},
    {"_[3, 2]", "{axes = [1], correction = 3.0, keepdim = false}"},
    {"_[3, 0]", "{axes = [1], correction = 0.0, keepdim = true}"},
    {"_[0, 3]", "{axes = [1], correction = 1.0, keepdim = false}"},
    {"_[1, 1]", "{axes = [1], correction = 0.0, keepdim = false}"},
};
OpDef MakeReduction(int id, std::string_view name, TypeRule infer, ReferenceFn reference,
                    std::span<const OpSample> samples, std::string_view torch,
                    std::string_view doc) {
  return {.id = id,
          .name = name,
          .min_inputs = 1,
          .max_inputs = 1,
          .attrs = kAxesAttrs,
          .infer = infer,
          .traits = kReduction,
          .reference = reference,
          .samples = samples,
          .torch = torch,
          .doc = doc};
}

OpDef MakeSearch(int id, std::string_view name, ReferenceFn reference, std::string_view torch,
                 std::string_view doc) {
  OpDef op = MakeReduction(id, name, InferPosition, reference, kAxisSamples, torch, doc);
  op.attrs = kAxisAttrs;
  return op;
}

OpDef MakeVar() {
  OpDef op =
      MakeReduction(409, "var", InferFloat, ReferenceVar, kVarSamples,
                    "torch.var(x[0], a['axes'], correction=a['correction'], keepdim=a['keepdim'])",
                    "variance: sum((x - mean)^2) / max(0, count - correction)");
  op.attrs = kVarAttrs;
  return op;
}

const OpDef kRows[] = {
    MakeReduction(400, "sum", InferNumber, ReferenceFold<Fold::kSum>, kEmptySamples,
                  "torch.sum(x[0], a['axes'], a['keepdim'], dtype=x[0].dtype)",
                  "sum; integers wrap in their own dtype"),
    MakeReduction(401, "mean", InferFloat, ReferenceFold<Fold::kMean>, kEmptySamples,
                  "torch.mean(x[0], a['axes'], a['keepdim'])", "sum / count; NaN of nothing"),
    MakeReduction(
        402, "prod", InferNumber, ReferenceFold<Fold::kProd>, kEmptySamples,
        "(lambda y: y.reshape([1 if d in a['axes'] else s for d, s in enumerate(x[0].shape)])"
        " if a['keepdim'] else y)(x[0].movedim(a['axes'], [*range(-len(a['axes']), 0)])"
        ".flatten(-len(a['axes'])).prod(-1, dtype=x[0].dtype))",
        "product; integers wrap in their own dtype"),
    MakeReduction(403, "amax", InferExtremum, ReferenceExtremum<true>, kAxesSamples,
                  "torch.amax(x[0], a['axes'], a['keepdim'])", "largest; NaN if any is NaN"),
    MakeReduction(404, "amin", InferExtremum, ReferenceExtremum<false>, kAxesSamples,
                  "torch.amin(x[0], a['axes'], a['keepdim'])", "smallest; NaN if any is NaN"),
    MakeReduction(405, "any", InferBool, ReferenceLogic<false>, kEmptySamples,
                  "torch.any(x[0], a['axes'], a['keepdim']).bool()", "whether one is nonzero"),
    MakeReduction(406, "all", InferBool, ReferenceLogic<true>, kEmptySamples,
                  "torch.all(x[0], a['axes'], a['keepdim']).bool()", "whether all are nonzero"),
    MakeSearch(407, "argmax", ReferencePosition<true>,
               "torch.argmax(x[0], a['axes'][0], a['keepdim'])",
               "index of the first largest, or of the first NaN"),
    MakeSearch(408, "argmin", ReferencePosition<false>,
               "torch.argmin(x[0], a['axes'][0], a['keepdim'])",
               "index of the first smallest, or of the first NaN"),
    MakeVar(),
};

}  // namespace

std::span<const OpDef> ReduceRows() { return kRows; }

}  // namespace stator
