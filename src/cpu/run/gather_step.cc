// PrepareGather: embedding and index_select, as copies of contiguous runs.
#include <algorithm>
#include <cstring>

#include "cpu/run/parallel.h"
#include "cpu/run/step.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// y[outer, i, inner] = x[outer, index[i], inner], where `inner` elements are contiguous in both.
struct GatherShape {
  int64_t num_outer = 1, x_outer_stride = 0, y_outer_stride = 0;
  int64_t num_indices = 1, index_stride = 1;
  int64_t num_rows = 1, x_row_stride = 0, y_row_stride = 0;  // of the dim that is indexed
  int64_t inner_bytes = 0;
  size_t dim = 0;  // that is indexed, for errors
};

class GatherStep final : public PreparedStep {
 public:
  GatherStep(const StepSite& site, GatherShape shape, bool is_i32)
      : shape_(shape), is_i32_(is_i32), element_size_(DTypeSize(site.outputs[0].dtype)) {
    if (site.step != nullptr) origin_ = site.step->origin;
    int64_t num_bytes = shape.num_outer * shape.num_indices * shape.inner_bytes;
    constexpr int64_t kMinBytes = 256 * 1024;  // of a copy worth a parallel region
    is_parallel_ = num_bytes >= kMinBytes;
  }

  void Run(const StepArgs& args) const override {
    CheckIndices(args.inputs[1]);
    int64_t num_copies = shape_.num_outer * shape_.num_indices;
    if (!is_parallel_) return Copy(args, 0, num_copies);
    ParallelFor(num_copies, [&](int64_t begin, int64_t end) { Copy(args, begin, end); });
  }

 private:
  int64_t IndexAt(const std::byte* indices, int64_t i) const {
    int64_t at = i * shape_.index_stride;
    return is_i32_ ? reinterpret_cast<const int32_t*>(indices)[at]
                   : reinterpret_cast<const int64_t*>(indices)[at];
  }

  void CheckIndices(const std::byte* indices) const {
    for (int64_t i = 0; i < shape_.num_indices; ++i) {
      int64_t index = IndexAt(indices, i);
      if (index >= 0 && index < shape_.num_rows) continue;
      throw Error(ErrorKind::kInvalidArgument,
                  fmt::format("index {} is out of bounds for dimension {} with size {}", index,
                              shape_.dim, shape_.num_rows),
                  origin_);
    }
  }

  void Copy(const StepArgs& args, int64_t begin, int64_t end) const {
    auto bytes = [&](int64_t elements) { return elements * static_cast<int64_t>(element_size_); };
    for (int64_t i = begin; i < end; ++i) {
      int64_t outer = i / shape_.num_indices, position = i % shape_.num_indices;
      int64_t from =
          outer * shape_.x_outer_stride + IndexAt(args.inputs[1], position) * shape_.x_row_stride;
      int64_t to = outer * shape_.y_outer_stride + position * shape_.y_row_stride;
      std::memcpy(args.outputs[0] + bytes(to), args.inputs[0] + bytes(from), shape_.inner_bytes);
    }
  }

  GatherShape shape_;
  bool is_i32_;
  size_t element_size_;
  std::string origin_;
  bool is_parallel_;
};

// The stride between elements of dims [first, last) seen as one dim; empty when they are no such
// dim. 0 for no dims or a single element.
std::optional<int64_t> FindStride(const TensorRef& tensor, size_t first, size_t last) {
  std::optional<int64_t> stride;
  int64_t next = 0;
  for (size_t i = last; i-- > first;) {
    if (tensor.dims[i] == 1) continue;
    if (stride && tensor.strides[i] != next) return std::nullopt;
    if (!stride) stride = tensor.strides[i];
    next = tensor.strides[i] * tensor.dims[i];
  }
  return stride.value_or(0);
}

int64_t CountOf(const TensorRef& tensor, size_t first, size_t last) {
  int64_t count = 1;
  for (size_t i = first; i < last; ++i) count *= tensor.dims[i];
  return count;
}

// Empty when the operands are not made of contiguous runs. `dim` is the indexed dim of x; in y,
// `num_index_dims` dims stand in its place.
std::optional<GatherShape> FindShape(const TensorRef& x, const TensorRef& index, const TensorRef& y,
                                     size_t dim, size_t num_index_dims) {
  size_t x_rank = x.dims.size(), y_rank = y.dims.size();
  auto x_outer = FindStride(x, 0, dim), y_outer = FindStride(y, 0, dim);
  auto x_inner = FindStride(x, dim + 1, x_rank);
  auto y_inner = FindStride(y, dim + num_index_dims, y_rank);
  auto y_row = FindStride(y, dim, dim + num_index_dims);
  auto index_stride = FindStride(index, 0, index.dims.size());
  int64_t num_inner = CountOf(x, dim + 1, x_rank);
  bool is_run = num_inner == 1 || (x_inner == 1 && y_inner == 1);
  if (!x_outer || !y_outer || !y_row || !index_stride || !is_run) return std::nullopt;
  return GatherShape{.num_outer = CountOf(x, 0, dim),
                     .x_outer_stride = *x_outer,
                     .y_outer_stride = *y_outer,
                     .num_indices = index.num_elements(),
                     .index_stride = *index_stride,
                     .num_rows = x.dims[dim],
                     .x_row_stride = x.strides[dim],
                     .y_row_stride = *y_row,
                     .inner_bytes = num_inner * static_cast<int64_t>(DTypeSize(x.dtype)),
                     .dim = dim};
}

}  // namespace

std::unique_ptr<PreparedStep> PrepareGather(const StepSite& site) {
  std::vector<NodeId> nodes = site.body.nodes();
  if (nodes.size() != 1) return PrepareReference(site);
  const Node& node = site.body.node(nodes[0]);
  bool is_embedding = node.op->name == "embedding";
  bool in_order = site.inputs.size() == 2 && node.inputs[0] == site.body.inputs()[0] &&
                  node.inputs[1] == site.body.inputs()[1];
  if (!in_order || !(is_embedding || node.op->name == "index_select"))
    return PrepareReference(site);
  const TensorRef &x = site.inputs[0], &index = site.inputs[1];
  size_t dim = is_embedding ? 0 : node.attrs.GetInt("dim");
  std::optional<GatherShape> shape =
      FindShape(x, index, site.outputs[0], dim, is_embedding ? index.dims.size() : 1);
  if (!shape) return PrepareReference(site);
  return std::make_unique<GatherStep>(site, *shape, index.dtype == DType::kInt32);
}

}  // namespace stator
