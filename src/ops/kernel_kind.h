// Which kind of kernel an op asks for.
#pragma once

#include <string_view>

#include "ir/op_def.h"

namespace stator {

// The kind of the kernel that a structured op is in ("gemm", "conv", "attention", "pool", "gather",
// "concat"; src/fuse/fuse.h); "reference" for an op that has no kind of its own.
std::string_view StructuredKind(const OpDef& op);

// Whether a rowwise node works along the last dims only: its kernel knows no others.
bool IsAlongLastDims(const Graph& graph, const Node& node);

// Whether no kernel computes a node but its op's reference: it has none of its own, and is not
// spelled with other ops.
bool HasOnlyReference(const Graph& graph, const Node& node);

}  // namespace stator
