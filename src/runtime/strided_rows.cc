#include "runtime/strided_rows.h"

namespace stator {

std::optional<StridedRows> FindStridedRows(const TensorRef& tensor) {
  StridedRows rows;
  for (int i = tensor.rank() - 1; i-- > 0;) {
    if (tensor.dims[i] == 1) continue;
    if (rows.count == 1) {
      rows.stride = tensor.strides[i];
    } else if (tensor.strides[i] != rows.count * rows.stride) {
      return std::nullopt;
    }
    rows.count *= tensor.dims[i];
  }
  return rows;
}

}  // namespace stator
