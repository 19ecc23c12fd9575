// What every device engine needs of a plan's steps: operands to prepare them from, and where the
// operands of each lie in a call.
//
// In:  a bound plan and some of its steps. Out: a StepSite per step, and a PointerTable that turns
// the pointers of a call into a step's: a base and a distance from it.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/graph.h"
#include "runtime/device.h"

namespace stator {

// What a step is prepared from. `step` and constants' data outlive the prepared step; the rest is
// copied. The constants' content may still change until Pack.
struct StepSite {
  const Step* step = nullptr;
  Graph body;  // inputs and outputs match the step's in number; empty for a copy
  std::vector<TensorRef> inputs;
  std::vector<TensorRef> outputs;
  PackedCopies* copies = nullptr;  // shared with the steps of other programs; null: with none
};

class SiteReader {
 public:
  // Both must outlive the reader.
  SiteReader(const BoundPlan& bound, std::span<const Step> steps);

  // The site of one of the steps: its body at the symbols' values, and data of constants only, but
  // of none that these very steps make, since it has no content yet.
  StepSite Read(const Step& step);
  // Whether the step's body is the same at all values of the symbols.
  bool HasStaticBody(const Step& step) { return GetBody(step.body).is_static; }

 private:
  struct Body {
    Graph graph;
    bool is_static = true;
  };
  const Body& GetBody(const std::string& text);

  const BoundPlan& bound_;
  std::set<std::pair<StorageKind, int>> written_;
  std::map<std::string_view, Body> bodies_;  // steps with equal bodies share one
};

class PointerTable {
 public:
  PointerTable(const BoundPlan& bound, std::span<const Step> steps);

  // The bases of a call: null, from which an offset is an address (constants); the arena; then the
  // inputs and the outputs.
  static constexpr int kConstantBase = 0, kArenaBase = 1, kFirstPortBase = 2;
  int num_bases() const { return num_bases_; }
  // Operands of the step that has most.
  int max_operands() const { return max_operands_; }

  // Fills num_bases() pointers. A prologue runs without inputs and outputs.
  void SetBases(const RunArgs& args, std::byte** bases) const;
  // Fills the pointers of a step's inputs, then those of its outputs.
  void Resolve(int step, std::byte* const* bases, std::byte** operands) const;
  int num_inputs(int step) const { return steps_[step].num_inputs; }

  // The base of each of a step's operands, inputs first.
  std::vector<int> Bases(int step) const;

 private:
  struct Recipe {
    int base = 0;
    intptr_t offset = 0;  // bytes
  };
  struct Operands {
    int first = 0;  // among the recipes
    int num_inputs = 0;
    int num_outputs = 0;
  };

  static Recipe MakeRecipe(const BoundPlan& bound, int tensor);

  std::vector<Recipe> recipes_;
  std::vector<Operands> steps_;
  int num_bases_ = 0, max_operands_ = 0;
};

}  // namespace stator
