#include "tools/session.h"

#include <algorithm>
#include <random>

namespace stator {
namespace {

// A tensor with the dims and strides of `ref`, over storage of its own.
HostTensor AllocateLike(const TensorRef& ref) {
  int64_t extent = 1;
  for (size_t i = 0; i < ref.dims.size(); ++i) {
    if (ref.dims[i] > 0) extent += (ref.dims[i] - 1) * ref.strides[i];
  }
  HostTensor tensor = MakeHostTensor(ref.dtype, {extent});
  tensor.ref.dims = ref.dims;
  tensor.ref.strides = ref.strides;
  return tensor;
}

std::vector<std::byte*> Pointers(std::span<const HostTensor> tensors) {
  std::vector<std::byte*> pointers;
  for (const HostTensor& tensor : tensors) pointers.push_back(tensor.ref.data);
  return pointers;
}

}  // namespace

Session::Session(Plan plan)
    : engine_(Engine::Load(std::make_shared<Plan>(std::move(plan)), CpuDevice())),
      context_(engine_) {}

std::vector<HostTensor> Session::MakeOutputs(std::span<const TensorRef> inputs) {
  std::vector<HostTensor> outputs;
  for (const TensorRef& ref : context_.Prepare(inputs)) outputs.push_back(AllocateLike(ref));
  return outputs;
}

void Session::Call(std::span<const TensorRef> inputs, std::span<const HostTensor> outputs) {
  context_.Prepare(inputs);
  context_.Run(inputs, Pointers(outputs));
}

std::vector<double> Session::Profile(std::span<const TensorRef> inputs,
                                     std::span<const HostTensor> outputs) {
  context_.Prepare(inputs);
  return context_.Profile(inputs, Pointers(outputs));
}

std::vector<TensorRef> Refs(std::span<const HostTensor> tensors) {
  std::vector<TensorRef> refs;
  for (const HostTensor& tensor : tensors) refs.push_back(tensor.ref);
  return refs;
}

HostTensor MakeRandom(DType dtype, const Dims& dims, const SymbolValues& symbols, uint64_t seed) {
  HostTensor tensor = MakeHostTensor(dtype, EvalDims(dims, symbols));
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  DispatchDType(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = Data<T>(tensor.ref);
    std::generate_n(data, tensor.ref.num_elements(), [&] {
      if constexpr (scalar::kIsFloatElement<T>) {
        return scalar::CastTo<T>(normal(random));
      } else {
        return static_cast<T>(random() % 2);
      }
    });
  });
  return tensor;
}

SymbolValues ChooseSymbols(std::span<const SymbolRange> symbols) {
  SymbolValues values;
  for (const SymbolRange& symbol : symbols) {
    values[symbol.name] = std::clamp<int64_t>(2, symbol.min, symbol.max);
  }
  return values;
}

}  // namespace stator
