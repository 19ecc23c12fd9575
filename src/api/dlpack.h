// DLPack tensors as TensorRefs.
//
// In:  a DLTensor that the caller owns. Out: a TensorRef on the same memory.
// Errors: InvalidArgument naming the tensor for a device, dtype or layout that does not fit.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include <dlpack/dlpack.h>

#include "ir/op_def.h"

namespace stator {

// `kind` ("input", "weight") and `name` are for messages.
TensorRef MakeTensorRef(const DLTensor& tensor, std::string_view kind, std::string_view name);

// The bytes of a dense row-major tensor; raises InvalidArgument, naming it, for another layout.
std::span<const std::byte> GetDenseBytes(const DLTensor& tensor, std::string_view kind,
                                         std::string_view name);

DLDataType ToDLDataType(DType dtype);

}  // namespace stator
