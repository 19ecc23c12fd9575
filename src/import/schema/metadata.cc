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
