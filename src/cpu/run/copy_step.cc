// PrepareCopy: strided copies.
#include "cpu/run/step.h"
#include "ops/tensor.h"

namespace stator {
namespace {

class CopyStep final : public PreparedStep {
 public:
  explicit CopyStep(const StepSite& site) : from_(site.inputs[0]), to_(site.outputs[0]) {}

  void Run(const StepArgs& args) const override {
    TensorRef from = from_, to = to_;
    from.data = args.inputs[0];
    to.data = args.outputs[0];
    CopyTensor(from, to);
  }

 private:
  TensorRef from_, to_;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareCopy(const StepSite& site) {
  return std::make_unique<CopyStep>(site);
}

}  // namespace stator
