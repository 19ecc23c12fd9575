// What the type rules of all families share. Each Require raises InvalidArgument naming the
// operand.
#pragma once

#include <vector>

#include "base/error.h"
#include "ir/op_def.h"

namespace stator {

template <typename... Args>
[[noreturn]] void Reject(fmt::format_string<Args...> format, Args&&... args) {
  Fail(ErrorKind::kInvalidArgument, format, std::forward<Args>(args)...);
}

std::vector<TensorType> OneOutput(DType dtype, Dims dims);

void RequireFloat(const TensorType& type, std::string_view operand);
void RequireNumber(const TensorType& type, std::string_view operand);  // not bool
void RequireIndex(const TensorType& type, std::string_view operand);   // i32 or i64
void RequireRank(const TensorType& type, int min_rank, std::string_view operand);
void RequireDims(const TensorType& type, const Dims& dims, std::string_view operand);
// All present inputs share the dtype of the first.
void RequireSameDType(const InferContext& context);

// The attribute as a position in [0, rank).
int GetAxis(const Attrs& attrs, std::string_view name, int rank);
// The attribute as distinct positions in [0, rank).
std::vector<int64_t> GetAxes(const Attrs& attrs, std::string_view name, int rank);

// Numpy broadcasting: aligned at the last dim; equal sizes, or one of them the integer 1.
Dims BroadcastDims(const Dims& lhs, const Dims& rhs);
// The last `count` dims.
Dims LastDims(const Dims& dims, int count);

}  // namespace stator
