// The text form of a plan, for people and for tests.
//
//   plan "mlp" version 1 target "cpu"
//   symbol s0 in [1, 64]
//   input 0 = "x" f32[s0, 3] strides [3, 1]
//   output 0 = "y" f32[s0, 3] strides [3, 1]
//   weight 0 = "fc.weight" f32[3] hex "0000803f0000803f0000803f"
//   literal 0 = 4096 bytes hash "99aa06d3014798d86001c324468d497f"
//   code 0 = "sm_90a" "relu_0" 4096 bytes hash "99aa06d3014798d86001c324468d497f"
//   derived 0 = 12 bytes, steps 0 to 0
//   arena 0 = 12*s0 bytes, steps 0 to 1
//   tensor 0 = input 0 + 0 : f32[s0, 3] strides [3, 1]
//   prologue 0 = pointwise(1) -> (2) from "exp · mlp.py:3" {}
//     graph @body(...) { ... }
//   step 0 = pointwise(0, 2) -> (3) from "" {tile = 64}
//     graph @body(...) { ... }
//
// Lines come in this order, items numbered from 0. A body is indented by two spaces. The first line
// ends in `aux_streams 2` where there are some.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/hash.h"
#include "plan/plan.h"

namespace stator {
namespace {

constexpr size_t kMaxShownBytes = 64;

std::string Quote(const std::string& text) { return AttrToString(text); }

std::string TypeToText(DType dtype, const Dims& dims, const Dims& strides) {
  return fmt::format("{}{} strides {}", DTypeName(dtype), DimsToString(dims),
                     DimsToString(strides));
}

// `hex "00ff"`, `1024 bytes hash "..."`, or `1024 bytes` when the host has no data.
std::string LiteralToText(const ConstantData& data) {
  if (data.bytes == nullptr || data.device != ConstantData::kHost) {
    return fmt::format("{} bytes", data.size);
  }
  if (data.size > kMaxShownBytes) {
    return fmt::format("{} bytes hash \"{}\"", data.size,
                       Hash128(data.bytes, data.size).ToString());
  }
  std::string text = "hex \"";
  for (size_t i = 0; i < data.size; ++i) {
    text += fmt::format("{:02x}", static_cast<unsigned>(data.bytes[i]));
  }
  return text + "\"";
}

std::string PortToText(const PlanPort& port) {
  return Quote(port.name) + " " + TypeToText(port.dtype, port.dims, port.strides);
}

std::string WeightToText(const PlanWeight& weight) {
  Dims dims(weight.dims.begin(), weight.dims.end());
  return fmt::format("{} {}{} {}", Quote(weight.name), DTypeName(weight.dtype), DimsToString(dims),
                     LiteralToText(weight.data));
}

std::string CodeToText(const PlanCode& code) {
  return fmt::format("{} {} {}", Quote(code.arch), Quote(code.entry), LiteralToText(code.binary));
}

std::string BufferToText(const PlanBuffer& buffer) {
  return fmt::format("{} bytes, steps {} to {}", buffer.bytes.ToString(), buffer.first_step,
                     buffer.last_step);
}

std::string TensorToText(const PlanTensor& tensor) {
  return fmt::format("{} {} + {} : {}", StorageKindName(tensor.storage), tensor.index,
                     tensor.offset.ToString(),
                     TypeToText(tensor.dtype, tensor.dims, tensor.strides));
}

std::string StepToText(const Step& step) {
  std::string attrs = step.attrs.ToString();
  std::string text = fmt::format("{}({}) -> ({}) from {} {}", StepKindName(step.kind),
                                 fmt::join(step.inputs, ", "), fmt::join(step.outputs, ", "),
                                 Quote(step.origin), attrs.empty() ? "{}" : attrs);
  for (size_t start = 0; start < step.body.size();) {
    size_t end = std::min(step.body.find('\n', start), step.body.size());
    text += "\n  " + step.body.substr(start, end - start);
    start = end + 1;
  }
  return text;
}

template <typename T, typename Fn>
void AppendItems(std::string& text, std::string_view what, const std::vector<T>& items,
                 Fn&& item_to_text) {
  for (size_t i = 0; i < items.size(); ++i) {
    text += fmt::format("{} {} = {}\n", what, i, item_to_text(items[i]));
  }
}

}  // namespace

std::string PlanToText(const Plan& plan) {
  std::string text = fmt::format("plan {} version {} target {}", Quote(plan.name), kPlanVersion,
                                 Quote(plan.target));
  if (plan.aux_streams > 0) text += fmt::format(" aux_streams {}", plan.aux_streams);
  text += "\n";
  for (const SymbolRange& symbol : plan.symbols) {
    text += fmt::format("symbol {} in [{}, {}]\n", symbol.name, symbol.min, symbol.max);
  }
  AppendItems(text, "input", plan.inputs, PortToText);
  AppendItems(text, "output", plan.outputs, PortToText);
  AppendItems(text, "weight", plan.weights, WeightToText);
  AppendItems(text, "literal", plan.literals, LiteralToText);
  AppendItems(text, "code", plan.code, CodeToText);
  AppendItems(text, "derived", plan.derived, BufferToText);
  AppendItems(text, "arena", plan.arena, BufferToText);
  AppendItems(text, "tensor", plan.tensors, TensorToText);
  AppendItems(text, "prologue", plan.prologue, StepToText);
  AppendItems(text, "step", plan.steps, StepToText);
  return text;
}

}  // namespace stator
