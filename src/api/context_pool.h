// ContextPool: one Context per running call, made when needed and kept for the next.
//
// Invariant: a leased Context is used by one call at a time, and only by calls whose work runs in
// order (of one stream), so any number of threads and streams may run one Engine. What a caller
// records (a CUDA graph of its own) keeps its Context as long as the engine lives.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/engine.h"

namespace stator {

class ContextPool {
 public:
  explicit ContextPool(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}

  Engine& engine() const { return *engine_; }

  // A Context for the scope of a call.
  class Lease {
   public:
    Lease(ContextPool& pool, DeviceStream stream)
        : pool_(pool),
          key_(pool.engine().device().FindKey(stream)),
          context_(pool.Take(key_, stream)) {}
    ~Lease() { pool_.GiveBack(key_, std::move(context_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Context* operator->() { return context_.get(); }

   private:
    ContextPool& pool_;
    const StreamKey key_;
    std::unique_ptr<Context> context_;
  };

 private:
  std::unique_ptr<Context> Take(const StreamKey& key, DeviceStream stream) {
    {
      std::lock_guard lock(mutex_);
      std::vector<std::unique_ptr<Context>>& idle = idle_[key];
      if (!idle.empty()) {
        std::unique_ptr<Context> context = std::move(idle.back());
        idle.pop_back();
        return context;
      }
    }
    return std::make_unique<Context>(engine_, stream);
  }

  void GiveBack(const StreamKey& key, std::unique_ptr<Context> context) {
    std::lock_guard lock(mutex_);
    idle_[key].push_back(std::move(context));
  }

  std::shared_ptr<Engine> engine_;
  std::mutex mutex_;
  std::map<StreamKey, std::vector<std::unique_ptr<Context>>> idle_;
};

}  // namespace stator
