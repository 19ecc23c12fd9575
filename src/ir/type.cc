#include "ir/type.h"

#include "base/error.h"

namespace stator {

Dims TensorType::strides() const {
  if (order.empty()) return ContiguousStrides(dims);
  STATOR_CHECK(order.size() == dims.size(), "order of {} dims on a type of rank {}", order.size(),
               dims.size());
  Dims strides(dims.size());
  Dim stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = stride;
    stride = stride * dims[order[i]];
  }
  return strides;
}

std::string TensorType::ToString() const {
  std::string text = std::string(DTypeName(dtype)) + DimsToString(dims);
  if (!order.empty()) {
    text += "@";
    for (int dim : order) text += static_cast<char>(dim < 10 ? '0' + dim : 'a' + dim - 10);
  }
  return text;
}

DimOrder CanonicalOrder(DimOrder order) {
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != static_cast<int>(i)) return order;
  }
  return {};
}

DimOrder ChannelsLastOrder(int rank) {
  STATOR_CHECK(rank >= 3, "rank {} has no channels-last order", rank);
  DimOrder order = {0};
  for (int i = 2; i < rank; ++i) order.push_back(i);
  order.push_back(1);
  return order;
}

}  // namespace stator
