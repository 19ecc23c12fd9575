// LoadedShape: a plan bound to one set of sizes, with the program that runs it.
#pragma once

#include <memory>
#include <vector>

#include "runtime/device.h"

namespace stator {

// The generation of a shape that the engine no longer keeps, and no longer refits: a context that
// still holds it must ask for it anew.
inline constexpr int64_t kEvicted = -1;

struct LoadedShape {
  int64_t generation = 0;  // Engine::State::generation when it was loaded
  BoundPlan bound;
  std::vector<TensorRef> inputs, outputs;  // as the program takes them; no data
  std::unique_ptr<Program> program;
  std::vector<bool> reads_derived;  // one per Plan::derived: whether the program reads it in place
};

}  // namespace stator
