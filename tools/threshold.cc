#include "tools/threshold.h"

#include <set>

#include "ir/op_def.h"
#include "ops/evaluate.h"

namespace stator {
namespace {

bool AsksForZero(const Node& node) {
  static const std::set<std::string_view> kAsk = {"any",        "all",         "logical_and",
                                                  "logical_or", "logical_xor", "logical_not"};
  if (node.op->name == "cast") return node.attrs.GetDType("dtype") == DType::kBool;
  return kAsk.contains(node.op->name);
}

bool Compares(const Node& node) {
  static const std::set<std::string_view> kCompare = {"eq", "ne", "lt", "le", "gt", "ge"};
  return kCompare.contains(node.op->name);
}

bool IsOrdinary(const TensorRef& tensor) { return tensor.data != nullptr && IsFloat(tensor.dtype); }

TensorRef Expand(const TensorRef& tensor, const Sizes& dims) {
  return {.data = tensor.data,
          .dtype = tensor.dtype,
          .dims = dims,
          .strides = BroadcastStrides(tensor, dims)};
}

HostTensor Copy(const TensorRef& tensor) {
  HostTensor copy = MakeHostTensor(tensor.dtype, tensor.dims);
  CopyTensor(tensor, copy.ref);
  return copy;
}

// -1, 0 or 1 as x is less than, equal or greater than y; NaN is neither.
template <typename T>
int Order(T x, T y) {
  double a = scalar::CastTo<double>(x), b = scalar::CastTo<double>(y);
  return (a > b) - (a < b);
}

// `values` with 0 in place of some of those that are beyond 0.
HostTensor ThroughZero(const TensorRef& undisturbed, const TensorRef& values,
                       std::mt19937_64& random) {
  HostTensor moved = Copy(values);
  DispatchFloat(values.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = Data<T>(moved.ref);
    ForEachOffset<1>(values.dims, {undisturbed.strides}, [&](const auto& at) {
      T &value = *to++, nothing = scalar::CastTo<T>(0.0);
      int before = Order(Data<T>(undisturbed)[at[0]], nothing);
      if (before * Order(value, nothing) < 0 && random() % 2 == 0) value = nothing;
    });
  });
  return moved;
}

// The first of two operands, with the second's elements where some pairs have swapped their order.
HostTensor ThroughEqual(std::span<const TensorRef> undisturbed, std::span<const TensorRef> operands,
                        const Sizes& dims, std::mt19937_64& random) {
  HostTensor moved = Copy(Expand(operands[0], dims));
  Sizes other = BroadcastStrides(operands[1], dims);
  Sizes x = BroadcastStrides(undisturbed[0], dims), y = BroadcastStrides(undisturbed[1], dims);
  DispatchFloat(operands[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = Data<T>(moved.ref);
    ForEachOffset<3>(dims, {other, x, y}, [&](const auto& at) {
      T &value = *to++, equal = Data<T>(operands[1])[at[0]];
      int before = Order(Data<T>(undisturbed[0])[at[1]], Data<T>(undisturbed[1])[at[2]]);
      if (before * Order(value, equal) < 0 && random() % 2 == 0) value = equal;
    });
  });
  return moved;
}

}  // namespace

std::vector<HostTensor> MeetThresholds(const Node& node, std::span<const TensorRef> undisturbed,
                                       std::span<TensorRef> operands, const Sizes& result_dims,
                                       std::mt19937_64& random) {
  std::vector<HostTensor> moved;
  if (AsksForZero(node)) {
    for (size_t i = 0; i < operands.size(); ++i) {
      if (!IsOrdinary(operands[i])) continue;
      moved.push_back(ThroughZero(undisturbed[i], operands[i], random));
      operands[i] = moved.back().ref;
    }
  } else if (Compares(node) && IsOrdinary(operands[0]) && IsOrdinary(operands[1])) {
    moved.push_back(ThroughEqual(undisturbed, operands, result_dims, random));
    operands[0] = moved.back().ref;
  }
  return moved;
}

}  // namespace stator
