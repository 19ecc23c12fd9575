// The seam between the runtime and a device engine: what a device must be able to do.
//
// In:  a Plan, resolved to integers for one set of symbol values (`BoundPlan`), and its constants.
// Out: a Program: the steps made ready (primitives created, weights packed), run many times.
// Invariant: a Program is immutable during Run and may be run by several threads at once, each with
// its own arena and workspace. Pack is called with no Run in flight. A Device may be used by
// several threads at once.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ir/op_def.h"
#include "plan/plan.h"

namespace stator {

// What the programs of a group of engines share: copies of constants in the layouts that steps
// want. Each device has its own kind; it is used by one thread at a time.
class PackedCopies {
 public:
  virtual ~PackedCopies() = default;
  // The content of this memory has changed: each copy of a constant in it is made anew by the next
  // Pack that needs it.
  virtual void Expire(std::span<const std::byte> memory) = 0;
  // Bytes of the copies that some program holds.
  virtual int64_t bytes() const = 0;
};

// Where and after what the steps of a plan run (runtime/schedule.h). Stream 0 is the caller's.
struct StepSchedule {
  int num_streams = 1;
  std::vector<int> streams;             // one per step; empty: all on the caller's
  std::vector<std::vector<int>> waits;  // one per step: steps of other streams that must be over
};

// A plan under given symbol values.
struct BoundPlan {
  const Plan* plan = nullptr;
  SymbolValues symbols;
  std::vector<TensorRef> tensors;       // one per PlanTensor; `data` null except for constants
  std::vector<int64_t> tensor_offsets;  // bytes from the start of the tensor's storage
  std::vector<int64_t> arena_offsets;   // bytes from the arena's start, one per Plan::arena
  int64_t arena_bytes = 0;
  StepSchedule schedule;           // of Plan::steps
  PackedCopies* copies = nullptr;  // of the group; null: a program shares its copies with none
};

// A queue of a device's work, which a call's work joins: a CUDA stream. Null where there is none.
using DeviceStream = void*;

// What one context may serve: calls whose work runs in order. `capture` tells apart what a caller
// records to replay it later.
struct StreamKey {
  uint64_t stream = 0, capture = 0;
  friend auto operator<=>(const StreamKey&, const StreamKey&) = default;
};

// What a program keeps for one caller between runs, such as a CUDA graph.
class RunState {
 public:
  virtual ~RunState() = default;
};

// Where the storages of one call lie. Addresses of inputs and outputs are multiples of
// Device::alignment().
struct RunArgs {
  std::span<std::byte* const> inputs;   // one per plan input, with the plan's strides
  std::span<std::byte* const> outputs;  // one per plan output
  std::byte* arena = nullptr;           // BoundPlan::arena_bytes, 64-byte aligned
  std::byte* ws = nullptr;              // Program::ws_bytes(), 64-byte aligned
  RunState* state = nullptr;            // from MakeRunState; null for a run that keeps nothing
  DeviceStream stream = nullptr;
};

class Program {
 public:
  virtual ~Program() = default;
  // Scratch that Run needs beside the arena, in bytes.
  virtual int64_t ws_bytes() const = 0;
  // The caller's state for its runs; null when there is none to keep. Not outlived by the program.
  virtual std::unique_ptr<RunState> MakeRunState() const { return nullptr; }
  // On a device with streams, Run returns when the work is enqueued.
  virtual void Run(const RunArgs& args) const = 0;
  // Run, with the seconds that each step took; empty when the device cannot tell.
  virtual std::vector<double> Profile(const RunArgs& args) const {
    Run(args);
    return {};
  }
  // Makes the packed copies that `step` (a position in the steps loaded) needs from the constants'
  // present content: before the first Run, and again when the content has changed. Does nothing for
  // those that another program of the engine has made.
  virtual void Pack(int step) = 0;
  // Whether Pack would do nothing; false, too, where the device does not keep track.
  virtual bool IsPacked(int step) const {
    (void)step;
    return false;
  }
  // Whether Run reads the constant that is the step's input at position `input` where it lies;
  // false when it needs only a packed copy of its own, so that the pages under the constant may be
  // discarded until the next Pack.
  virtual bool Reads(int step, int input) const {
    (void)step;
    (void)input;
    return true;
  }
  // Bytes of packed copies that this program alone holds.
  virtual int64_t packed_bytes() const { return 0; }
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  // Constants' TensorRefs carry addresses, whose content Pack and Run alone read. Raises
  // Unsupported naming a step it cannot run. `steps` are the plan's steps or some of its prologue.
  virtual std::unique_ptr<Program> Load(const BoundPlan& bound, std::span<const Step> steps) = 0;
  // As Load, beside a `program` of the same steps, which `other` was bound to: what does not depend
  // on the symbols' values may serve both.
  virtual std::unique_ptr<Program> LoadBeside(const BoundPlan& bound, std::span<const Step> steps,
                                              const BoundPlan& other, const Program& program) {
    (void)other;
    (void)program;
    return Load(bound, steps);
  }
  // For the programs of a group of engines; null where each has copies of its own.
  virtual std::unique_ptr<PackedCopies> MakePackedCopies() { return nullptr; }
  virtual std::byte* Allocate(int64_t bytes) = 0;  // 64-byte aligned; raises OutOfMemory
  virtual void Free(std::byte* data) = 0;
  // Gives the memory of `bytes` bytes at `data`, from Allocate, back to the system: the pointer
  // stays valid, the content is lost.
  virtual void Discard(std::byte* data, int64_t bytes) {
    (void)data;
    (void)bytes;
  }
  // Copies elements; dtypes and dims are equal, strides are any.
  virtual void Copy(const TensorRef& from, const TensorRef& to, DeviceStream stream) = 0;
  // What the addresses of inputs must be multiples of; others are copied.
  virtual int64_t alignment() const { return 1; }

  // Whether the host may read constants where BringConstant puts them.
  virtual bool reads_host_memory() const { return true; }
  // The constant where programs can read it: itself when it lies there already. Raises
  // InvalidArgument for one on another device.
  virtual ConstantData BringConstant(const ConstantData& data);
  // The constant where the host can read it: itself when it lies there already.
  virtual ConstantData BringToHost(const ConstantData& data) { return data; }

  // The stream for work that no caller waits for: the prologue and Pack.
  virtual DeviceStream stream() { return nullptr; }
  // Waits for all work on the device.
  virtual void Finish() {}
  // Whether packing keeps the host busy, so that a thread in the background may do it.
  virtual bool packs_in_background() const { return false; }
  // Called first on such a thread: it is to use one core.
  virtual void EnterBackground() {}
  // Calls `work`, which packs and runs many short steps that no caller waits for.
  virtual void RunInOneRegion(const std::function<void()>& work) { work(); }
  virtual StreamKey FindKey(DeviceStream stream) {
    (void)stream;
    return {};
  }
};

// The CPU engine; one per process.
Device& CpuDevice();

}  // namespace stator
