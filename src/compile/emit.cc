#include "compile/emit.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "ir/print.h"

namespace stator {
namespace {

class Emitter {
 public:
  Emitter(Placement placement, const std::vector<Tactic>& tactics)
      : placement_(std::move(placement)), tactics_(tactics) {}

  Plan Run() {
    plan_.inputs = std::move(placement_.inputs);
    plan_.outputs = std::move(placement_.outputs);
    plan_.weights = std::move(placement_.weights);
    plan_.literals = std::move(placement_.literals);
    for (const Dim& bytes : placement_.derived_bytes) plan_.derived.push_back({.bytes = bytes});
    for (const Dim& bytes : placement_.arena_bytes) plan_.arena.push_back({.bytes = bytes});
    for (const PlacedStep& step : placement_.prologue) plan_.prologue.push_back(MakeStep(step));
    for (const PlacedStep& step : placement_.steps) plan_.steps.push_back(MakeStep(step));
    STATOR_CHECK(next_tactic_ == tactics_.size(), "{} tactics for {} kernels", tactics_.size(),
                 next_tactic_);
    FindLifetimes();
    return std::move(plan_);
  }

 private:
  Step MakeStep(const PlacedStep& placed) {
    Step step{.kind = StepKind::kCopy, .attrs = {}, .body = {}, .origin = placed.origin.ToString()};
    for (const PlanTensor& tensor : placed.inputs) step.inputs.push_back(AddTensor(tensor));
    for (const PlanTensor& tensor : placed.outputs) step.outputs.push_back(AddTensor(tensor));
    if (placed.kernel == nullptr) return step;
    STATOR_CHECK(next_tactic_ < tactics_.size(), "a kernel has no tactic");
    const Tactic& tactic = tactics_[next_tactic_++];
    step.kind = tactic.kind;
    step.attrs = tactic.attrs;
    step.body = PrintGraph(*placed.kernel->body, {.origins = false, .literal_bytes = true});
    return step;
  }

  // Equal windows are one tensor.
  int AddTensor(const PlanTensor& tensor) {
    std::string key =
        fmt::format("{} {} {} {} {} {}", static_cast<int>(tensor.storage), tensor.index,
                    tensor.offset.ToString(), static_cast<int>(tensor.dtype),
                    DimsToString(tensor.dims), DimsToString(tensor.strides));
    auto [it, inserted] = tensor_ids_.emplace(key, static_cast<int>(plan_.tensors.size()));
    if (inserted) plan_.tensors.push_back(tensor);
    return it->second;
  }

  // An arena buffer lives from the first step that touches it to the last.
  void FindLifetimes() {
    std::vector<bool> seen(plan_.arena.size(), false);
    for (size_t i = 0; i < plan_.steps.size(); ++i) {
      auto touch = [&](int tensor) {
        if (tensor < 0 || plan_.tensors[tensor].storage != StorageKind::kArena) return;
        PlanBuffer& buffer = plan_.arena[plan_.tensors[tensor].index];
        if (!seen[plan_.tensors[tensor].index]) buffer.first_step = static_cast<int>(i);
        seen[plan_.tensors[tensor].index] = true;
        buffer.last_step = static_cast<int>(i);
      };
      for (int tensor : plan_.steps[i].inputs) touch(tensor);
      for (int tensor : plan_.steps[i].outputs) touch(tensor);
    }
  }

  Placement placement_;
  const std::vector<Tactic>& tactics_;
  size_t next_tactic_ = 0;
  std::map<std::string, int> tensor_ids_;
  Plan plan_;
};

}  // namespace

Plan Emit(const Graph& kernels, Placement placement, const std::vector<Tactic>& tactics,
          std::string target) {
  Plan plan = Emitter(std::move(placement), tactics).Run();
  plan.name = kernels.name;
  plan.target = std::move(target);
  plan.symbols = kernels.symbols;
  CheckPlan(plan);
  return plan;
}

}  // namespace stator
