#include "ops/rules.h"

#include <algorithm>

namespace stator {

std::vector<TensorType> OneOutput(DType dtype, Dims dims) {
  return {{.dtype = dtype, .dims = std::move(dims), .order = {}}};
}

void RequireFloat(const TensorType& type, std::string_view operand) {
  if (!IsFloat(type.dtype)) Reject("{} is {}, expected a float", operand, type.ToString());
}

void RequireNumber(const TensorType& type, std::string_view operand) {
  if (type.dtype == DType::kBool) Reject("{} is {}, expected a number", operand, type.ToString());
}

void RequireIndex(const TensorType& type, std::string_view operand) {
  if (type.dtype != DType::kInt32 && type.dtype != DType::kInt64) {
    Reject("{} is {}, expected i32 or i64", operand, type.ToString());
  }
}

void RequireRank(const TensorType& type, int min_rank, std::string_view operand) {
  if (type.rank() < min_rank) {
    Reject("{} is {}, expected at least {} dims", operand, type.ToString(), min_rank);
  }
}

void RequireDims(const TensorType& type, const Dims& dims, std::string_view operand) {
  if (type.dims != dims) {
    Reject("{} is {}, expected sizes {}", operand, type.ToString(), DimsToString(dims));
  }
}

void RequireSameDType(const InferContext& context) {
  const TensorType* first = nullptr;
  for (const TensorType* input : context.inputs) {
    if (input == nullptr) continue;
    if (first == nullptr) first = input;
    if (input->dtype != first->dtype) {
      Reject("inputs are {} and {}, expected one dtype", first->ToString(), input->ToString());
    }
  }
}

static int64_t CheckAxis(const Dim& dim, std::string_view name, int rank) {
  if (!dim.is_static() || dim.value() < 0 || dim.value() >= rank) {
    Reject("{} {} is not in [0, {})", name, dim.ToString(), rank);
  }
  return dim.value();
}

int GetAxis(const Attrs& attrs, std::string_view name, int rank) {
  return static_cast<int>(CheckAxis(attrs.GetDim(name), name, rank));
}

std::vector<int64_t> GetAxes(const Attrs& attrs, std::string_view name, int rank) {
  std::vector<int64_t> axes;
  for (const Dim& dim : attrs.GetDims(name)) {
    int64_t axis = CheckAxis(dim, name, rank);
    if (std::find(axes.begin(), axes.end(), axis) != axes.end())
      Reject("{} has {} twice", name, axis);
    axes.push_back(axis);
  }
  return axes;
}

Dims BroadcastDims(const Dims& lhs, const Dims& rhs) {
  const Dims& longer = lhs.size() >= rhs.size() ? lhs : rhs;
  const Dims& shorter = lhs.size() >= rhs.size() ? rhs : lhs;
  Dims dims = longer;
  size_t lead = longer.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i) {
    const Dim& a = longer[lead + i];
    const Dim& b = shorter[i];
    if (a == b || b == Dim(1)) continue;
    if (a != Dim(1)) {
      Reject("sizes {} and {} do not broadcast", DimsToString(lhs), DimsToString(rhs));
    }
    dims[lead + i] = b;
  }
  return dims;
}

Dims LastDims(const Dims& dims, int count) { return Dims(dims.end() - count, dims.end()); }

}  // namespace stator
