#include "import/schema/metadata.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"

namespace stator {
namespace {

std::string DeviceName(const schema::TensorMeta& meta) {
  return meta.device_index > 0 ? fmt::format("{}:{}", meta.device, meta.device_index) : meta.device;
}

}  // namespace

const schema::TensorMeta& Metadata::Get(const std::string& name) const {
  auto it = graph_.tensors.find(name);
  if (it == graph_.tensors.end()) {
    Fail(ErrorKind::kCorruptFile, "tensor `{}` has no entry in tensor_values", name);
  }
  return it->second;
}

std::string Metadata::FindReason(const std::string& name) const {
  const schema::TensorMeta& meta = Get(name);
  if (!schema::FindScalarType(meta.scalar_type)) {
    return "dtype " + schema::ScalarTypeName(meta.scalar_type);
  }
  if (meta.layout != schema::kStridedLayout) return "a tensor that is not strided";
  for (const schema::SymInt& size : meta.sizes) {
    if (!size.unknown.empty()) return "the size " + size.unknown;
  }
  if (meta.device != "cpu" && meta.device != "cuda") return "a tensor on device " + meta.device;
  if (DeviceName(meta) != device_) {
    return "a tensor on " + DeviceName(meta) + " in a program on " + device_;
  }
  return {};
}

TensorType Metadata::GetType(const std::string& name) const {
  const schema::TensorMeta& meta = Get(name);
  TensorType type;
  std::optional<DType> dtype = schema::FindScalarType(meta.scalar_type);
  type.dtype = dtype.value_or(DType::kUInt8);
  for (const schema::SymInt& size : meta.sizes) {
    type.dims.push_back(size.unknown.empty() ? size.dim : Dim(0));
  }
  if (!dtype) type.dims.push_back(Dim(schema::ScalarTypeSize(meta.scalar_type)));
  return type;
}

std::optional<DimOrder> Metadata::FindOrder(const std::string& name) const {
  const schema::TensorMeta& meta = Get(name);
  if (meta.strides.size() != meta.sizes.size()) return {};
  std::vector<int64_t> strides;
  DimOrder order, ones;  // a dim of size 1 may lie anywhere
  for (size_t i = 0; i < meta.sizes.size(); ++i) {
    const schema::SymInt& stride = meta.strides[i];
    if (!stride.unknown.empty() || !meta.sizes[i].unknown.empty()) return {};
    if (!stride.dim.is_static() && !stride.hint) return {};
    strides.push_back(stride.dim.is_static() ? stride.dim.value() : *stride.hint);
    (meta.sizes[i].dim == Dim(1) ? ones : order).push_back(static_cast<int>(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return strides[a] > strides[b]; });
  Dim expected = 1;
  for (size_t i = order.size(); i-- > 0;) {
    if (!(meta.strides[order[i]].dim == expected)) return {};
    expected = expected * meta.sizes[order[i]].dim;
  }
  for (int one : ones) {
    auto next = std::find_if(order.begin(), order.end(), [&](int dim) { return dim > one; });
    order.insert(next, one);
  }
  return CanonicalOrder(order);
}

// The device of most inputs; without inputs that of the first tensors that nodes make.
std::string Metadata::FindMainDevice() const {
  std::map<std::string, int> counts;
  auto count = [&](const std::string& name) { ++counts[DeviceName(Get(name))]; };
  for (const schema::Argument& input : graph_.inputs) schema::ForEachTensor(input, count);
  for (const schema::Node& node : graph_.nodes) {
    if (!counts.empty()) break;
    for (const schema::Argument& output : node.outputs) schema::ForEachTensor(output, count);
  }
  auto most = std::max_element(counts.begin(), counts.end(),
                               [](auto& a, auto& b) { return a.second < b.second; });
  return most == counts.end() ? "cpu" : most->first;
}

}  // namespace stator
