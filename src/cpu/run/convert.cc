#include "cpu/run/convert.h"

#include <optional>

#include "ir/op_def.h"
#include "ops/tensor.h"

namespace stator {
namespace {

using dnnl::memory;

// The tensor that lies like this, if it is strided and of a floating type.
std::optional<TensorRef> FindTensor(const memory::desc& desc) {
  bool is_strided =
      desc.get_format_kind() == memory::format_kind::blocked && desc.get_inner_nblks() == 0;
  if (!is_strided) return std::nullopt;
  TensorRef tensor{.dims = desc.get_dims(), .strides = desc.get_strides()};
  switch (desc.get_data_type()) {
    case memory::data_type::f32: tensor.dtype = DType::kFloat32; break;
    case memory::data_type::f16: tensor.dtype = DType::kFloat16; break;
    case memory::data_type::bf16: tensor.dtype = DType::kBFloat16; break;
    default: return std::nullopt;
  }
  return tensor;
}

}  // namespace

std::unique_ptr<PreparedStep> FindConversion(const memory::desc& from, const memory::desc& to) {
  std::optional<TensorRef> x = FindTensor(from), y = FindTensor(to);
  if (!x || !y || (x->dtype == DType::kFloat32) == (y->dtype == DType::kFloat32)) return nullptr;
  Graph body;
  ValueId input =
      body.AddInput("x", {.dtype = x->dtype, .dims = Dims(x->dims.begin(), x->dims.end())});
  NodeId cast = body.AddNode(GetOp("cast"), {input}, {{"dtype", y->dtype}});
  body.SetOutputs(body.node(cast).outputs);
  return PreparePointwise(
      {.step = nullptr, .body = std::move(body), .inputs = {*x}, .outputs = {*y}});
}

}  // namespace stator
