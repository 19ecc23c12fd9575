// Engine and Context: load a plan once, run it many times.
//
// In:  a Plan with its weights bound, and a Device.
// Out: outputs of a call, written where the caller asked, in the order of the caller's stream.
// Invariants: an Engine may be shared by threads; a Context belongs to one caller at a time. A call
// allocates nothing once its shapes have been seen. Weights are used where they lie; what the
// prologue and the device derive from them is made again by Refit, in place.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "runtime/device.h"

namespace stator {

// A plan made ready for one set of symbol values; shared by all contexts that meet these shapes.
struct LoadedShape;
// What the engines of one module share (runtime/engine_group.h): packed copies of the weights that
// several of them read stay one copy.
struct EngineGroup;

class Engine : public std::enable_shared_from_this<Engine> {
 public:
  // Binds constants and, for a static plan, loads the program and runs the prologue; on the CPU a
  // thread in the background may still do so when Load returns. Raises
  // InvalidArgument naming a weight without data, or with fewer bytes than its type needs.
  // `group`: of engines on the same device; null for one of its own.
  static std::shared_ptr<Engine> Load(std::shared_ptr<const Plan> plan, Device& device,
                                      std::shared_ptr<EngineGroup> group = nullptr);
  ~Engine();

  const Plan& plan() const { return *plan_; }
  Device& device() const { return device_; }

  // Replaces the data of a weight (same dtype and dims, dense row-major); takes effect with the
  // next Refit. Raises InvalidArgument for an unknown name or a wrong size.
  void SetWeight(std::string_view name, ConstantData data);
  // Runs the prologue again and packs anew. Waits for running calls; later calls see the new
  // weights.
  void Refit();
  // Compares the sampled fingerprint of the weights (runtime/fingerprint.h) with the one taken at
  // the last Refit, and refits when it differs; returns whether it did. A few microseconds. Where
  // the host cannot read the device's memory, only weights that were set count as a change.
  bool RefitIfChanged();
  int64_t num_refits() const { return num_refits_; }
  // The plan with the weights set last: what a file should hold.
  Plan MakePlan() const;

  // Bytes held beside the user's own weights: derived copies, and an equal share of the packed
  // copies of its group.
  int64_t derived_bytes() const;

 private:
  friend class Context;
  Engine(std::shared_ptr<const Plan> plan, Device& device, std::shared_ptr<EngineGroup> group);
  std::shared_ptr<const LoadedShape> GetShape(const SymbolValues& symbols);

  std::shared_ptr<const Plan> plan_;
  Device& device_;
  struct State;
  std::unique_ptr<State> state_;
  std::atomic<int64_t> num_refits_ = 0;
};

class Context {
 public:
  // `stream`: where the work of all its calls goes; the caller's, null for a device without
  // streams.
  explicit Context(std::shared_ptr<Engine> engine, DeviceStream stream = nullptr);
  ~Context();

  // What the outputs will be for these inputs: dims and strides, no data. Checks the inputs: count,
  // dtype, rank, fixed sizes, symbol ranges; raises InvalidArgument naming the input, what was
  // expected and what was found. The result is valid until the next call.
  std::span<const TensorRef> Prepare(std::span<const TensorRef> inputs);
  // Runs on the inputs given to the last Prepare (any strides; copied when they are not the
  // plan's). `outputs` carry the data pointers, in the layout that Prepare returned; none may
  // overlap an input. On a device with streams, Run returns when the work is enqueued.
  void Run(std::span<const TensorRef> inputs, std::span<std::byte* const> outputs);
  // Run, with the seconds that each step of the plan took; empty when the device cannot tell.
  std::vector<double> Profile(std::span<const TensorRef> inputs,
                              std::span<std::byte* const> outputs);

 private:
  template <typename Fn>
  void RunProgram(std::span<const TensorRef> inputs, std::span<std::byte* const> outputs, Fn&& fn);

  std::shared_ptr<Engine> engine_;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stator
