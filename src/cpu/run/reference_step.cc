// PrepareReference: a step that runs its body node by node with the ops' reference kernels.
//
// The slow and sure way, for what no other step can express. Results are made in tensors of their
// own and then copied to where the outputs lie.
#include "base/error.h"
#include "cpu/run/step.h"
#include "ir/print.h"
#include "ops/evaluate.h"

namespace stator {
namespace {

class ReferenceStep final : public PreparedStep {
 public:
  explicit ReferenceStep(const StepSite& site)
      : body_(site.body), inputs_(site.inputs), outputs_(site.outputs) {}

  void Run(const StepArgs& args) const override {
    std::vector<TensorRef> inputs = inputs_;
    for (size_t i = 0; i < inputs.size(); ++i) inputs[i].data = args.inputs[i];
    std::vector<HostTensor> results = EvaluateGraph(body_, inputs);
    for (size_t i = 0; i < results.size(); ++i) {
      TensorRef output = outputs_[i];
      output.data = args.outputs[i];
      CopyTensor(results[i].ref, output);
    }
  }

 private:
  Graph body_;
  std::vector<TensorRef> inputs_, outputs_;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareReference(const StepSite& site) {
  for (NodeId id : site.body.nodes()) {
    const Node& node = site.body.node(id);
    if (node.body == nullptr && node.op->reference == nullptr) {
      throw Error(ErrorKind::kUnsupported,
                  fmt::format("op `{}` has no reference kernel", node.op->name),
                  DescribeNode(site.body, node));
    }
  }
  return std::make_unique<ReferenceStep>(site);
}

}  // namespace stator
