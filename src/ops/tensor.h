// Tensors in host memory, for reference kernels: strides, iteration, element access, owned storage.
//
// Invariant: strides and offsets count elements, not bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/type.h"
#include "ops/scalar.h"

namespace stator {

using Sizes = std::vector<int64_t>;

// Row-major strides of a dense tensor with these sizes.
Sizes DenseStrides(std::span<const int64_t> dims);
// The strides with which `tensor` is read as `dims`, numpy-style: 0 along broadcast dims.
Sizes BroadcastStrides(const TensorRef& tensor, std::span<const int64_t> dims);
// The entries of `values` at `axes`, and those at all other positions.
Sizes Pick(std::span<const int64_t> values, std::span<const int64_t> axes);
Sizes Drop(std::span<const int64_t> values, std::span<const int64_t> axes);

// A tensor that owns its bytes. `ref` stays valid when the HostTensor moves.
struct HostTensor {
  std::vector<std::byte> storage;
  TensorRef ref;

  HostTensor() = default;
  HostTensor(HostTensor&&) = default;
  HostTensor& operator=(HostTensor&&) = default;
};

// A tensor of zeros, laid out as the type's order says; `data` is never null, not even for 0 bytes.
// Raises InvalidArgument for a negative size.
HostTensor MakeHostTensor(const TensorType& type, const SymbolValues& symbols = {});
HostTensor MakeHostTensor(DType dtype, Sizes dims);

// Copies elements; dtypes and dims are equal, strides are any.
void CopyTensor(const TensorRef& from, const TensorRef& to);

template <typename T>
T* Data(const TensorRef& tensor) {
  return reinterpret_cast<T*>(tensor.data);
}

// Calls fn(offsets) for each index of `dims` in row-major order; offsets[k] is the index's offset
// under strides[k].
template <size_t N, typename Fn>
void ForEachOffset(std::span<const int64_t> dims,
                   const std::array<std::span<const int64_t>, N>& strides, Fn&& fn) {
  for (int64_t size : dims) {
    if (size == 0) return;
  }
  std::vector<int64_t> index(dims.size(), 0);
  std::array<int64_t, N> offsets{};
  while (true) {
    fn(static_cast<const std::array<int64_t, N>&>(offsets));
    size_t dim = dims.size();
    while (dim-- > 0) {
      for (size_t k = 0; k < N; ++k) offsets[k] += strides[k][dim];
      if (++index[dim] < dims[dim]) break;
      for (size_t k = 0; k < N; ++k) offsets[k] -= strides[k][dim] * dims[dim];
      index[dim] = 0;
    }
    if (dim == static_cast<size_t>(-1)) return;
  }
}

// Calls fn with an unsigned integer as wide as an element of `dtype`, to move elements unread.
template <typename Fn>
void DispatchSize(DType dtype, Fn&& fn) {
  switch (DTypeSize(dtype)) {
    case 1: fn(uint8_t{}); break;
    case 2: fn(uint16_t{}); break;
    case 4: fn(uint32_t{}); break;
    default: fn(uint64_t{}); break;
  }
}

// Calls fn with an element of a floating dtype; the type rule has rejected the others.
template <typename Fn>
void DispatchFloat(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kFloat16: fn(Float16{}); break;
    case DType::kBFloat16: fn(BFloat16{}); break;
    case DType::kFloat32: fn(float{}); break;
    case DType::kFloat64: fn(double{}); break;
    default: STATOR_CHECK(false, "{} where a float is needed", DTypeName(dtype));
  }
}

// What sums of elements are kept in: double for floats, wrapping integers, bool.
template <typename T>
using Accumulator = std::conditional_t<scalar::kIsFloatElement<T>, double, scalar::Compute<T>>;

template <typename T>
Accumulator<T> ToAccumulator(T value) {
  return static_cast<Accumulator<T>>(scalar::ToCompute(value));
}

// The element of an i32 or i64 tensor at `offset`.
int64_t ReadIndex(const TensorRef& tensor, int64_t offset);

}  // namespace stator
