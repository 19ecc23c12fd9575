// Which kind of kernel an op asks for.
#pragma once

#include <string_view>

#include "ir/op_def.h"

namespace stator {

// The kind of the kernel that a structured op is in ("gemm", "conv", "attention", "pool", "gather",
// "concat"; src/fuse/fuse.h); "reference" for an op that has no kind of its own.
std::string_view StructuredKind(const OpDef& op);

}  // namespace stator
