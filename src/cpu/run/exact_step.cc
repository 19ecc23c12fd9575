#include "cpu/run/exact_step.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "base/error.h"
#include "cpu/run/parallel.h"
#include "cpu/run/split_step.h"
#include "runtime/buffer.h"

namespace stator {
namespace {

// Clears the flag of the calling thread and returns whether it was set.
bool TakeInvalidFlag() {
#if defined(__x86_64__)
  unsigned state = _mm_getcsr();
  if ((state & _MM_EXCEPT_INVALID) == 0) return false;
  _mm_setcsr(state & ~_MM_EXCEPT_INVALID);
  return true;
#else
  return false;
#endif
}

bool TakeInvalidFlags() {
  std::atomic<bool> any = TakeInvalidFlag();  // in RunInOneRegion oneDNN ran on this thread alone
  ParallelFor(NumThreads(), [&](int64_t, int64_t) {
    if (TakeInvalidFlag()) any.store(true, std::memory_order_relaxed);
  });
  return any;
}

class ExactStep final : public PreparedStep {
 public:
  ExactStep(std::unique_ptr<OneDnnStep> fused, Fusion fusion, const StepSite& site,
            size_t first_node)
      : fused_(std::move(fused)),
        fusion_(std::move(fusion)),
        site_(site),
        epilogue_(MakePart(site.body, first_node, site.body.nodes().size())) {}

  void Run(const StepArgs& args) const override {
    fused_->Run(args);
    if (!TakeInvalidFlags()) return;
    fused_->Run(args);  // the flag may have been up before
    if (TakeInvalidFlags()) RunApart(args);
  }

  int64_t ws_bytes() const override { return fused_->ws_bytes(); }
  void Pack() override { fused_->Pack(); }
  bool IsPacked() const override { return fused_->IsPacked(); }
  bool Reads(int input) const override {
    return fused_->Reads(input) ||
           std::count(epilogue_.inputs.begin(), epilogue_.inputs.end(), input);
  }

 private:
  // The operation alone into memory of its own, laid out as the output; then the post-ops.
  void RunApart(const StepArgs& args) const {
    TensorRef between = site_.outputs[0];
    int64_t elements = 1;
    for (int i = 0; i < between.rank(); ++i) elements += (between.dims[i] - 1) * between.strides[i];
    DeviceBuffer memory(CpuDevice(), elements * static_cast<int64_t>(DTypeSize(between.dtype)));
    std::byte* output = memory.data();

    std::vector<std::byte*> inputs(args.inputs, args.inputs + site_.inputs.size());
    std::unique_ptr<OneDnnStep> operation = MakeOperation(inputs);
    operation->Pack();
    DeviceBuffer operation_ws(CpuDevice(), operation->ws_bytes());
    operation->Run({.inputs = inputs.data(), .outputs = &output, .ws = operation_ws.data()});

    StepSite site{.step = site_.step,
                  .body = epilogue_.body,
                  .inputs = PickInputs<TensorRef>(epilogue_, site_.inputs, between),
                  .outputs = site_.outputs};
    std::span<std::byte* const> given(args.inputs, site_.inputs.size());
    auto operands = PickInputs<std::byte*>(epilogue_, given, output);
    std::unique_ptr<PreparedStep> epilogue = PreparePointwise(site);
    DeviceBuffer epilogue_ws(CpuDevice(), epilogue->ws_bytes());
    epilogue->Run({.inputs = operands.data(), .outputs = args.outputs, .ws = epilogue_ws.data()});
  }

  // Constants that the fused step has packed are read from there, as further inputs: where they
  // lay they may be gone.
  std::unique_ptr<OneDnnStep> MakeOperation(std::vector<std::byte*>& inputs) const {
    auto read_packed = [&](size_t term, std::vector<Argument>& arguments) {
      for (Argument& argument : arguments) {
        std::optional<dnnl::memory> packed = fused_->FindPacked(term, argument.arg);
        if (!packed) continue;
        auto* data = static_cast<std::byte*>(packed->get_data_handle());
        argument.operand = {.role = Operand::kInput,
                            .index = static_cast<int>(inputs.size()),
                            .constant = data,
                            .given = packed->get_desc()};
        inputs.push_back(data);
      }
    };
    Fusion fusion{.make = fusion_.make,
                  .weights = fusion_.weights,
                  .arguments = fusion_.arguments,
                  .terms = fusion_.terms};
    if (!fusion.terms.empty()) fusion.post_ops.append_sum();
    for (size_t i = 0; i < fusion.terms.size(); ++i) read_packed(i, fusion.terms[i].arguments);
    read_packed(fusion.terms.size(), fusion.arguments);
    std::unique_ptr<OneDnnStep> operation = OneDnnStep::Find(fusion);
    STATOR_CHECK(operation != nullptr, "oneDNN runs a primitive with post-ops, but not without");
    return operation;
  }

  std::unique_ptr<OneDnnStep> fused_;
  Fusion fusion_;
  StepSite site_;
  BodyPart epilogue_;
};

}  // namespace

bool HasInvalidFlag() {
#if defined(__x86_64__)
  return true;
#else
  return false;
#endif
}

std::unique_ptr<PreparedStep> MakeExact(std::unique_ptr<OneDnnStep> fused, Fusion fusion,
                                        const StepSite& site, size_t first_node) {
  return std::make_unique<ExactStep>(std::move(fused), std::move(fusion), site, first_node);
}

}  // namespace stator
