// PrepareChoose: kthvalue, median and mode, lines side by side.
#include "cpu/run/chosen_lines.h"
#include "ops/choose.h"

namespace stator {
namespace {

class ChooseStep final : public PreparedStep {
 public:
  explicit ChooseStep(const NodeSite& site)
      : lines_(site, site.node->attrs.GetInt("dim")), chosen_(FindChoice(*site.node)) {
    chosen_.Check(lines_.size());
    lines_.SetScratch(lines_.size() * kChoiceBytes);
  }

  int64_t ws_bytes() const override { return lines_.ws_bytes(); }

  void Run(const StepArgs& args) const override {
    lines_.Run(args, [&](const auto& line) {
      line.Put(0,
               ChooseInLine(chosen_.choice, line.x, line.step, lines_.size(), chosen_.k, line.ws));
    });
  }

 private:
  ChosenLines lines_;
  ChosenElement chosen_;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareChoose(const NodeSite& site) {
  return std::make_unique<ChooseStep>(site);
}

}  // namespace stator
