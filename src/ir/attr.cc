#include "ir/attr.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace stator {
namespace {

std::string Quote(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n') {
      quoted += "\\n";
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

constexpr std::string_view kKindNames[] = {"bool", "int", "float", "string", "ints", "dtype"};

auto LowerBound(auto& entries, std::string_view name) {
  return std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const Attrs::Entry& entry, std::string_view key) { return entry.first < key; });
}

}  // namespace

std::string FloatToString(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);  // shortest form that reads back exactly
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string AttrToString(const Attr& attr) {
  struct Printer {
    std::string operator()(bool value) const { return value ? "true" : "false"; }
    std::string operator()(const Dim& value) const { return value.ToString(); }
    std::string operator()(double value) const { return FloatToString(value); }
    std::string operator()(const std::string& value) const { return Quote(value); }
    std::string operator()(const Dims& value) const { return DimsToString(value); }
    std::string operator()(DType value) const { return std::string(DTypeName(value)); }
  };
  return std::visit(Printer{}, attr);
}

std::string_view AttrKindName(const Attr& attr) { return kKindNames[attr.index()]; }

Attrs::Attrs(std::initializer_list<Entry> entries) {
  for (const Entry& entry : entries) Set(entry.first, entry.second);
}

const Attr* Attrs::Find(std::string_view name) const {
  auto it = LowerBound(entries_, name);
  return it != entries_.end() && it->first == name ? &it->second : nullptr;
}

void Attrs::Set(std::string_view name, Attr attr) {
  auto it = LowerBound(entries_, name);
  if (it != entries_.end() && it->first == name) {
    it->second = std::move(attr);
  } else {
    entries_.insert(it, {std::string(name), std::move(attr)});
  }
}

void Attrs::Erase(std::string_view name) {
  auto it = LowerBound(entries_, name);
  if (it != entries_.end() && it->first == name) entries_.erase(it);
}

template <typename T>
const T& Attrs::Get(std::string_view name) const {
  const Attr* attr = Find(name);
  STATOR_CHECK(attr != nullptr, "attribute `{}` is absent from {}", name, ToString());
  const T* value = std::get_if<T>(attr);
  STATOR_CHECK(value != nullptr, "attribute `{}` is a {}", name, AttrKindName(*attr));
  return *value;
}

bool Attrs::GetBool(std::string_view name) const { return Get<bool>(name); }
Dim Attrs::GetDim(std::string_view name) const { return Get<Dim>(name); }
int64_t Attrs::GetInt(std::string_view name) const { return Get<Dim>(name).value(); }
double Attrs::GetFloat(std::string_view name) const { return Get<double>(name); }
const std::string& Attrs::GetString(std::string_view name) const { return Get<std::string>(name); }
const Dims& Attrs::GetDims(std::string_view name) const { return Get<Dims>(name); }
DType Attrs::GetDType(std::string_view name) const { return Get<DType>(name); }

std::vector<int64_t> Attrs::GetInts(std::string_view name) const {
  return EvalDims(GetDims(name), {});
}

std::string Attrs::ToString() const {
  if (entries_.empty()) return "";
  std::string text = "{";
  for (const auto& [name, attr] : entries_) {
    text += (text.size() > 1 ? ", " : "") + name + " = " + AttrToString(attr);
  }
  return text + "}";
}

}  // namespace stator
