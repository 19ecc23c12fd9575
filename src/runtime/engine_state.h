// Engine::State: what an engine holds, and the lock that keeps calls and refits apart.
//
// Invariant: a run holds `mutex` shared; whatever writes constants or makes programs holds it
// alone.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <shared_mutex>
#include <span>
#include <vector>

#include "runtime/bind.h"
#include "runtime/buffer.h"
#include "runtime/engine.h"
#include "runtime/fingerprint.h"
#include "runtime/shape.h"

namespace stator {

struct Engine::State {
  State(const Plan& plan, Device& device);

  void LoadConstants();
  void FindUses();
  void Watch();
  std::shared_ptr<const LoadedShape> GetShape(const SymbolValues& symbols);
  void Refit();
  void Pack(std::span<const std::shared_ptr<LoadedShape>> packing);
  void Derive(const BoundPlan& bound, int end);
  void DiscardUnread(int step);
  void DropPrograms();

  const Plan& plan;
  Device& device;
  mutable std::shared_mutex mutex;

  std::vector<ConstantData> weights;       // one per Plan::weights
  std::vector<ConstantData> literals;      // one per Plan::literals
  std::map<size_t, ConstantData> pending;  // from SetWeight, until the next Refit
  ConstantAddresses addresses;
  Fingerprint fingerprint;
  uint64_t fingerprint_value = 0;

  struct Derived {
    DeviceBuffer buffer;
    bool valid = false;           // whether it holds what the prologue makes
    int last_step = -1;           // the last of Plan::steps that reads it
    int last_prologue_step = -1;  // the last of Plan::prologue that reads or writes it
  };
  std::vector<Derived> derived;  // one per Plan::derived
  int prologue_done = 0;         // steps of the prologue whose results are there, or were
  Derived* FindDerived(int tensor);

  std::list<std::shared_ptr<LoadedShape>> shapes;  // the last used first
  int64_t generation = 0;                          // counts the times that programs were dropped
};

}  // namespace stator
