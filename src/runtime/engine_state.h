// Engine::State: what an engine holds, and the lock that keeps calls and refits apart.
//
// Invariants: a run holds the group's mutex shared; whatever writes constants or makes programs
// holds it alone. Nobody runs a shape while `packing` is not done: GetShape, which hands shapes
// out, ends it.
#pragma once

#include <atomic>
#include <climits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <vector>

#include "runtime/background.h"
#include "runtime/bind.h"
#include "runtime/buffer.h"
#include "runtime/engine.h"
#include "runtime/engine_group.h"
#include "runtime/fingerprint.h"
#include "runtime/forks.h"
#include "runtime/shape.h"

namespace stator {

struct Engine::State {
  State(const Plan& plan, Device& device, std::shared_ptr<EngineGroup> group);
  ~State() { --group->num_engines; }

  void LoadConstants();
  void FindWriters();
  void Watch();
  std::shared_ptr<const LoadedShape> GetShape(const SymbolValues& symbols);
  void StartShape(const SymbolValues& symbols);
  void Refit();
  void ExpireCopies();
  void StartPacking(std::span<const std::shared_ptr<LoadedShape>> shapes);
  void PackNext();
  void FinishPacking();
  void PackInBackground();
  // When, in one Pack, the steps of the prologue run and the derived buffers are read for the last
  // time: before and in which of Plan::steps.
  struct Schedule {
    std::vector<int> due;       // one per Plan::prologue; kNever when its results are not needed
    std::vector<int> last_use;  // one per Plan::derived; kUnused: in none
    static constexpr int kNever = INT_MAX, kUnused = -1;
  };
  Schedule MakeSchedule(std::span<const std::shared_ptr<LoadedShape>> packed);
  void Require(int index, int step, Schedule& schedule);
  void Derive(const BoundPlan& bound, int step, const Schedule& schedule);
  void DiscardUnread(int step, const Schedule& schedule);
  void DropPrograms();
  // Whether the programs were made before a fork, for threads that this process has not.
  bool HasForked() const { return NumForks() != num_forks; }
  // The lock, ahead of a thread that packs in the background.
  std::unique_lock<std::shared_mutex> Lock();
  std::shared_lock<std::shared_mutex> LockShared();

  const Plan& plan;
  Device& device;
  std::shared_ptr<EngineGroup> group;

  std::vector<ConstantData> weights;       // one per Plan::weights
  std::vector<ConstantData> literals;      // one per Plan::literals
  std::map<size_t, ConstantData> pending;  // from SetWeight, until the next Refit
  ConstantAddresses addresses;
  Fingerprint fingerprint;
  uint64_t fingerprint_value = 0;

  struct Derived {
    DeviceBuffer buffer;
    bool valid = false;        // whether it holds what the prologue makes
    std::vector<int> writers;  // steps of the prologue
  };
  std::vector<Derived> derived;  // one per Plan::derived
  int FindDerived(int tensor) const;

  std::list<std::shared_ptr<LoadedShape>> shapes;  // the last used first
  int64_t generation = 0;                          // counts the times that programs were dropped

  int64_t num_forks = NumForks();  // when the programs were made

  // The constants of some shapes being packed, step by step.
  struct Packing {
    std::vector<std::shared_ptr<LoadedShape>> shapes;
    Schedule schedule;
    int next = 0;  // of Plan::steps
  };
  std::optional<Packing> packing;
  std::optional<BackgroundThread> packer;  // last: it uses all of the above
};

}  // namespace stator
