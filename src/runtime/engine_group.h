// EngineGroup: what the engines of one module share.
//
// Invariants: a run of any of them holds `mutex` shared; whatever writes constants or packed
// copies, or makes programs, holds it alone.
#pragma once

#include <atomic>
#include <memory>
#include <shared_mutex>

#include "runtime/device.h"

namespace stator {

struct EngineGroup {
  explicit EngineGroup(Device& device) : copies(device.MakePackedCopies()) {}

  std::shared_mutex mutex;
  std::unique_ptr<PackedCopies> copies;  // null where each program has copies of its own
  std::atomic<int> num_engines = 0;
  std::atomic<bool> is_wanted = false;  // by a caller, who packs faster than the background
};

}  // namespace stator
