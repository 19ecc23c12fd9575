// Engine::State: what an engine holds, and the lock that keeps calls and refits apart.
//
// Invariant: a run holds `mutex` shared; whatever writes constants or makes programs holds it
// alone.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <shared_mutex>
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
  void LoadPrologue();
  void Watch();
  void Derive();
  void DiscardUnread();
  std::shared_ptr<const LoadedShape> GetShape(const SymbolValues& symbols);
  void Refit();
  void DropPrograms();

  const Plan& plan;
  Device& device;
  mutable std::shared_mutex mutex;

  std::vector<ConstantData> weights;       // one per Plan::weights
  std::map<size_t, ConstantData> pending;  // from SetWeight, until the next Refit
  ConstantAddresses addresses;
  Fingerprint fingerprint;
  uint64_t fingerprint_value = 0;

  std::vector<DeviceBuffer> derived;  // one per Plan::derived
  std::vector<bool> derived_valid;    // whether it holds what the prologue makes
  BoundPlan prologue_bound;
  std::unique_ptr<Program> prologue;  // null until it is needed
  DeviceBuffer prologue_ws;

  std::list<std::shared_ptr<LoadedShape>> shapes;  // the last used first
  int64_t generation = 0;                          // counts the times that programs were dropped
};

}  // namespace stator
