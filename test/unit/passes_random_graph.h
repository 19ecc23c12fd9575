// What tests of passes and of the whole line share: random graphs, weights and inputs with random
// content, and comparison of two graphs by the reference evaluator.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "ir/graph.h"
#include "ir/op_def.h"
#include "ops/evaluate.h"
#include "ops/tensor.h"

namespace stator {

// Symbols stand for their smallest size, but at least 2.
inline SymbolValues SmallSymbols(const Graph& graph) {
  SymbolValues symbols;
  for (const SymbolRange& symbol : graph.symbols) {
    symbols[symbol.name] = std::max<int64_t>(symbol.min, 2);
  }
  return symbols;
}

// Floats in [-2, 2), integers in [0, 4), bools.
inline HostTensor RandomTensor(const TensorType& type, const SymbolValues& symbols,
                               std::mt19937& rng) {
  HostTensor tensor = MakeHostTensor(type, symbols);
  std::uniform_real_distribution<float> uniform(-2, 2);
  DispatchDType(type.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < tensor.ref.num_elements(); ++i) {
      if constexpr (scalar::kIsFloatElement<T>) {
        Data<T>(tensor.ref)[i] = T(uniform(rng));
      } else {
        Data<T>(tensor.ref)[i] = static_cast<T>(rng() % (std::is_same_v<T, bool> ? 2 : 4));
      }
    }
  });
  return tensor;
}

// Puts NaN, infinities, zeros of both signs and subnormals among the elements of a float tensor.
inline void AddSpecialValues(const TensorRef& tensor) {
  if (!IsFloat(tensor.dtype)) return;
  constexpr float kSpecial[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, -3e38f};
  DispatchDType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (scalar::kIsFloatElement<T>) {
      for (int64_t i = 0; i < tensor.num_elements(); i += 2) {
        Data<T>(tensor)[i] = T(kSpecial[i / 2 % std::size(kSpecial)]);
      }
    }
  });
}

// Gives weights that came from text positive content (variances are weights too).
inline void FillWeights(Graph& graph, unsigned seed) {
  std::mt19937 rng(seed);
  for (ValueId id : std::vector<ValueId>(graph.constants().begin(), graph.constants().end())) {
    Value& value = graph.mutable_value(id);
    if (value.kind != ValueKind::kWeight || value.data.bytes != nullptr) continue;
    HostTensor tensor = RandomTensor(value.type, {}, rng);
    if (value.type.dtype == DType::kFloat32) {
      for (int64_t i = 0; i < tensor.ref.num_elements(); ++i) {
        float& element = Data<float>(tensor.ref)[i];
        element = 0.1f + std::abs(element);
      }
    }
    tensor.storage.resize(tensor.ref.num_elements() * DTypeSize(value.type.dtype));
    value.data = MakeConstantData(std::move(tensor.storage));
  }
}

inline double ElementAt(const TensorRef& tensor, int64_t offset) {
  return DispatchDType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    return static_cast<double>(Data<T>(tensor)[offset]);
  });
}

// kClose: within the tolerance. kExact: equal bits, but for which NaN it is.
enum class Match { kClose, kExact };

inline bool IsSame(double x, double y, double tolerance, Match match) {
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
  if (match == Match::kExact) return x == y && std::signbit(x) == std::signbit(y);
  return x == y || std::abs(x - y) <= tolerance * std::max(1.0, std::abs(x));
}

// Runs both graphs on the same random inputs, with special values among them for kExact, and
// compares all outputs.
inline void ExpectSameValues(const Graph& before, const Graph& after, double tolerance = 1e-4,
                             Match match = Match::kClose) {
  std::mt19937 rng(11);
  SymbolValues symbols = SmallSymbols(before);
  std::vector<HostTensor> inputs;
  std::vector<TensorRef> refs;
  for (ValueId id : before.inputs()) {
    inputs.push_back(RandomTensor(before.type(id), symbols, rng));
    if (match == Match::kExact) AddSpecialValues(inputs.back().ref);
    refs.push_back(inputs.back().ref);
  }
  std::vector<HostTensor> expected = EvaluateGraph(before, refs, symbols);
  std::vector<HostTensor> actual = EvaluateGraph(after, refs, symbols);
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const TensorRef &a = expected[i].ref, &b = actual[i].ref;
    ASSERT_EQ(a.dtype, b.dtype);
    ASSERT_EQ(a.dims, b.dims);
    ForEachOffset<2>(a.dims, {a.strides, b.strides}, [&](const auto& at) {
      double x = ElementAt(a, at[0]), y = ElementAt(b, at[1]);
      ASSERT_TRUE(IsSame(x, y, tolerance, match)) << "output " << i << ": " << x << " became " << y;
    });
  }
}

// Draws nodes over values of a few shapes, in the manner of models: products with weights and bias,
// convolutions with batch norm, views, pointwise nodes, norms, literals.
class RandomGraph {
 public:
  explicit RandomGraph(unsigned seed) : rng_(seed) {}

  Graph Make() {
    values_ = {graph_.AddInput("x", {.dims = {2, 3, 4}}), graph_.AddInput("y", {.dims = {6, 4}}),
               graph_.AddInput("z", {.dims = {1, 4, 3, 2}})};
    unsigned count = 4 + Draw(24);
    while (static_cast<unsigned>(graph_.nodes().size()) < count) AddNodes();
    graph_.SetOutputs({values_.back(), values_[values_.size() / 2], values_[Draw(3)]});
    FillWeights(graph_, rng_());
    return std::move(graph_);
  }

 private:
  unsigned Draw(unsigned bound) { return rng_() % bound; }
  ValueId Pick() { return values_[Draw(static_cast<unsigned>(values_.size()))]; }
  const TensorType& type(ValueId id) { return graph_.type(id); }
  ValueId Weight(Dims dims) {
    return graph_.AddWeight(fmt::format("w{}", num_weights_++), {.dims = std::move(dims)});
  }
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return graph_.node(graph_.AddNode(GetOp(op), std::move(inputs), std::move(attrs))).outputs[0];
  }

  void AddNodes() {
    ValueId x = Pick();
    switch (Draw(8)) {
      case 0: return Keep(Add(kUnary[Draw(std::size(kUnary))], {x}));
      case 1: return Keep(AddBinary(x));
      case 2: return Keep(AddView(x));
      case 3: return Keep(AddProduct(x));
      case 4: return Keep(AddConv(x));
      case 5: return Keep(AddRowwise(x));
      case 6: return AddAttention(x);
      default: return Keep(Add("mul", {x, AddScalar(graph_, DType::kFloat32, kNumbers[Draw(5)])}));
    }
  }

  void Keep(ValueId value) { values_.push_back(value); }

  ValueId AddBinary(ValueId x) {
    std::vector<ValueId> same;
    for (ValueId value : values_) {
      if (type(value).dims == type(x).dims) same.push_back(value);
    }
    std::string_view op = kBinary[Draw(std::size(kBinary))];
    if (Draw(3) == 0) return Add(op, {Weight({type(x).dims.back()}), x});
    return Add(op, {x, same[Draw(static_cast<unsigned>(same.size()))]});
  }

  ValueId AddView(ValueId x) {
    Dims dims = type(x).dims;
    if (Draw(2) == 0) {
      Dims perm;
      for (int i = 0; i < type(x).rank(); ++i) perm.push_back(i);
      std::shuffle(perm.begin(), perm.end(), rng_);
      return Add("permute", {x}, {{"perm", perm}});
    }
    if (Draw(3) == 0) {
      int64_t dim = Draw(type(x).rank()), size = dims[dim].value();
      return Add(
          "slice", {x},
          {{"dim", Dim(dim)}, {"start", Dim(size / 2)}, {"end", Dim(size)}, {"step", Dim(1)}});
    }
    Dim count = type(x).num_elements();
    const Dims kept = {FloorDiv(count, dims.back()), dims.back()};
    const Dims wide = {1, FloorDiv(count, dims.back()), dims.back()};
    return Add("reshape", {x}, {{"dims", Draw(2) == 0 ? kept : wide}});
  }

  ValueId AddProduct(ValueId x) {
    if (type(x).rank() < 2) return Add("neg", {x});
    ValueId w = Add("permute", {Weight({4, type(x).dims.back()})}, {{"perm", Dims{1, 0}}});
    return Add("add", {Weight({4}), Add("matmul", {x, w})});
  }

  ValueId AddConv(ValueId x) {
    if (type(x).rank() != 4) return Add("abs", {x});
    Dim channels = type(x).dims[1];
    ValueId y = Add("conv", {x, Weight({4, channels, 1, 1})},
                    {{"stride", Dims{1, 1}},
                     {"padding", Dims{0, 0}},
                     {"dilation", Dims{1, 1}},
                     {"groups", Dim(1)},
                     {"transposed", false},
                     {"output_padding", Dims{0, 0}}});
    return Add("batch_norm", {y, Weight({4}), Weight({4}), Weight({4}), Weight({4})},
               {{"eps", 1e-5}});
  }

  ValueId AddRowwise(ValueId x) {
    if (type(x).rank() == 0) return Add("abs", {x});
    if (Draw(2) == 0) return Add("softmax", {x}, {{"axis", Dim(type(x).rank() - 1)}});
    return Add("layer_norm", {x, Weight({type(x).dims.back()})},
               {{"num_dims", Dim(1)}, {"eps", 1e-5}});
  }

  // softmax(x x^T / 2) x
  void AddAttention(ValueId x) {
    int rank = type(x).rank();
    if (rank < 2) return;
    Dims perm;
    for (int i = 0; i < rank; ++i) perm.push_back(i);
    std::swap(perm[rank - 1], perm[rank - 2]);
    ValueId scores = Add("matmul", {x, Add("permute", {x}, {{"perm", perm}})});
    scores = Add("mul", {scores, AddScalar(graph_, DType::kFloat32, 0.5)});
    Keep(Add("matmul", {Add("softmax", {scores}, {{"axis", Dim(rank - 1)}}), x}));
  }

  static constexpr std::string_view kUnary[] = {"neg", "abs",     "relu", "tanh",
                                                "exp", "sigmoid", "gelu", "square"};
  static constexpr std::string_view kBinary[] = {"add", "sub", "mul", "maximum", "minimum"};
  static constexpr double kNumbers[] = {1, 0.5, -1, 2, 0};

  std::mt19937 rng_;
  Graph graph_;
  std::vector<ValueId> values_;
  int num_weights_ = 0;
};

}  // namespace stator
