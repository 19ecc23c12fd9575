#include "ops/tensor.h"

#include <algorithm>

namespace stator {

int64_t TensorRef::num_elements() const {
  int64_t count = 1;
  for (int64_t size : dims) count *= size;
  return count;
}

Sizes DenseStrides(std::span<const int64_t> dims) {
  Sizes strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  return strides;
}

Sizes BroadcastStrides(const TensorRef& tensor, std::span<const int64_t> dims) {
  size_t lead = dims.size() - tensor.dims.size();
  Sizes strides(dims.size(), 0);
  for (size_t i = 0; i < tensor.dims.size(); ++i) {
    if (tensor.dims[i] == dims[lead + i]) {
      strides[lead + i] = tensor.strides[i];
    } else if (tensor.dims[i] != 1) {
      Fail(ErrorKind::kInvalidArgument, "size {} does not broadcast to {}", tensor.dims[i],
           dims[lead + i]);
    }
  }
  return strides;
}

Sizes Pick(std::span<const int64_t> values, std::span<const int64_t> axes) {
  Sizes picked;
  for (int64_t axis : axes) picked.push_back(values[axis]);
  return picked;
}

Sizes Drop(std::span<const int64_t> values, std::span<const int64_t> axes) {
  Sizes kept;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) == axes.end()) {
      kept.push_back(values[i]);
    }
  }
  return kept;
}

static HostTensor Allocate(DType dtype, Sizes dims, Sizes strides) {
  for (int64_t size : dims) {  // symbolic until now
    if (size < 0) Fail(ErrorKind::kInvalidArgument, "a tensor with a size of {}", size);
  }
  HostTensor tensor;
  tensor.ref = {.dtype = dtype, .dims = std::move(dims), .strides = std::move(strides)};
  size_t bytes = tensor.ref.num_elements() * DTypeSize(dtype);
  tensor.storage.resize(std::max<size_t>(bytes, 1));  // null data would mean an absent input
  tensor.ref.data = tensor.storage.data();
  return tensor;
}

HostTensor MakeHostTensor(const TensorType& type, const SymbolValues& symbols) {
  return Allocate(type.dtype, EvalDims(type.dims, symbols), EvalDims(type.strides(), symbols));
}

HostTensor MakeHostTensor(DType dtype, Sizes dims) {
  Sizes strides = DenseStrides(dims);
  return Allocate(dtype, std::move(dims), std::move(strides));
}

void CopyTensor(const TensorRef& from, const TensorRef& to) {
  STATOR_CHECK(from.dtype == to.dtype && from.dims == to.dims, "copy between unlike tensors");
  DispatchSize(from.dtype, [&](auto element) {
    using T = decltype(element);
    ForEachOffset<2>(from.dims, {from.strides, to.strides}, [&](const auto& offset) {
      Data<T>(to)[offset[1]] = Data<T>(from)[offset[0]];
    });
  });
}

int64_t ReadIndex(const TensorRef& tensor, int64_t offset) {
  return tensor.dtype == DType::kInt32 ? Data<int32_t>(tensor)[offset]
                                       : Data<int64_t>(tensor)[offset];
}

}  // namespace stator
