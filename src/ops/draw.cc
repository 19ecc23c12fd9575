#include "ops/draw.h"

#include <cmath>
#include <limits>
#include <random>

#include "base/hash.h"

namespace stator {
namespace {

using Random = std::mt19937_64;

double Uniform(Random& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}

double DrawFloat(int kind, Random& random) {
  switch (kind) {
    case 0:
    case 1: return static_cast<double>(random() % 17) / 4 - 2;  // ties, and exact sums
    case 2:
    case 3: return Uniform(random, 0.125, 2);
    case 4: return std::ldexp(Uniform(random, -1, 1), static_cast<int>(random() % 8) - 4);
    default: return Uniform(random, -2, 2);
  }
}

template <typename T>
T DrawInteger(int kind, Random& random) {
  constexpr bool has_sign = std::is_signed_v<T>;
  switch (kind) {
    case 0:
    case 1:
    case 2:
      return static_cast<T>(has_sign ? static_cast<int>(random() % 9) - 4
                                     : static_cast<int>(random() % 9));
    case 3: {
      constexpr T kEdges[] = {std::numeric_limits<T>::min(),
                              std::numeric_limits<T>::max(),
                              static_cast<T>(-1),
                              1,
                              0,
                              2,
                              static_cast<T>(100)};
      return kEdges[random() % std::size(kEdges)];
    }
    case 4: return static_cast<T>(random() % 2);
    default: return static_cast<T>(random() % 4);
  }
}

}  // namespace

HostTensor DrawTensor(std::string_view name, DType dtype, Sizes dims, uint64_t seed) {
  HostTensor tensor = MakeHostTensor(dtype, std::move(dims));
  Random random(Hash64(name.data(), name.size(), seed));
  int kind = static_cast<int>(random() % 10);
  DispatchDType(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = Data<T>(tensor.ref);
    for (int64_t i = 0, count = tensor.ref.num_elements(); i < count; ++i) {
      if constexpr (scalar::kIsFloatElement<T>) {
        data[i] = scalar::CastTo<T>(DrawFloat(kind, random));
      } else if constexpr (std::is_same_v<T, bool>) {
        data[i] = random() % 2 == 0;
      } else {
        data[i] = DrawInteger<T>(kind, random);
      }
    }
  });
  return tensor;
}

std::vector<HostTensor> DrawInputs(const Graph& graph, const SymbolValues& symbols, uint64_t seed) {
  std::vector<HostTensor> inputs;
  for (ValueId id : graph.inputs()) {
    const Value& value = graph.value(id);
    inputs.push_back(
        DrawTensor(value.name, value.type.dtype, EvalDims(value.type.dims, symbols), seed));
  }
  return inputs;
}

void DrawWeights(Graph& graph, uint64_t seed) {
  for (ValueId id : graph.constants()) {
    Value& value = graph.mutable_value(id);
    if (value.kind != ValueKind::kWeight || value.data.bytes != nullptr) continue;
    HostTensor tensor =
        DrawTensor(value.name, value.type.dtype, EvalDims(value.type.dims, {}), seed);
    tensor.storage.resize(tensor.ref.num_elements() * DTypeSize(value.type.dtype));
    value.data = MakeConstantData(std::move(tensor.storage));
  }
}

}  // namespace stator
