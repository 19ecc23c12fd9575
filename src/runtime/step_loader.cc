#include "runtime/step_loader.h"

#include <algorithm>

#include "base/error.h"
#include "ir/parse.h"
#include "ops/evaluate.h"

namespace stator {

SiteReader::SiteReader(const BoundPlan& bound, std::span<const Step> steps) : bound_(bound) {
  for (const Step& step : steps) {
    for (int output : step.outputs) {
      const PlanTensor& tensor = bound_.plan->tensors[output];
      written_.insert({tensor.storage, tensor.index});
    }
  }
}

StepSite SiteReader::Read(const Step& step) {
  StepSite site{.step = &step,
                .body = GetBody(step.body).graph,
                .inputs = {},
                .outputs = {},
                .copies = bound_.copies};
  for (int input : step.inputs) {
    const PlanTensor& tensor = bound_.plan->tensors[input];
    site.inputs.push_back(bound_.tensors[input]);
    if (written_.contains({tensor.storage, tensor.index})) site.inputs.back().data = nullptr;
  }
  for (int output : step.outputs) {
    site.outputs.push_back(bound_.tensors[output]);
    site.outputs.back().data = nullptr;
  }
  return site;
}

const SiteReader::Body& SiteReader::GetBody(const std::string& text) {
  auto [it, inserted] = bodies_.try_emplace(text);
  Body& body = it->second;
  if (inserted && !text.empty()) {
    body.graph = ParseGraph(text);
    if (!bound_.symbols.empty()) {
      body.is_static = FindSymbols(body.graph).empty();
      ResolveSymbols(body.graph, bound_.symbols);
    }
  }
  return body;
}

// ---- pointers

PointerTable::PointerTable(const BoundPlan& bound, std::span<const Step> steps)
    : num_bases_(kFirstPortBase +
                 static_cast<int>(bound.plan->inputs.size() + bound.plan->outputs.size())) {
  for (const Step& step : steps) {
    steps_.push_back({.first = static_cast<int>(recipes_.size()),
                      .num_inputs = static_cast<int>(step.inputs.size()),
                      .num_outputs = static_cast<int>(step.outputs.size())});
    for (int input : step.inputs) recipes_.push_back(MakeRecipe(bound, input));
    for (int output : step.outputs) recipes_.push_back(MakeRecipe(bound, output));
    max_operands_ =
        std::max(max_operands_, static_cast<int>(step.inputs.size() + step.outputs.size()));
  }
}

PointerTable::Recipe PointerTable::MakeRecipe(const BoundPlan& bound, int tensor) {
  const PlanTensor& placed = bound.plan->tensors[tensor];
  int64_t offset = bound.tensor_offsets[tensor];
  switch (placed.storage) {
    case StorageKind::kInput: return {kFirstPortBase + placed.index, offset};
    case StorageKind::kOutput:
      return {kFirstPortBase + static_cast<int>(bound.plan->inputs.size()) + placed.index, offset};
    case StorageKind::kArena: return {kArenaBase, bound.arena_offsets[placed.index] + offset};
    case StorageKind::kWeight:
    case StorageKind::kLiteral:
    case StorageKind::kDerived:
      return {kConstantBase, reinterpret_cast<intptr_t>(bound.tensors[tensor].data)};
  }
  __builtin_unreachable();
}

void PointerTable::SetBases(const RunArgs& args, std::byte** bases) const {
  int num_ports = static_cast<int>(args.inputs.size() + args.outputs.size());
  STATOR_CHECK(num_ports == 0 || num_ports == num_bases_ - kFirstPortBase,
               "{} inputs and outputs, expected {}", num_ports, num_bases_ - kFirstPortBase);
  bases[kConstantBase] = nullptr;
  bases[kArenaBase] = args.arena;
  std::byte** next = std::ranges::copy(args.inputs, bases + kFirstPortBase).out;
  std::ranges::copy(args.outputs, next);
}

void PointerTable::Resolve(int step, std::byte* const* bases, std::byte** operands) const {
  const Operands& found = steps_[step];
  const Recipe* recipe = &recipes_[found.first];
  int num_operands = found.num_inputs + found.num_outputs;
  for (int i = 0; i < num_operands; ++i) {
    operands[i] = reinterpret_cast<std::byte*>(reinterpret_cast<intptr_t>(bases[recipe[i].base]) +
                                               recipe[i].offset);
  }
}

std::vector<int> PointerTable::Bases(int step) const {
  std::vector<int> bases;
  const Operands& found = steps_[step];
  for (int i = 0; i < found.num_inputs + found.num_outputs; ++i) {
    bases.push_back(recipes_[found.first + i].base);
  }
  return bases;
}

}  // namespace stator
