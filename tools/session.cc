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

void FillRandom(const TensorRef& tensor, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  DispatchDType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
      if constexpr (scalar::kIsFloatElement<T>) {
        Data<T>(tensor)[at[0]] = scalar::CastTo<T>(normal(random));
      } else {
        Data<T>(tensor)[at[0]] = static_cast<T>(random() % 2);
      }
    });
  });
}

}  // namespace stator
