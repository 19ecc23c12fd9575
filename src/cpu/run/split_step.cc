#include "cpu/run/split_step.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "ops/tensor.h"

namespace stator {
namespace {

constexpr int64_t kAlignment = 64;

class SplitStep final : public PreparedStep {
 public:
  // `between` is the dense tensor that the first step makes and the second one reads.
  SplitStep(std::unique_ptr<PreparedStep> first, std::unique_ptr<PreparedStep> rest,
            BodyPart first_part, BodyPart rest_part, size_t num_inputs, const TensorRef& between)
      : first_(std::move(first)),
        rest_(std::move(rest)),
        first_part_(std::move(first_part)),
        rest_part_(std::move(rest_part)),
        num_inputs_(num_inputs) {
    int64_t bytes = between.num_elements() * static_cast<int64_t>(DTypeSize(between.dtype));
    between_bytes_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  void Run(const StepArgs& args) const override {
    std::byte *between = args.ws, *ws = args.ws + between_bytes_;
    std::span<std::byte* const> inputs(args.inputs, num_inputs_);
    auto first = PickInputs<std::byte*>(first_part_, inputs, between);
    first_->Run({.inputs = first.data(), .outputs = &between, .ws = ws});
    auto rest = PickInputs<std::byte*>(rest_part_, inputs, between);
    rest_->Run({.inputs = rest.data(), .outputs = args.outputs, .ws = ws});
  }

  int64_t ws_bytes() const override {
    return between_bytes_ + std::max(first_->ws_bytes(), rest_->ws_bytes());
  }
  void Pack() override {
    first_->Pack();
    rest_->Pack();
  }
  bool IsPacked() const override { return first_->IsPacked() && rest_->IsPacked(); }
  bool Reads(int input) const override {
    return Reads(*first_, first_part_, input) || Reads(*rest_, rest_part_, input);
  }

 private:
  static bool Reads(const PreparedStep& step, const BodyPart& part, int input) {
    for (size_t i = 0; i < part.inputs.size(); ++i) {
      if (part.inputs[i] == input && step.Reads(static_cast<int>(i))) return true;
    }
    return false;
  }

  std::unique_ptr<PreparedStep> first_, rest_;
  BodyPart first_part_, rest_part_;
  size_t num_inputs_;
  int64_t between_bytes_;
};

}  // namespace

BodyPart MakePart(const Graph& body, size_t first, size_t last) {
  std::vector<NodeId> nodes = body.nodes();
  BodyPart part;
  std::map<ValueId, ValueId> map;
  auto find = [&](ValueId value) {
    if (!value.valid() || map.contains(value)) return value.valid() ? map[value] : value;
    const Value& outer = body.value(value);
    if (outer.kind == ValueKind::kLiteral) {
      return map[value] = part.body.AddLiteral(outer.type, outer.data);
    }
    auto input = std::find(body.inputs().begin(), body.inputs().end(), value);
    part.inputs.push_back(static_cast<int>(input - body.inputs().begin()));
    return map[value] = part.body.AddInput(fmt::format("x{}", part.inputs.size()), outer.type);
  };
  for (size_t i = first; i < last; ++i) {
    const Node& node = body.node(nodes[i]);
    std::vector<ValueId> inputs;
    for (ValueId input : node.inputs) inputs.push_back(find(input));
    NodeId copy = part.body.AddNodeWithTypes(*node.op, std::move(inputs), node.attrs,
                                             {body.type(node.outputs[0])}, node.origin);
    map[node.outputs[0]] = part.body.node(copy).outputs[0];
  }
  part.body.SetOutputs({map[body.node(nodes[last - 1]).outputs[0]]});
  return part;
}

std::unique_ptr<PreparedStep> FindSplit(
    const StepSite& site,
    const std::function<std::unique_ptr<PreparedStep>(const StepSite&)>& find) {
  size_t num_nodes = site.body.nodes().size();
  if (num_nodes < 2) return nullptr;
  BodyPart first = MakePart(site.body, 0, 1), rest = MakePart(site.body, 1, num_nodes);
  TensorRef between = site.outputs[0];  // the chain is pointwise: the same dims throughout
  between.dtype = first.body.type(first.body.outputs()[0]).dtype;
  between.strides = DenseStrides(between.dims);
  StepSite first_site{.step = site.step,
                      .body = first.body,
                      .inputs = PickInputs<TensorRef>(first, site.inputs, between),
                      .outputs = {between},
                      .copies = site.copies};
  std::unique_ptr<PreparedStep> first_step = find(first_site);
  if (!first_step) return nullptr;
  StepSite rest_site{.step = site.step,
                     .body = rest.body,
                     .inputs = PickInputs<TensorRef>(rest, site.inputs, between),
                     .outputs = site.outputs,
                     .copies = site.copies};
  return std::make_unique<SplitStep>(std::move(first_step), PreparePointwise(rest_site),
                                     std::move(first), std::move(rest), site.inputs.size(),
                                     between);
}

}  // namespace stator
