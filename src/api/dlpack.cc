#include "api/dlpack.h"

#include <string>

#include <fmt/ranges.h>

#include "base/error.h"
#include "ops/tensor.h"

namespace stator {
namespace {

struct Row {
  DType dtype;
  uint8_t code;
  uint8_t bits;
};
constexpr Row kRows[] = {
    {DType::kBool, kDLBool, 8},      {DType::kUInt8, kDLUInt, 8},
    {DType::kInt8, kDLInt, 8},       {DType::kInt16, kDLInt, 16},
    {DType::kInt32, kDLInt, 32},     {DType::kInt64, kDLInt, 64},
    {DType::kFloat16, kDLFloat, 16}, {DType::kBFloat16, kDLBfloat, 16},
    {DType::kFloat32, kDLFloat, 32}, {DType::kFloat64, kDLFloat, 64},
};

DType GetDType(DLDataType type, std::string_view kind, std::string_view name) {
  for (const Row& row : kRows) {
    if (row.code == type.code && row.bits == type.bits && type.lanes == 1) return row.dtype;
  }
  Fail(ErrorKind::kInvalidArgument,
       "{} `{}`: expected a dtype from bool to float64, found DLPack code {} with {} bits and {} "
       "lanes",
       kind, name, type.code, type.bits, type.lanes);
}

std::string DeviceName(DLDevice device) {
  switch (device.device_type) {
    case kDLCPU: return "cpu";
    case kDLCUDA: return fmt::format("cuda:{}", device.device_id);
    case kDLROCM: return fmt::format("rocm:{}", device.device_id);
    case kDLMetal: return "mps";
    default: return fmt::format("DLPack device {}", static_cast<int>(device.device_type));
  }
}

// Memory of another kind that is as good: pinned for the host, managed for a GPU.
DLDevice Canonical(DLDevice device) {
  switch (device.device_type) {
    case kDLCUDAHost: return {kDLCPU, 0};
    case kDLCUDAManaged: return {kDLCUDA, device.device_id};
    case kDLCPU: return {kDLCPU, 0};
    default: return device;
  }
}

}  // namespace

TensorRef MakeTensorRef(const DLTensor& tensor, DLDevice device, std::string_view kind,
                        std::string_view name) {
  DLDevice found = Canonical(tensor.device);
  if (found.device_type != device.device_type || found.device_id != device.device_id) {
    Fail(ErrorKind::kInvalidArgument, "{} `{}`: expected a tensor on {}, found one on {}", kind,
         name, DeviceName(device), DeviceName(found));
  }
  TensorRef ref{.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset,
                .dtype = GetDType(tensor.dtype, kind, name),
                .dims = {tensor.shape, tensor.shape + tensor.ndim},
                .strides = {}};
  if (tensor.strides != nullptr) {
    ref.strides.assign(tensor.strides, tensor.strides + tensor.ndim);
  } else {
    ref.strides = DenseStrides(ref.dims);
  }
  return ref;
}

ConstantData MakeConstant(const DLTensor& tensor, std::string_view kind, std::string_view name) {
  DLDevice device = Canonical(tensor.device);
  bool cuda = device.device_type == kDLCUDA;
  TensorRef ref = MakeTensorRef(tensor, cuda ? device : DLDevice{kDLCPU, 0}, kind, name);
  Sizes dense = DenseStrides(ref.dims);
  for (size_t i = 0; i < ref.dims.size(); ++i) {
    if (ref.dims[i] > 1 && ref.strides[i] != dense[i] && ref.num_elements() > 0) {
      Fail(ErrorKind::kInvalidArgument,
           "{} `{}`: expected a contiguous tensor, found strides [{}]; call contiguous() first",
           kind, name, fmt::join(ref.strides, ", "));
    }
  }
  return {.bytes = ref.data,
          .size = static_cast<size_t>(ref.num_elements()) * DTypeSize(ref.dtype),
          .owner = nullptr,
          .device = cuda ? device.device_id : ConstantData::kHost};
}

DLDataType ToDLDataType(DType dtype) {
  for (const Row& row : kRows) {
    if (row.dtype == dtype) return {row.code, row.bits, 1};
  }
  STATOR_CHECK(false, "dtype {} has no DLPack code", DTypeName(dtype));
}

}  // namespace stator
