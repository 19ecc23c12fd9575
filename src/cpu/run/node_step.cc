#include "cpu/run/node_step.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "base/error.h"
#include "ops/tensor.h"

namespace stator {
namespace {

using PrepareFn = std::unique_ptr<PreparedStep> (*)(const NodeSite& site);

const std::map<std::string_view, PrepareFn> kKernels = {
    {"argmax", PrepareSearch},        {"argmin", PrepareSearch},     {"cummax", PrepareScan},
    {"cummin", PrepareScan},          {"cumprod", PrepareScan},      {"cumsum", PrepareScan},
    {"embedding_bag", PrepareBag},    {"flip", PrepareMap},          {"gather", PrepareLines},
    {"group_norm", PrepareGroupNorm}, {"index", PrepareIndexed},     {"index_put", PrepareIndexed},
    {"kthvalue", PrepareChoose},      {"median", PrepareChoose},     {"mode", PrepareChoose},
    {"log_softmax", PrepareSoftmax},  {"logcumsumexp", PrepareScan}, {"pad", PrepareMap},
    {"scatter", PrepareLines},        {"softmax", PrepareSoftmax},   {"sort", PrepareOrder},
    {"topk", PrepareOrder},           {"tril", PrepareMap},          {"triu", PrepareMap},
};

// Empty unless the body is one node that reads its inputs and numbers alone.
std::optional<NodeSite> FindNode(const StepSite& site) {
  std::vector<NodeId> nodes = site.body.nodes();
  if (nodes.size() != 1) return std::nullopt;
  NodeSite found{.node = &site.body.node(nodes[0]), .inputs = {}, .outputs = {}, .origin = {}};
  if (site.step != nullptr) found.origin = site.step->origin;
  std::span<const ValueId> inputs = site.body.inputs();
  for (ValueId id : found.node->inputs) {
    NodeInput input;
    if (id.valid()) {
      auto it = std::ranges::find(inputs, id);
      input.present = true;
      if (it != inputs.end()) {
        input.position = static_cast<int>(it - inputs.begin());
        input.ref = site.inputs[input.position];
      } else {
        const Value& value = site.body.value(id);
        size_t size = DTypeSize(value.type.dtype);
        if (value.kind != ValueKind::kLiteral || value.data.size != size) return std::nullopt;
        std::memcpy(input.number.data(), value.data.bytes, size);
        input.ref = {.data = nullptr,
                     .dtype = value.type.dtype,
                     .dims = EvalDims(value.type.dims, {}),
                     .strides = Sizes(value.type.rank(), 0)};
      }
      input.ref.data = nullptr;
    }
    found.inputs.push_back(std::move(input));
  }
  std::span<const ValueId> outputs = site.body.outputs();
  for (ValueId id : found.node->outputs) {
    const TensorType& type = site.body.type(id);
    NodeOutput output{.ref = {.dtype = type.dtype, .dims = EvalDims(type.dims, {})}};
    auto it = std::ranges::find(outputs, id);
    if (it != outputs.end()) {
      output.position = static_cast<int>(it - outputs.begin());
      output.ref = site.outputs[output.position];
    }
    found.outputs.push_back(std::move(output));
  }
  bool is_all = std::ranges::all_of(outputs, [&](ValueId id) {
    return std::ranges::count(found.node->outputs, id) == 1 && std::ranges::count(outputs, id) == 1;
  });
  return is_all ? std::optional(std::move(found)) : std::nullopt;
}

// What runs when no output has elements.
class NoStep final : public PreparedStep {
 public:
  void Run(const StepArgs&) const override {}
};

}  // namespace

bool HasNodeKernel(std::string_view op) { return kKernels.contains(op); }

std::unique_ptr<PreparedStep> PrepareNode(const StepSite& site) {
  std::optional<NodeSite> found = FindNode(site);
  auto kernel = found ? kKernels.find(found->node->op->name) : kKernels.end();
  if (kernel == kKernels.end()) return PrepareReference(site);
  bool is_empty = std::ranges::all_of(
      found->outputs, [](const NodeOutput& output) { return output.ref.num_elements() == 0; });
  if (is_empty) return std::make_unique<NoStep>();
  try {
    return kernel->second(*found);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    return PrepareReference(site);
  }
}

}  // namespace stator
