// DLPack tensors as TensorRefs.
//
// In:  a DLTensor that the caller owns. Out: a TensorRef on the same memory.
// Errors: InvalidArgument naming the tensor for a device, dtype or layout that does not fit.
#pragma once

#include <string_view>

#include <dlpack/dlpack.h>

#include "ir/graph.h"
#include "ir/op_def.h"

namespace stator {

// `kind` ("input", "weight") and `name` are for messages. The tensor must lie on `device`: on the
// host for kDLCPU, pinned memory included.
TensorRef MakeTensorRef(const DLTensor& tensor, DLDevice device, std::string_view kind,
                        std::string_view name);

// The content of a dense row-major tensor, on the host or a CUDA device, without an owner; raises
// InvalidArgument, naming it, for another layout or device.
ConstantData MakeConstant(const DLTensor& tensor, std::string_view kind, std::string_view name);

DLDataType ToDLDataType(DType dtype);

}  // namespace stator
