// ContextPool: one Context per running call, made when needed and kept for the next.
//
// Invariant: a leased Context is used by one call only, so any number of threads may run one
// Engine.
#pragma once

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
    explicit Lease(ContextPool& pool) : pool_(pool), context_(pool.Take()) {}
    ~Lease() { pool_.GiveBack(std::move(context_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Context* operator->() { return context_.get(); }

   private:
    ContextPool& pool_;
    std::unique_ptr<Context> context_;
  };

 private:
  std::unique_ptr<Context> Take() {
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Context> context = std::move(idle_.back());
        idle_.pop_back();
        return context;
      }
    }
    return std::make_unique<Context>(engine_);
  }

  void GiveBack(std::unique_ptr<Context> context) {
    std::lock_guard lock(mutex_);
    idle_.push_back(std::move(context));
  }

  std::shared_ptr<Engine> engine_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Context>> idle_;
};

}  // namespace stator
