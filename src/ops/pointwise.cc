// Pointwise rows: each output element depends on one element of each input, after broadcasting.
//
// The rows and their scalar bodies are in ops/pointwise.def; here each body is compiled for every
// dtype that its rule allows, and `cast`, the one row with a second dtype, is added.
#include <deque>

#include "ops/rows.h"
#include "ops/rules.h"
#include "ops/scalar.h"
#include "ops/tensor.h"

namespace stator {
namespace scalar {

// a, b and c are operands, p0 and p1 the float attributes in the order of the row's schema.
#define SCALAR(expression) expression
#define STATOR_POINTWISE(id, op, arity, rule, traits, body, ...)                      \
  struct op##Body {                                                                   \
    static constexpr std::string_view kName = #op;                                    \
    template <typename A, typename T>                                                 \
    static auto Run([[maybe_unused]] A a, [[maybe_unused]] T b, [[maybe_unused]] T c, \
                    [[maybe_unused]] T p0, [[maybe_unused]] T p1) {                   \
      [[maybe_unused]] constexpr T p_half = Constant<T>(0.5);                         \
      [[maybe_unused]] constexpr T p_rsqrt2 = Constant<T>(0.70710678118654752440);    \
      [[maybe_unused]] constexpr T p_sqrt_2_pi = Constant<T>(0.79788456080286535588); \
      [[maybe_unused]] constexpr T p_gelu_cubic = Constant<T>(0.044715);              \
      [[maybe_unused]] constexpr T p_sixth = Constant<T>(1.0 / 6.0);                  \
      return body;                                                                    \
    }                                                                                 \
  };
#include "ops/pointwise.def"
#undef STATOR_POINTWISE
#undef SCALAR

}  // namespace scalar

namespace {

enum class Rule { kSameType, kNumberType, kFloatType, kIntType, kCompare, kWhere };

constexpr bool Allows(Rule rule, DType dtype) {
  switch (rule) {
    case Rule::kNumberType: return dtype != DType::kBool;
    case Rule::kFloatType: return IsFloat(dtype);
    case Rule::kIntType: return !IsFloat(dtype);
    default: return true;
  }
}

// ---- types
template <Rule rule>
std::vector<TensorType> InferPointwise(const InferContext& context) {
  size_t first = rule == Rule::kWhere ? 1 : 0;
  if (rule == Rule::kWhere && context.input(0).dtype != DType::kBool) {
    Reject("condition is {}, expected bool", context.input(0).ToString());
  }
  DType dtype = context.input(first).dtype;
  if (!Allows(rule, dtype)) {
    Reject("input is {}, a dtype this op does not take", context.input(first).ToString());
  }
  Dims dims;
  for (size_t i = 0; i < context.inputs.size(); ++i) {
    if (i > first && context.input(i).dtype != dtype) {
      Reject("inputs are {} and {}, expected one dtype", context.input(first).ToString(),
             context.input(i).ToString());
    }
    dims = BroadcastDims(dims, context.input(i).dims);
  }
  return OneOutput(rule == Rule::kCompare ? DType::kBool : dtype, std::move(dims));
}

std::vector<TensorType> InferCast(const InferContext& context) {
  return OneOutput(context.attrs.GetDType("dtype"), context.input(0).dims);
}

// ---- references
struct Operand {
  std::byte* data;
  int64_t stride;  // in elements
};

// operands[0] is the output. Runs over one row of `count` elements.
using RowLoop = void (*)(std::span<const Operand> operands, int64_t count, double p0, double p1);

template <typename T>
T Load(const Operand& operand, int64_t i) {
  return reinterpret_cast<const T*>(operand.data)[i * operand.stride];
}

template <typename Body, int arity, Rule rule, typename Element>
void RunRow(std::span<const Operand> operands, int64_t count, double p0, double p1) {
  using T = scalar::Compute<Element>;
  using A = std::conditional_t<rule == Rule::kWhere, bool, Element>;
  using Output = std::conditional_t<rule == Rule::kCompare, bool, Element>;
  Output* out = reinterpret_cast<Output*>(operands[0].data);
  T q0 = scalar::ToParameter<T>(p0), q1 = scalar::ToParameter<T>(p1);
  for (int64_t i = 0; i < count; ++i) {
    scalar::Compute<A> a = scalar::ToCompute(Load<A>(operands[1], i));
    T b{}, c{};
    if constexpr (arity > 1) b = scalar::ToCompute(Load<Element>(operands[2], i));
    if constexpr (arity > 2) c = scalar::ToCompute(Load<Element>(operands[3], i));
    out[i * operands[0].stride] = scalar::CastTo<Output>(Body::Run(a, b, c, q0, q1));
  }
}

// Walks the rows of the output along its last dim.
void RunRows(RowLoop loop, std::span<const TensorRef> inputs, const TensorRef& out, double p0,
             double p1) {
  if (out.num_elements() == 0) return;
  std::vector<const TensorRef*> tensors = {&out};
  for (const TensorRef& input : inputs) tensors.push_back(&input);
  std::vector<Sizes> strides;
  std::vector<Operand> operands;
  for (const TensorRef* tensor : tensors) {
    strides.push_back(BroadcastStrides(*tensor, out.dims));
    operands.push_back({tensor->data, out.dims.empty() ? 0 : strides.back().back()});
  }
  Sizes lead(out.dims.begin(), out.dims.empty() ? out.dims.end() : out.dims.end() - 1);
  Sizes index_strides = DenseStrides(lead);
  int64_t count = out.dims.empty() ? 1 : out.dims.back();
  ForEachOffset<1>(lead, {index_strides}, [&](const auto& position) {
    for (size_t k = 0; k < tensors.size(); ++k) {
      int64_t offset = 0;
      for (size_t dim = 0; dim < lead.size(); ++dim) {
        offset += position[0] / index_strides[dim] % lead[dim] * strides[k][dim];
      }
      int64_t size = static_cast<int64_t>(DTypeSize(tensors[k]->dtype));
      operands[k].data = tensors[k]->data + offset * size;
    }
    loop(operands, count, p0, p1);
  });
}

// The float attributes of a row, in the order of p0 and p1.
std::span<const AttrDef> FindParameters(std::string_view op) {
  static constexpr AttrDef kHardtanh[] = {{"min", AttrDef::kFloat, true, "lower bound"},
                                          {"max", AttrDef::kFloat, true, "upper bound"}};
  static constexpr AttrDef kLeakyRelu[] = {{"slope", AttrDef::kFloat, true, "factor below 0"}};
  static constexpr AttrDef kElu[] = {{"alpha", AttrDef::kFloat, true, "minus the limit at -inf"}};
  static constexpr AttrDef kSoftplus[] = {
      {"beta", AttrDef::kFloat, true, "sharpness"},
      {"threshold", AttrDef::kFloat, true, "beta * a above which the result is a"}};
  if (op == "hardtanh") return kHardtanh;
  if (op == "leaky_relu") return kLeakyRelu;
  if (op == "elu") return kElu;
  if (op == "softplus") return kSoftplus;
  return {};
}

template <typename Body, int arity, Rule rule>
void ReferencePointwise(const Attrs& attrs, std::span<const TensorRef> inputs,
                        std::span<TensorRef> outputs) {
  std::span<const AttrDef> parameters = FindParameters(Body::kName);
  double p0 = parameters.size() > 0 ? attrs.GetFloat(parameters[0].name) : 0;
  double p1 = parameters.size() > 1 ? attrs.GetFloat(parameters[1].name) : 0;
  DType dtype = inputs[rule == Rule::kWhere ? 1 : 0].dtype;
  STATOR_CHECK(Allows(rule, dtype), "{} on {}", Body::kName, DTypeName(dtype));
  RowLoop loop = nullptr;
  auto choose = [&](auto zero) {
    using Element = decltype(zero);
    constexpr bool is_float = scalar::kIsFloatElement<Element>;
    constexpr bool is_bool = std::is_same_v<Element, bool>;
    constexpr bool allowed = (rule != Rule::kNumberType || !is_bool) &&
                             (rule != Rule::kFloatType || is_float) &&
                             (rule != Rule::kIntType || !is_float);
    if constexpr (allowed) loop = RunRow<Body, arity, rule, Element>;
  };
  DispatchDType(dtype, choose);
  RunRows(loop, inputs, outputs[0], p0, p1);
}

void ReferenceCast(const Attrs&, std::span<const TensorRef> inputs, std::span<TensorRef> outputs) {
  const TensorRef &x = inputs[0], &y = outputs[0];
  DispatchDType(x.dtype, [&](auto from) {
    DispatchDType(y.dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      ForEachOffset<2>(x.dims, {x.strides, y.strides}, [&](const auto& offset) {
        Data<To>(y)[offset[1]] = scalar::CastTo<To>(Data<From>(x)[offset[0]]);
      });
    });
  });
}

// ---- rows
std::string_view SampleAttrs(std::string_view op) {
  if (op == "hardtanh") return "{max = 1.5, min = -1.0}";
  if (op == "leaky_relu") return "{slope = 0.01}";
  if (op == "elu") return "{alpha = 1.5}";
  if (op == "softplus") return "{beta = 2.0, threshold = 20.0}";
  return "";
}

// Sizes that every row must bear, after the row's own sample.
std::vector<OpSample> MakeSamples(std::string_view own, std::string_view attrs, int arity,
                                  Rule rule) {
  constexpr std::string_view kUnary[] = {"_[0, 3]", "_[]", "_[1]", "_[33]", "_[2, 3, 1, 7]"};
  constexpr std::string_view kBinary[] = {"_[0, 3], _[3]",      "_[], _[]",         "_[1], _[7]",
                                          "_[33], _[33]",       "_[3, 1], _[1, 5]", "_[], _[2, 3]",
                                          "_[4, 1, 3], _[2, 1]"};
  constexpr std::string_view kTernary[] = {"bool[0, 3], _[3], _[]", "bool[], _[], _[]",
                                           "bool[33], _[33], _[33]", "bool[5, 1], _[1, 3], _[]"};
  std::vector<OpSample> samples = {{own, attrs}};
  auto append = [&](auto& more) {
    for (std::string_view inputs : more) samples.push_back({inputs, attrs});
  };
  if (rule == Rule::kWhere) {
    append(kTernary);
  } else if (arity == 2) {
    append(kBinary);
  } else {
    append(kUnary);
  }
  return samples;
}

constexpr AttrDef kCastAttrs[] = {{"dtype", AttrDef::kDType, true, "dtype of the result"}};
constexpr OpSample kCastSamples[] = {
    {"_[4, 5]", "{dtype = bool}"}, {"_[4, 5]", "{dtype = u8}"},  {"_[4, 5]", "{dtype = i8}"},
    {"_[4, 5]", "{dtype = i16}"},  {"_[4, 5]", "{dtype = i32}"}, {"_[4, 5]", "{dtype = i64}"},
    {"_[4, 5]", "{dtype = f16}"},  {"_[33]", "{dtype = bf16}"},  {"_[]", "{dtype = f32}"},
    {"_[0, 3]", "{dtype = f64}"},  {"_[17]", "{dtype = f64}"},   {"_[33]", "{dtype = f32}"},
};

struct Rows {
  std::vector<OpDef> rows;
  std::deque<std::vector<std::string_view>> aten;  // deques: spans into them stay valid
  std::deque<std::vector<OpSample>> samples;

  std::span<const std::string_view> Split(std::string_view text) {
    std::vector<std::string_view>& words = aten.emplace_back();
    while (!text.empty()) {
      size_t end = std::min(text.find(' '), text.size());
      words.push_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
  }

  template <typename Body, int arity, Rule rule>
  void Add(int id, uint32_t traits, std::string_view body, std::string_view overloads,
           std::string_view sample, std::string_view torch, std::string_view doc) {
    rows.push_back({.id = id,
                    .name = Body::kName,
                    .min_inputs = arity,
                    .max_inputs = arity,
                    .attrs = FindParameters(Body::kName),
                    .infer = InferPointwise<rule>,
                    .traits = kPointwise | traits,
                    .aten = Split(overloads),
                    .scalar_body = body,
                    .reference = ReferencePointwise<Body, arity, rule>,
                    .samples = samples.emplace_back(
                        MakeSamples(sample, SampleAttrs(Body::kName), arity, rule)),
                    .torch = torch,
                    .doc = doc});
  }

  Rows() {
#define SCALAR(expression) #expression
#define STATOR_POINTWISE(id, op, arity, rule, traits, body, overloads, sample, torch, doc) \
  Add<scalar::op##Body, arity, Rule::rule>(id, traits, body, overloads, sample, torch, doc);
#include "ops/pointwise.def"
#undef STATOR_POINTWISE
#undef SCALAR
    rows.push_back({.id = 300,
                    .name = "cast",
                    .min_inputs = 1,
                    .max_inputs = 1,
                    .attrs = kCastAttrs,
                    .infer = InferCast,
                    .traits = kPointwise,
                    .scalar_body = "a",
                    .reference = ReferenceCast,
                    .samples = kCastSamples,
                    .torch = "x[0].to(a['dtype'])",
                    .doc = "another dtype; floats are cut to integers as torch's CPU cuts them: "
                           "u8 by way of i64, i8 and i16 by way of i32, and NaN or what does "
                           "not fit gives the smallest integer"});
  }
};

}  // namespace

std::span<const OpDef> PointwiseRows() {
  static const Rows rows;
  return rows.rows;
}

}  // namespace stator
