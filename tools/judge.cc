#include "tools/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include <fmt/format.h>

#include "ir/op_def.h"
#include "ops/evaluate.h"
#include "tools/threshold.h"

namespace stator {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// How much further than any sample an element may lie: samples seldom meet the worst case.
constexpr double kBeyondSamples = 2;
constexpr int kSamples[] = {4, 16, 64};

// Ops whose result is an element of an operand, an integer, or exact by IEEE 754.
bool IsExact(const Node& node) {
  static const std::set<std::string_view> kExact = {"neg",       "abs",
                                                    "sign",      "floor",
                                                    "ceil",      "trunc",
                                                    "round",     "copysign",
                                                    "fmax",      "fmin",
                                                    "maximum",   "minimum",
                                                    "relu",      "hardtanh",
                                                    "where",     "cast",
                                                    "amax",      "amin",
                                                    "any",       "all",
                                                    "argmax",    "argmin",
                                                    "max_pool",  "max_pool_indices",
                                                    "embedding", "gather",
                                                    "index",     "index_select",
                                                    "concat",    "pad",
                                                    "flip",      "tril",
                                                    "triu",      "sort",
                                                    "topk",      "searchsorted",
                                                    "arange",    "full",
                                                    "fmod",      "adaptive_max_pool",
                                                    "trunc_div", "adaptive_max_pool_indices"};
  const OpDef& op = *node.op;
  if (op.Is(kView) || kExact.contains(op.name)) return true;
  if (op.name == "scatter") {
    const Attr* reduce = node.attrs.Find("reduce");
    return reduce == nullptr || std::get<std::string>(*reduce).starts_with("am");
  }
  if (op.name == "index_put") return !node.attrs.GetBool("accumulate");
  return op.name == "resample" && node.attrs.GetString("mode").starts_with("nearest");
}

// How large the numbers are, in sizes of the operand or of 1, that cancel in an op's formula; 0 for
// those in which none do. The cubic convolution kernel (ops/resample.cc) adds up terms of up to
// 8 a x, for x < 2 and a = 0.75, to weights near 0; and what a position is beyond a whole number,
// which is as large as the image, makes the weights of a resampling.
double CancelledSize(const Node& node, const TensorRef& operand) {
  if (node.op->name == "resample" || node.op->name == "grid_sample") {
    bool cubic = node.attrs.GetString("mode").find("cubic") != std::string::npos;
    double largest = cubic ? 12 : 0;
    if (node.op->name == "grid_sample") return largest;
    for (int i = 2; i < operand.rank(); ++i) {
      largest = std::max(largest, static_cast<double>(operand.dims[i]));
    }
    return largest;
  }
  return node.op->name.starts_with("gelu") || node.op->name == "log_softmax" ? 1 : 0;
}

// One unit in the last place, relative.
double UnitOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return 0x1p-10;
    case DType::kBFloat16: return 0x1p-7;
    case DType::kFloat32: return 0x1p-23;
    default: return 0x1p-52;
  }
}

// The unit of numbers below the normal range.
double SmallestOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return 0x1p-24;
    case DType::kBFloat16: return 0x1p-133;
    case DType::kFloat32: return 0x1p-149;
    default: return 0x1p-1074;
  }
}

// What the row's tolerance, which is for float32, means in this dtype.
double ToleranceOf(const Node& node, DType dtype) {
  double units = node.op->tolerance.rtol / 0x1p-23;
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 ? units * UnitOf(dtype)
                                                              : UnitOf(dtype);
}

double ElementAt(const TensorRef& tensor, int64_t offset) {
  return DispatchDType(tensor.dtype, [&](auto zero) {
    return scalar::CastTo<double>(Data<decltype(zero)>(tensor)[offset]);
  });
}

// Integers beyond 2^53 differ though their doubles do not.
bool IsEqual(const TensorRef& a, int64_t a_offset, const TensorRef& b, int64_t b_offset) {
  return DispatchDType(a.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto x = scalar::ToCompute(Data<T>(a)[a_offset]), y = scalar::ToCompute(Data<T>(b)[b_offset]);
    return x == y || (x != x && y != y);
  });
}

// How many products or elements of the operands are added up to one element of the result; for ops
// that work along dims of their own choice, the longest dim.
double NumTerms(const Node& node, std::span<const TensorRef> operands, const Sizes& result_dims) {
  auto count = [](const Sizes& dims) {
    return std::accumulate(dims.begin(), dims.end(), 1.0, std::multiplies<>());
  };
  const TensorRef& x = operands[0];
  if (node.op->Is(kPointwise) || x.dims.empty() || count(result_dims) == 0) return 1;
  if (node.op->Is(kReduction)) return count(x.dims) / count(result_dims);
  if (node.op->name == "matmul") return static_cast<double>(x.dims.back());
  if (node.op->name == "conv") {
    return count(operands[1].dims) / static_cast<double>(operands[1].dims[0]);
  }
  return static_cast<double>(*std::max_element(x.dims.begin(), x.dims.end()));
}

// By how many units an operand is disturbed: by one, and where n terms are added up, by the
// sqrt(n) half units to which their roundings come as a rule (Higham & Mary 2019, "A New Approach
// to Probabilistic Rounding Error Analysis").
double NumUnits(double num_terms) { return std::max(1.0, std::sqrt(num_terms) / 2); }

double LargestOf(const TensorRef& tensor) {
  double largest = 0;
  ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
    largest = std::max(largest, std::abs(ElementAt(tensor, at[0])));
  });
  return largest;
}

// Of z * weight + bias the tolerance is that of z * weight, which is as large as the bias where the
// two cancel.
double LargestBias(const Node& node, std::span<const TensorRef> operands) {
  bool normalizes = node.op->name == "layer_norm" || node.op->name == "group_norm";
  return normalizes && operands.size() > 2 && operands[2].data != nullptr ? LargestOf(operands[2])
                                                                          : 0;
}

bool IsFinite(const TensorRef& tensor) {
  bool finite = true;
  ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
    finite = finite && std::isfinite(ElementAt(tensor, at[0]));
  });
  return finite;
}

// Whether float16 makes an infinity of numbers: a kernel that keeps intermediates in float32 is
// right not to.
bool Overflows(const Node& node, std::span<const TensorRef> operands, const TensorRef& result) {
  if (result.dtype != DType::kFloat16 || node.op->Is(kView) || IsFinite(result)) return false;
  return std::all_of(operands.begin(), operands.end(), [](const TensorRef& operand) {
    return operand.data == nullptr || IsFinite(operand);
  });
}

HostTensor Copy(const TensorRef& tensor) {
  HostTensor copy = MakeHostTensor(tensor.dtype, tensor.dims);
  CopyTensor(tensor, copy.ref);
  return copy;
}

}  // namespace

Judge::Judge(const Graph& graph, std::span<const TensorRef> inputs, const SymbolValues& symbols)
    : graph_(graph), inputs_(inputs), symbols_(symbols), random_(1) {
  for (const auto& [name, value] : BindSymbols(graph, inputs)) symbols_.emplace(name, value);
  expected_ = Evaluate(false);
  for (const HostTensor& output : expected_) {
    bounds_.emplace_back(static_cast<size_t>(output.ref.num_elements()), 0.0);
  }
}

HostTensor Judge::Disturb(const TensorRef& tensor, double amount, double floor) {
  HostTensor copy = Copy(tensor);
  std::uniform_real_distribution<double> uniform(-1, 1);
  DispatchFloat(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = Data<T>(copy.ref);
    for (int64_t i = 0, count = copy.ref.num_elements(); i < count; ++i) {
      double value = scalar::CastTo<double>(data[i]);
      if (!std::isfinite(value) || (value == 0 && floor == 0)) continue;
      double distance = amount * std::abs(value) + floor + SmallestOf(tensor.dtype);
      data[i] = scalar::CastTo<T>(value + uniform(random_) * distance);
    }
  });
  return copy;
}

std::vector<HostTensor> Judge::Evaluate(bool disturbed) {
  std::vector<HostTensor> owned(static_cast<size_t>(graph_.num_values()));
  std::vector<TensorRef> refs(owned.size());
  std::vector<bool> rounded(owned.size());
  auto slot = [](ValueId id) { return static_cast<size_t>(id.index); };
  for (size_t i = 0; i < inputs_.size(); ++i) refs[slot(graph_.inputs()[i])] = inputs_[i];
  for (ValueId id : graph_.constants()) {
    const Value& value = graph_.value(id);
    refs[slot(id)] = {.data = const_cast<std::byte*>(value.data.bytes),  // read only
                      .dtype = value.type.dtype,
                      .dims = EvalDims(value.type.dims, {}),
                      .strides = EvalDims(value.type.strides(), {})};
    owned[slot(id)] = Copy(refs[slot(id)]);
    refs[slot(id)] = owned[slot(id)].ref;
  }
  for (NodeId id : graph_.nodes()) {
    const Node& node = graph_.node(id);
    bool exact = IsExact(node);
    std::vector<TensorRef> operands;
    std::vector<HostTensor> copies;
    std::vector<size_t> to_disturb;  // of the operands
    double largest = 0;
    bool any_rounded = false;
    for (ValueId input : node.inputs) {
      operands.push_back(input.valid() ? refs[slot(input)] : TensorRef{});
      if (!input.valid() || !IsFloat(operands.back().dtype)) continue;
      const TensorRef& operand = operands.back();
      any_rounded = any_rounded || rounded[slot(input)];
      // A kernel that makes a half and uses it may use it before it is rounded.
      bool unsure = rounded[slot(input)] && DTypeSize(operand.dtype) == 2 && !node.op->Is(kView);
      if (!disturbed || (exact && !unsure)) continue;
      to_disturb.push_back(operands.size() - 1);
      double size = CancelledSize(node, operand);
      if (size > 0) largest = std::max(largest, size * std::max(1.0, LargestOf(operand)));
    }
    Sizes result_dims = EvalDims(graph_.type(node.outputs[0]).dims, symbols_);
    if (!to_disturb.empty()) {
      double units = NumUnits(NumTerms(node, operands, result_dims));
      for (size_t i : to_disturb) {
        // The halves of a sum are added up in float32.
        double amount = DTypeSize(operands[i].dtype) == 2 ? UnitOf(operands[i].dtype)
                                                          : units * UnitOf(operands[i].dtype);
        copies.push_back(Disturb(operands[i], amount, 0));
        operands[i] = copies.back().ref;
      }
    }
    std::vector<HostTensor> moved;
    if (disturbed) {
      std::vector<TensorRef> undisturbed;
      for (ValueId input : node.inputs) {
        undisturbed.push_back(input.valid() ? value_refs_[slot(input)] : TensorRef{});
      }
      moved = MeetThresholds(node, undisturbed, operands, result_dims, random_);
    }
    std::vector<HostTensor> results = EvaluateNode(graph_, node, operands, symbols_);
    for (size_t i = 0; i < results.size(); ++i) {
      ValueId output = node.outputs[i];
      DType dtype = results[i].ref.dtype;
      bool rounds = !exact && IsFloat(dtype);
      if (disturbed && rounds) {
        double floor =
            largest * UnitOf(dtype) + ToleranceOf(node, dtype) * LargestBias(node, operands);
        results[i] = Disturb(results[i].ref, ToleranceOf(node, dtype), floor);
      }
      if (!disturbed && Overflows(node, operands, results[i].ref)) {
        Fail(ErrorKind::kUnsupported, "{} overflows {}", node.op->name, DTypeName(dtype));
      }
      rounded[slot(output)] = rounds || any_rounded;
      owned[slot(output)] = std::move(results[i]);
      refs[slot(output)] = owned[slot(output)].ref;
    }
  }
  std::vector<HostTensor> outputs;
  for (ValueId id : graph_.outputs()) outputs.push_back(Copy(refs[slot(id)]));
  if (!disturbed) {
    values_ = std::move(owned);
    value_refs_ = std::move(refs);
  }
  return outputs;
}

void Judge::AddSample() {
  ++num_samples_;
  std::vector<HostTensor> sample;
  try {
    sample = Evaluate(true);
  } catch (const Error&) {  // an index that hangs on rounding left its range
    for (auto& bounds : bounds_) std::fill(bounds.begin(), bounds.end(), kInfinity);
    return;
  }
  for (size_t k = 0; k < sample.size(); ++k) {
    const TensorRef &base = expected_[k].ref, &moved = sample[k].ref;
    size_t position = 0;
    ForEachOffset<2>(base.dims, {base.strides, moved.strides}, [&](const auto& at) {
      double& bound = bounds_[k][position++];
      if (IsEqual(base, at[0], moved, at[1])) return;
      double distance = std::abs(ElementAt(base, at[0]) - ElementAt(moved, at[1]));
      bool decided = !IsFloat(base.dtype) || !std::isfinite(distance);
      bound = decided ? kInfinity : std::max(bound, kBeyondSamples * distance);
    });
  }
}

const std::vector<std::vector<double>>& Judge::Bounds(int num_samples) {
  while (num_samples_ < num_samples) AddSample();
  return bounds_;
}

std::string Judge::FindDifference(std::span<const TensorRef> found) {
  std::string wrong;
  if (found.size() != expected_.size()) {
    return fmt::format("{} outputs, expected {}", found.size(), expected_.size());
  }
  auto compare = [&] {
    wrong.clear();
    for (size_t k = 0; k < found.size() && wrong.empty(); ++k) {
      const TensorRef &base = expected_[k].ref, &other = found[k];
      if (base.dtype != other.dtype || base.dims != other.dims) {
        wrong = fmt::format("output {} is {}[{}], expected {}[{}]", k, DTypeName(other.dtype),
                            fmt::join(other.dims, ", "), DTypeName(base.dtype),
                            fmt::join(base.dims, ", "));
        return;
      }
      size_t position = 0;
      ForEachOffset<2>(base.dims, {base.strides, other.strides}, [&](const auto& at) {
        double bound = bounds_[k][position++];
        if (!wrong.empty() || bound == kInfinity || IsEqual(base, at[0], other, at[1])) return;
        double x = ElementAt(base, at[0]), y = ElementAt(other, at[1]);
        if (IsFloat(base.dtype) && std::abs(x - y) <= bound) return;
        wrong = fmt::format("output {}, element {}: {}, expected {} +- {:.3g}", k, position - 1, y,
                            x, bound);
      });
    }
  };
  for (int samples : kSamples) {
    Bounds(samples);
    compare();
    if (wrong.empty()) break;
  }
  return wrong;
}

int64_t Judge::num_elements() const {
  int64_t count = 0;
  for (const auto& bounds : bounds_) count += static_cast<int64_t>(bounds.size());
  return count;
}

int64_t Judge::num_unbounded() const {
  int64_t count = 0;
  for (const auto& bounds : bounds_) {
    count += std::count(bounds.begin(), bounds.end(), kInfinity);
  }
  return count;
}

}  // namespace stator
