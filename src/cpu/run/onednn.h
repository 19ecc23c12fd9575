// oneDNN wrapped: the engine, memory layouts, and a step that runs one primitive.
//
// In:  a primitive descriptor, and the step's operands with their layouts. Out: a PreparedStep.
// Invariant: this is the one place that creates, executes and frees oneDNN objects. An operand that
// lies otherwise than the primitive wants is reordered: once when it is constant, else in each Run.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "cpu/run/step.h"

namespace stator {

const dnnl::engine& OneDnnEngine();
// "oneDNN 3.2.0 avx512_core_bf16": the version and the instruction set it generates code for.
std::string OneDnnName();

// The oneDNN type of `dtype`, or undef where oneDNN has none.
dnnl::memory::data_type OneDnnType(DType dtype);

// Whether oneDNN can read and write all operands: it has their dtypes, and none is empty.
bool CanOneDnnRun(const StepSite& site);

// A strided layout.
dnnl::memory::desc MakeDesc(DType dtype, const dnnl::memory::dims& dims,
                            const dnnl::memory::dims& strides);
// The layout left to the primitive.
dnnl::memory::desc MakeAnyDesc(DType dtype, const dnnl::memory::dims& dims);

// A tensor of the step, and how it lies in memory.
struct Operand {
  enum Role { kInput, kOutput } role = kInput;
  int index = 0;                        // among the step's inputs or outputs
  const std::byte* constant = nullptr;  // its data when it is a constant, else null
  dnnl::memory::desc given;
};
// The step's input `index`, seen as `given`.
Operand MakeInput(const StepSite& site, int index, dnnl::memory::desc given);
// The step's only output.
Operand MakeOutput(dnnl::memory::desc given);

// An operand and the argument of the primitive that it is.
struct Argument {
  int arg = 0;  // DNNL_ARG_...
  Operand operand;
};

// One primitive, with the reorders that its operands need before and after it.
class OneDnnStep final : public PreparedStep {
 public:
  OneDnnStep(const dnnl::primitive_desc& desc, std::span<const Argument> arguments);
  ~OneDnnStep() override;

  void Run(const StepArgs& args) const override;
  int64_t ws_bytes() const override { return ws_bytes_; }
  void Refit() override;
  bool Reads(int input) const override;
  int64_t packed_bytes() const override;

 private:
  enum class Source { kInput, kOutput, kWs, kPacked };
  struct Binding {
    int arg = 0;
    dnnl::memory::desc desc;
    Source source = Source::kInput;
    int64_t position = 0;  // index of an input, output or packed constant; offset in the workspace
  };
  struct Call {
    dnnl::primitive primitive;
    std::vector<Binding> bindings;
  };
  // A constant in the primitive's own layout.
  struct Packed {
    dnnl::reorder reorder;
    dnnl::memory from, to;
  };
  // oneDNN's handles for one Run; kept for the next one.
  struct Frame;

  void Bind(const Argument& argument, const dnnl::memory::desc& wanted);
  int64_t AddWs(int64_t bytes);
  static Call MakeReorder(Binding from, Binding to);
  void Pack(const Packed& packed) const;
  std::unique_ptr<Frame> TakeFrame() const;
  std::byte* Resolve(const Binding& binding, const StepArgs& args) const;

  std::vector<Call> before_, after_;
  Call call_;
  std::vector<Packed> packed_;
  int64_t ws_bytes_ = 0;
  mutable std::atomic<Frame*> spare_ = nullptr;
};

// The step that `make`'s primitive descriptor and the arguments give, or null when oneDNN has no
// optimised implementation of it. Raises DeviceError or OutOfMemory for other failures.
std::unique_ptr<PreparedStep> FindOneDnnStep(const std::function<dnnl::primitive_desc()>& make,
                                             std::span<const Argument> arguments);

// What a primitive created for a step is created with: the caller gives it scratch memory.
dnnl::primitive_attr MakeAttr(const dnnl::post_ops& post_ops);

}  // namespace stator
