// ContextPool: one Context per running call, made when needed and kept for the next.
//
// Invariant: a leased Context is used by one call at a time, and only by calls whose work runs in
// order (of one stream), so any number of threads and streams may run one Engine. What a caller
// records (a CUDA graph of its own) keeps its Context as long as the engine lives; others that no
// call uses give their memory back when the device lacks it.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "runtime/engine.h"

namespace stator {

class ContextPool {
 public:
  explicit ContextPool(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {
    std::lock_guard lock(All().mutex);
    All().pools.insert(this);
  }
  ~ContextPool() {
    std::lock_guard lock(All().mutex);
    All().pools.erase(this);
  }
  ContextPool(const ContextPool&) = delete;
  ContextPool& operator=(const ContextPool&) = delete;

  // Calls fn(); where that runs out of memory, frees the contexts that no call uses, of all
  // engines, and calls it once more if there were some.
  template <typename Fn>
  static auto RetryWithLess(Fn&& fn) {
    try {
      return fn();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kOutOfMemory || !FreeIdle()) throw;
    }
    return fn();
  }

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
  // Of the process.
  struct Pools {
    std::mutex mutex;
    std::set<ContextPool*> pools;
  };
  static Pools& All() {
    static auto& pools = *new Pools;  // for engines that live until the process ends
    return pools;
  }

  static bool FreeIdle() {
    std::vector<std::unique_ptr<Context>> freed;
    std::lock_guard lock(All().mutex);
    for (ContextPool* pool : All().pools) {
      std::lock_guard of_pool(pool->mutex_);
      for (auto& [key, idle] : pool->idle_) {
        if (key.capture != 0) continue;
        std::ranges::move(idle, std::back_inserter(freed));
        idle.clear();
      }
    }
    return !freed.empty();
  }

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
