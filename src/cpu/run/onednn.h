// oneDNN wrapped: the engine, memory layouts, and a step that runs one primitive.
//
// In:  a primitive descriptor, and the step's operands with their layouts. Out: a PreparedStep.
// Invariant: this is the one place that creates, executes and frees oneDNN objects. An operand that
// lies otherwise than the primitive wants is reordered: once when it is constant, else in each Run.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "cpu/run/step.h"
#include "runtime/buffer.h"

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

// A primitive as a step runs it: an operation, then post-ops on its output.
struct Fusion {
  // Creates the descriptor for the operation and the post-ops in the attribute.
  std::function<dnnl::primitive_desc(const dnnl::primitive_attr&)> make;
  std::vector<Argument> arguments;  // of the operation
  dnnl::post_ops post_ops;
  std::vector<Argument> post_op_arguments;
  // Counts as having no implementation unless it sees an argument that changes from call to call
  // otherwise than it lies.
  bool must_reorder = false;
};

// One primitive, with the reorders that its operands need before and after it.
class OneDnnStep final : public PreparedStep {
 public:
  // Null when oneDNN has no optimised implementation. Raises DeviceError or OutOfMemory for other
  // failures.
  static std::unique_ptr<OneDnnStep> Find(const Fusion& fusion);
  ~OneDnnStep() override;

  // The constant that is argument `arg` as the primitive reads it, when that is a packed copy.
  std::optional<dnnl::memory> FindPacked(int arg) const;

  void Run(const StepArgs& args) const override;
  int64_t ws_bytes() const override { return ws_bytes_; }
  void Pack() override;
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
    DeviceBuffer buffer;  // under `to`
  };
  // oneDNN's handles for one Run; kept for the next one.
  struct Frame;

  OneDnnStep(const dnnl::primitive_desc& desc, const Fusion& fusion);
  void Bind(const Argument& argument, const dnnl::memory::desc& wanted);
  int64_t AddWs(int64_t bytes);
  static Call MakeReorder(Binding from, Binding to);
  static Packed MakePacked(const Operand& operand, const dnnl::memory::desc& wanted);
  std::unique_ptr<Frame> TakeFrame() const;
  std::byte* Resolve(const Binding& binding, const StepArgs& args) const;

  std::vector<Call> before_, after_;
  Call call_;
  std::vector<Packed> packed_;
  int64_t ws_bytes_ = 0;
  mutable std::atomic<Frame*> spare_ = nullptr;
};

}  // namespace stator
