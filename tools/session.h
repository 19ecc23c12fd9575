// A plan loaded for one caller, and its calls: what `stator run` and `stator bench` share.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ops/tensor.h"
#include "runtime/engine.h"

namespace stator {

class Session {
 public:
  // Raises as Engine::Load does.
  explicit Session(Plan plan);

  const Plan& plan() const { return engine_->plan(); }
  const Engine& engine() const { return *engine_; }

  // Allocates the outputs for these inputs, which Call then takes.
  std::vector<HostTensor> MakeOutputs(std::span<const TensorRef> inputs);
  void Call(std::span<const TensorRef> inputs, std::span<const HostTensor> outputs);
  // A call, with the seconds that each step of the plan took.
  std::vector<double> Profile(std::span<const TensorRef> inputs,
                              std::span<const HostTensor> outputs);

 private:
  std::shared_ptr<Engine> engine_;
  Context context_;
};

std::vector<TensorRef> Refs(std::span<const HostTensor> tensors);

// Normal numbers for floats; 0 and 1 for integers, which are indices within any table.
HostTensor MakeRandom(DType dtype, const Dims& dims, const SymbolValues& symbols, uint64_t seed);
// Sizes to try a dynamic graph with: the least of each range that is at least 2.
SymbolValues ChooseSymbols(std::span<const SymbolRange> symbols);

}  // namespace stator
