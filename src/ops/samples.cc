#include "ops/samples.h"

#include <string>

#include "base/error.h"
#include "ir/parse.h"

namespace stator {
namespace {

// Replaces "_" where a dtype stands: before "[" and after "= ".
std::string FillPlaceholder(std::string_view text, std::string_view dtype, bool& found) {
  std::string filled;
  for (size_t i = 0; i < text.size(); ++i) {
    bool before_dims = i + 1 < text.size() && text[i + 1] == '[';
    bool after_equals = i >= 2 && text.substr(i - 2, 2) == "= ";
    if (text[i] == '_' && (before_dims || after_equals)) {
      filled += dtype;
      found = true;
    } else {
      filled += text[i];
    }
  }
  return filled;
}

std::vector<std::optional<TensorType>> ParseInputs(std::string_view text) {
  std::vector<std::optional<TensorType>> inputs;
  while (!text.empty()) {
    size_t end = 0;
    for (int depth = 0; end < text.size() && (text[end] != ',' || depth > 0); ++end) {
      depth += (text[end] == '[') - (text[end] == ']');
    }
    std::string_view item = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    item.remove_prefix(std::min(item.find_first_not_of(' '), item.size()));
    inputs.push_back(item == "none" ? std::nullopt : std::optional(ParseType(item)));
  }
  return inputs;
}

SampleCase MakeCase(const OpDef& op, const OpSample& sample, std::string_view dtype, bool& found) {
  SampleCase made{.op = &op, .low = sample.low, .high = sample.high};
  made.inputs = ParseInputs(FillPlaceholder(sample.inputs, dtype, found));
  made.attrs = ParseAttrs(FillPlaceholder(sample.attrs, dtype, found));
  if (found) made.dtype = FindDType(dtype);
  std::vector<const TensorType*> types;
  for (const auto& input : made.inputs) types.push_back(input ? &*input : nullptr);
  CheckSchema(op, types.size(), made.attrs);
  made.outputs = op.infer({.inputs = types, .attrs = made.attrs});
  return made;
}

}  // namespace

std::vector<SampleCase> ExpandSamples(const OpDef& op) {
  std::vector<SampleCase> cases;
  for (const OpSample& sample : op.samples) {
    size_t num_before = cases.size();
    for (int i = 0; i < kNumDTypes; ++i) {
      bool found = false;
      try {
        cases.push_back(MakeCase(op, sample, DTypeName(static_cast<DType>(i)), found));
      } catch (const Error& error) {
        if (!found) throw;
      }
      if (!found) break;
    }
    if (cases.size() == num_before) {
      Fail(ErrorKind::kInvalidArgument, "op `{}` rejects its sample ({}) {} for every dtype",
           op.name, sample.inputs, sample.attrs);
    }
  }
  return cases;
}

Graph MakeSampleGraph(const SampleCase& sample) {
  Graph graph;
  graph.name = std::string(sample.op->name);
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    inputs.push_back(sample.inputs[i] ? graph.AddInput(fmt::format("x{}", i), *sample.inputs[i])
                                      : ValueId{});
  }
  NodeId node = graph.AddNode(*sample.op, std::move(inputs), sample.attrs);
  graph.SetOutputs(graph.node(node).outputs);
  return graph;
}

}  // namespace stator
