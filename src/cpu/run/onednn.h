// oneDNN wrapped: the engine, memory layouts, and a step that runs one primitive.
//
// In:  a primitive descriptor, and the step's operands with their layouts. Out: a PreparedStep.
// Invariant: this is the one place that creates, executes and frees oneDNN objects. An operand that
// lies otherwise than the primitive wants is reordered: once when it is constant, else in each Run.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "cpu/run/panels.h"
#include "cpu/run/step.h"
#include "runtime/buffer.h"

namespace stator {

const dnnl::engine& OneDnnEngine();
// "oneDNN 3.2.0 avx512_core_bf16": the version and the instruction set it generates code for.
std::string OneDnnName();

// The oneDNN type of `dtype`, or undef where oneDNN has none.
dnnl::memory::data_type OneDnnType(DType dtype);

// Whether the processor multiplies numbers of this type as they are. Products of another type are
// faster in float32, between conversions.
bool Multiplies(DType dtype);

// Whether oneDNN can read and write all operands: it has their dtypes, can describe their strides,
// and none is empty.
bool CanOneDnnRun(const StepSite& site);

// A strided layout.
dnnl::memory::desc MakeDesc(DType dtype, const dnnl::memory::dims& dims,
                            const dnnl::memory::dims& strides);
// The layout left to the primitive.
dnnl::memory::desc MakeAnyDesc(DType dtype, const dnnl::memory::dims& dims);
// The strided layout with elements of another type.
dnnl::memory::desc WithType(const dnnl::memory::desc& desc, DType dtype);

// A tensor of the step, and how it lies in memory.
struct Operand {
  enum Role { kInput, kOutput } role = kInput;
  int index = 0;                        // among the step's inputs or outputs
  const std::byte* constant = nullptr;  // its data when it is a constant, else null
  dnnl::memory::desc given;
  int64_t offset = 0;  // in bytes, from where the tensor of the step begins
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

// A constant in a primitive's own layout.
struct PackedCopy {
  std::optional<PanelLayout> panels;
  dnnl::reorder reorder;  // where they are none
  dnnl::memory from, to;
  DeviceBuffer buffer;    // under `to`
  bool is_fresh = false;  // whether it holds the constant's present content
};

// The packed copies of a group of engines: one for each constant and layout, for as long as a step
// holds it.
class OneDnnCopies final : public PackedCopies {
 public:
  std::shared_ptr<PackedCopy> Get(const Operand& constant, const dnnl::memory::desc& wanted);
  // The layouts in which there are copies of the constant.
  std::vector<dnnl::memory::desc> FindLayouts(const Operand& constant) const;

  void Expire(std::span<const std::byte> memory) override;
  int64_t bytes() const override;

 private:
  std::map<const std::byte*, std::vector<std::weak_ptr<PackedCopy>>> copies_;  // by the constant
};

// A primitive as a step runs it: an operation, then post-ops on its output.
struct Fusion {
  // Creates the descriptor for the operation, with weights that lie like this, and the post-ops in
  // the attribute.
  std::function<dnnl::primitive_desc(const dnnl::memory::desc&, const dnnl::primitive_attr&)> make;
  dnnl::memory::desc weights;       // what `make` is given unless a packed copy is at hand
  std::vector<Argument> arguments;  // of the operation
  dnnl::post_ops post_ops;
  std::vector<Argument> post_op_arguments;
  // Counts as having no implementation unless it sees an argument that changes from call to call
  // otherwise than it lies.
  bool must_reorder = false;
  // Run before it, in order, into the output as it lies: the terms of a sum to which the operation
  // adds the last one. All but the first begin their post-ops with a sum.
  std::vector<Fusion> terms;
  OneDnnCopies* copies = nullptr;  // null: the step shares its packed copies with none
};

// One primitive, with the reorders that its operands need before and after it.
class OneDnnStep final : public PreparedStep {
 public:
  // Null when oneDNN has no optimised implementation. Raises DeviceError or OutOfMemory for other
  // failures. Weights of which there is a packed copy are read from it, be it in another layout
  // than the implementation would choose, if it can.
  static std::unique_ptr<OneDnnStep> Find(const Fusion& fusion);
  ~OneDnnStep() override;

  // The constant that is argument `arg` of a term (the last one is the operation itself) as the
  // primitive reads it, when that is a packed copy.
  std::optional<dnnl::memory> FindPacked(size_t term, int arg) const;

  void Run(const StepArgs& args) const override;
  int64_t ws_bytes() const override { return ws_bytes_; }
  void Pack() override;
  bool IsPacked() const override;
  bool Reads(int input) const override;

 private:
  enum class Source { kInput, kOutput, kWs, kPacked };
  struct Binding {
    int arg = 0;
    dnnl::memory::desc desc;
    Source source = Source::kInput;
    int64_t position = 0;  // index of an input, output or packed constant; offset in the workspace
    int64_t offset = 0;    // in an input or output
  };
  struct Call {
    dnnl::primitive primitive;
    std::vector<Binding> bindings;
    // In place of a primitive: from the first binding to the second one, with scratch at `ws`.
    std::unique_ptr<PreparedStep> conversion;
    int64_t ws = 0;
  };
  // oneDNN's handles for one Run; kept for the next one.
  struct Frame;

  explicit OneDnnStep(OneDnnCopies* copies) : copies_(copies) {}
  void Add(const dnnl::primitive_desc& desc, const Fusion& fusion, int64_t scratchpad);
  // Adds the argument to `call`, and the reorders that it needs to the calls before and `after` it.
  void Bind(const Argument& argument, const dnnl::memory::desc& wanted, Call& call,
            std::vector<Call>& after);
  int64_t AddWs(int64_t bytes);
  Call MakeReorder(Binding from, Binding to);
  bool IsFresh(const PackedCopy& copy) const;
  std::unique_ptr<Frame> TakeFrame() const;
  std::byte* Resolve(const Binding& binding, const StepArgs& args) const;

  std::vector<Call> calls_;
  std::vector<size_t> terms_;  // the positions of the primitives that are no reorders
  std::vector<std::shared_ptr<PackedCopy>> packed_;
  OneDnnCopies* copies_ = nullptr;  // where they come from; null: they are this step's own
  int64_t ws_bytes_ = 0;
  mutable std::atomic<Frame*> spare_ = nullptr;
};

}  // namespace stator
