// What tests of passes share: weights and inputs with random content, and comparison of two graphs
// by the reference evaluator.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "ir/graph.h"
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

// Runs both graphs on the same random inputs and compares all outputs.
inline void ExpectSameValues(const Graph& before, const Graph& after, double tolerance = 1e-4) {
  std::mt19937 rng(11);
  SymbolValues symbols = SmallSymbols(before);
  std::vector<HostTensor> inputs;
  std::vector<TensorRef> refs;
  for (ValueId id : before.inputs()) {
    inputs.push_back(RandomTensor(before.type(id), symbols, rng));
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
      bool same = (std::isnan(x) && std::isnan(y)) || x == y ||
                  std::abs(x - y) <= tolerance * std::max(1.0, std::abs(x));
      ASSERT_TRUE(same) << "output " << i << ": " << x << " became " << y;
    });
  }
}

}  // namespace stator
