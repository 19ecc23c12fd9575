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

std::unique_ptr<PreparedStep> MakeSplit(const StepSite& site, size_t at, const PrepareFn& first,
                                        const PrepareFn& rest) {
  BodyPart first_part = MakePart(site.body, 0, at);
  BodyPart rest_part = MakePart(site.body, at, site.body.nodes().size());
  const TensorType& type = first_part.body.type(first_part.body.outputs()[0]);
  TensorRef between{.dtype = type.dtype, .dims = EvalDims(type.dims, {})};
  between.strides = DenseStrides(between.dims);
  auto make_site = [&](const BodyPart& part, const TensorRef& output) {
    return StepSite{.step = site.step,
                    .body = part.body,
                    .inputs = PickInputs<TensorRef>(part, site.inputs, between),
                    .outputs = {output},
                    .copies = site.copies};
  };
  std::unique_ptr<PreparedStep> first_step = first(make_site(first_part, between));
  if (!first_step) return nullptr;
  std::unique_ptr<PreparedStep> rest_step = rest(make_site(rest_part, site.outputs[0]));
  return std::make_unique<SplitStep>(std::move(first_step), std::move(rest_step),
                                     std::move(first_part), std::move(rest_part),
                                     site.inputs.size(), between);
}

std::unique_ptr<PreparedStep> FindSplit(const StepSite& site, const PrepareFn& find) {
  if (site.body.nodes().size() < 2) return nullptr;
  return MakeSplit(site, 1, find, PreparePointwise);
}

}  // namespace stator
