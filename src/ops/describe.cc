#include "ops/describe.h"

#include <cmath>

#include <fmt/format.h>

#include "ir/op_def.h"
#include "ir/print.h"
#include "ops/samples.h"

namespace stator {
namespace {

std::string Quote(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n') {
      quoted += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", c);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

template <typename Items, typename Fn>
std::string List(const Items& items, Fn&& to_json) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() > 1 ? ", " : "") + to_json(item);
  return text + "]";
}

std::string AttrToJson(const Attr& attr) {
  struct Writer {
    std::string operator()(bool value) const { return value ? "true" : "false"; }
    std::string operator()(const Dim& value) const {
      return value.is_static() ? value.ToString() : Quote(value.ToString());
    }
    std::string operator()(double value) const {
      return std::isfinite(value) ? FloatToString(value) : Quote(FloatToString(value));
    }
    std::string operator()(const std::string& value) const { return Quote(value); }
    std::string operator()(const Dims& value) const { return List(value, *this); }
    std::string operator()(DType value) const { return Quote(DTypeName(value)); }
  };
  return std::visit(Writer{}, attr);
}

std::vector<std::string_view> TraitNames(const OpDef& op) {
  constexpr std::pair<Trait, std::string_view> kNames[] = {
      {kPointwise, "pointwise"}, {kCommutative, "commutative"}, {kView, "view"},
      {kReduction, "reduction"}, {kRowwise, "rowwise"},         {kOpaque, "opaque"},
      {kKernel, "kernel"},       {kStructured, "structured"}};
  std::vector<std::string_view> names;
  for (const auto& [trait, name] : kNames) {
    if (op.Is(trait)) names.push_back(name);
  }
  return names;
}

std::string SampleToJson(const SampleCase& sample) {
  auto type = [](const TensorType& type) { return Quote(type.ToString()); };
  return fmt::format(
      R"({{"dtype": {}, "inputs": {}, "attrs": {}, "outputs": {}, "low": {}, "high": {}, "ir": {}}})",
      sample.dtype ? Quote(DTypeName(*sample.dtype)) : "null",
      List(sample.inputs, [&](const auto& input) { return input ? type(*input) : "null"; }),
      AttrsToJson(sample.attrs), List(sample.outputs, type), sample.low, sample.high,
      Quote(PrintGraph(MakeSampleGraph(sample))));
}

std::string AttrDefToJson(const AttrDef& def) {
  constexpr std::string_view kKinds[] = {"bool", "int", "float", "string", "ints", "dtype"};
  return fmt::format(R"({{"name": {}, "kind": {}, "required": {}, "doc": {}}})", Quote(def.name),
                     Quote(kKinds[def.kind]), def.required, Quote(def.doc));
}

std::string RowToJson(const OpDef& op) {
  return fmt::format(
      R"({{"id": {}, "name": {}, "min_inputs": {}, "max_inputs": {}, "traits": {}, "attrs": {}, )"
      R"("aten": {}, "scalar_body": {}, "decomposes": {}, "rtol": {}, "atol": {}, "torch": {}, )"
      R"("doc": {}, "samples": {}}})",
      op.id, Quote(op.name), op.min_inputs, op.max_inputs, List(TraitNames(op), Quote),
      List(op.attrs, AttrDefToJson), List(op.aten, Quote), Quote(op.scalar_body),
      op.decompose != nullptr, op.tolerance.rtol, op.tolerance.atol, Quote(op.torch), Quote(op.doc),
      List(ExpandSamples(op), SampleToJson));
}

}  // namespace

std::string AttrsToJson(const Attrs& attrs) {
  std::string text = "{";
  for (const auto& [name, attr] : attrs) {
    text += (text.size() > 1 ? ", " : "") + Quote(name) + ": " + AttrToJson(attr);
  }
  return text + "}";
}

std::string OpTableToJson() {
  return List(AllOps(), [](const OpDef* op) { return RowToJson(*op); });
}

}  // namespace stator
