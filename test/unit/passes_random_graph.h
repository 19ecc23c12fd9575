// What tests of passes and of the whole line share: random graphs, weights and inputs with random
// content, and comparison of two graphs by the reference evaluator.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "fuzz/random_graph.h"
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

}  // namespace stator
