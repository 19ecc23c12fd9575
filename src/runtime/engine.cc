// Engine: constants in place, the prologue run, programs by shape, refit.

#include "runtime/engine.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/bind.h"
#include "runtime/buffer.h"
#include "runtime/engine_state.h"

namespace stator {
namespace {

constexpr size_t kMaxShapes = 16;  // programs kept; the least recently used one goes

int64_t WeightBytes(const PlanWeight& weight) {
  int64_t bytes = static_cast<int64_t>(DTypeSize(weight.dtype));
  for (int64_t dim : weight.dims) bytes *= dim;
  return bytes;
}

void CheckWeightData(const PlanWeight& weight, const ConstantData& data) {
  int64_t expected = WeightBytes(weight);
  if (static_cast<int64_t>(data.size) >= expected && (data.bytes != nullptr || expected == 0)) {
    return;
  }
  Dims dims(weight.dims.begin(), weight.dims.end());
  std::string type = fmt::format("{}{}", DTypeName(weight.dtype), DimsToString(dims));
  if (data.bytes == nullptr) {
    Fail(ErrorKind::kInvalidArgument,
         "weight `{}` ({}) has no data: bind it before the plan is loaded, or save the plan with "
         "its weights",
         weight.name, type);
  }
  Fail(ErrorKind::kInvalidArgument, "weight `{}` is given {} bytes, expected {} for {}",
       weight.name, data.size, expected, type);
}

// The first `size` bytes: what is beyond is not the weight's.
ConstantData Trim(ConstantData data, int64_t size) {
  data.size = static_cast<size_t>(size);
  return data;
}

// Devices only read constants; TensorRef has no const form.
std::byte* Address(const ConstantData& data) { return const_cast<std::byte*>(data.bytes); }

}  // namespace

std::shared_ptr<Engine> Engine::Load(std::shared_ptr<const Plan> plan, Device& device) {
  std::shared_ptr<Engine> engine(new Engine(std::move(plan), device));
  engine->state_->LoadConstants();
  if (engine->plan_->symbols.empty()) engine->GetShape({});
  return engine;
}

Engine::Engine(std::shared_ptr<const Plan> plan, Device& device)
    : plan_(std::move(plan)), device_(device), state_(new State(*plan_, device)) {}

Engine::~Engine() = default;

void Engine::SetWeight(std::string_view name, ConstantData data) {
  const std::vector<PlanWeight>& weights = plan_->weights;
  auto it = std::find_if(weights.begin(), weights.end(),
                         [&](const PlanWeight& weight) { return weight.name == name; });
  if (it == weights.end()) {
    Fail(ErrorKind::kInvalidArgument, "the plan has no weight `{}` (it has {})", name,
         weights.size());
  }
  CheckWeightData(*it, data);
  data = device_.BringConstant(Trim(std::move(data), WeightBytes(*it)));
  std::unique_lock lock(state_->mutex);
  state_->pending.insert_or_assign(it - weights.begin(), std::move(data));
}

void Engine::Refit() {
  std::unique_lock lock(state_->mutex);
  state_->Refit();
  ++num_refits_;
}

bool Engine::RefitIfChanged() {
  {
    std::shared_lock lock(state_->mutex);
    bool same =
        !device_.reads_host_memory() || state_->fingerprint.Compute() == state_->fingerprint_value;
    if (state_->pending.empty() && same) return false;
  }
  Refit();
  return true;
}

Plan Engine::MakePlan() const {
  std::shared_lock lock(state_->mutex);
  Plan plan = *plan_;
  for (size_t i = 0; i < plan.weights.size(); ++i) plan.weights[i].data = state_->weights[i];
  for (const auto& [index, data] : state_->pending) plan.weights[index].data = data;
  for (PlanWeight& weight : plan.weights) weight.data = device_.BringToHost(weight.data);
  return plan;
}

int64_t Engine::derived_bytes() const {
  std::shared_lock lock(state_->mutex);
  int64_t bytes = 0;
  for (const State::Derived& derived : state_->derived) {
    if (derived.valid) bytes += derived.buffer.bytes();
  }
  for (const auto& shape : state_->shapes) bytes += shape->program->packed_bytes();
  return bytes;
}

std::shared_ptr<const LoadedShape> Engine::GetShape(const SymbolValues& symbols) {
  std::unique_lock lock(state_->mutex);
  return state_->GetShape(symbols);
}

// ---- State

Engine::State::State(const Plan& plan, Device& device) : plan(plan), device(device) {}

void Engine::State::LoadConstants() {
  device.Finish();  // a weight may be being written
  for (const PlanWeight& weight : plan.weights) {
    CheckWeightData(weight, weight.data);
    weights.push_back(device.BringConstant(Trim(weight.data, WeightBytes(weight))));
    addresses.weights.push_back(Address(weights.back()));
  }
  for (size_t i = 0; i < plan.literals.size(); ++i) {
    const ConstantData& literal = plan.literals[i];
    if (literal.bytes == nullptr && literal.size > 0) {
      Fail(ErrorKind::kInvalidArgument,
           "literal {} has no data: a plan read from text cannot be run", i);
    }
    literals.push_back(device.BringConstant(literal));
    addresses.literals.push_back(Address(literals.back()));
  }
  for (const PlanBuffer& buffer : plan.derived) {
    derived.push_back({.buffer = DeviceBuffer(device, buffer.bytes.value())});
    addresses.derived.push_back(derived.back().buffer.data());
  }
  FindUses();
  Watch();
}

// Null when `tensor` lies in another storage.
Engine::State::Derived* Engine::State::FindDerived(int tensor) {
  const PlanTensor& placed = plan.tensors[tensor];
  return placed.storage == StorageKind::kDerived ? &derived[placed.index] : nullptr;
}

void Engine::State::FindUses() {
  for (int i = 0; i < static_cast<int>(plan.prologue.size()); ++i) {
    for (const auto* tensors : {&plan.prologue[i].inputs, &plan.prologue[i].outputs}) {
      for (int tensor : *tensors) {
        if (Derived* used = FindDerived(tensor)) used->last_prologue_step = i;
      }
    }
  }
  for (int i = 0; i < static_cast<int>(plan.steps.size()); ++i) {
    for (int tensor : plan.steps[i].inputs) {
      if (Derived* used = FindDerived(tensor)) used->last_step = i;
    }
  }
}

void Engine::State::Watch() {
  if (!device.reads_host_memory()) return;
  fingerprint.Watch(weights);
  fingerprint_value = fingerprint.Compute();
}

// Packs the constants of these shapes' programs, step by step: the prologue runs only as far as the
// next step needs, and what no program reads any more is discarded at once. So the memory needed
// beyond what stays is that of a few derived buffers, not of all.
void Engine::State::Pack(std::span<const std::shared_ptr<LoadedShape>> packing) {
  if (!std::ranges::all_of(derived, &Derived::valid)) prologue_done = 0;
  for (int i = 0; i < static_cast<int>(plan.steps.size()); ++i) {
    const std::vector<int>& inputs = plan.steps[i].inputs;
    for (int tensor : inputs) {
      Derived* used = FindDerived(tensor);
      if (used != nullptr) Derive(packing[0]->bound, used->last_prologue_step + 1);
    }
    for (const auto& shape : packing) {
      shape->program->Pack(i);
      for (size_t k = 0; k < inputs.size(); ++k) {
        const PlanTensor& tensor = plan.tensors[inputs[k]];
        bool reads = tensor.storage == StorageKind::kDerived &&
                     shape->program->Reads(i, static_cast<int>(k));
        if (reads) shape->reads_derived[tensor.index] = true;
      }
    }
    DiscardUnread(i);
  }
  device.Finish();  // calls come on streams of their own
}

// Runs the steps of the prologue before position `end` that are not done.
void Engine::State::Derive(const BoundPlan& bound, int end) {
  if (end <= prologue_done) return;
  auto steps = std::span(plan.prologue).subspan(prologue_done, end - prologue_done);
  std::unique_ptr<Program> program = device.Load(bound, steps);
  for (size_t i = 0; i < steps.size(); ++i) program->Pack(static_cast<int>(i));
  DeviceBuffer ws(device, program->ws_bytes());
  program->Run({.ws = ws.data(), .stream = device.stream()});
  device.Finish();  // before the program and its workspace go
  for (const Step& step : steps) {
    for (int tensor : step.outputs) FindDerived(tensor)->valid = true;
  }
  prologue_done = end;
}

// Discards what no step after `step`, nor the rest of the prologue, nor any program in place reads.
void Engine::State::DiscardUnread(int step) {
  for (size_t i = 0; i < derived.size(); ++i) {
    Derived& buffer = derived[i];
    bool needed =
        !buffer.valid || buffer.last_step > step || buffer.last_prologue_step >= prologue_done ||
        std::ranges::any_of(shapes, [&](const auto& shape) { return shape->reads_derived[i]; });
    if (needed) continue;
    if (buffer.buffer.bytes() > 0) device.Discard(buffer.buffer.data(), buffer.buffer.bytes());
    buffer.valid = false;
  }
}

std::shared_ptr<const LoadedShape> Engine::State::GetShape(const SymbolValues& symbols) {
  auto it = std::find_if(shapes.begin(), shapes.end(),
                         [&](const auto& shape) { return shape->bound.symbols == symbols; });
  if (it != shapes.end()) {
    shapes.splice(shapes.begin(), shapes, it);
    return shapes.front();
  }
  auto shape = std::make_shared<LoadedShape>();
  shape->generation = generation;
  shape->bound = BindPlan(plan, symbols, addresses);
  for (const PlanPort& port : plan.inputs) shape->inputs.push_back(BindPort(port, symbols));
  for (const PlanPort& port : plan.outputs) shape->outputs.push_back(BindPort(port, symbols));
  shape->program = device.Load(shape->bound, plan.steps);
  shape->reads_derived.assign(derived.size(), false);
  if (shapes.size() == kMaxShapes) {
    shapes.back()->generation = kEvicted;
    shapes.pop_back();
  }
  shapes.push_front(shape);
  try {
    Pack({&shape, 1});
  } catch (...) {
    shapes.pop_front();
    throw;
  }
  return shape;
}

void Engine::State::Refit() {
  device.Finish();  // calls that read what is made anew, and writes to the weights
  bool moved = !pending.empty();
  for (auto& [index, data] : pending) {
    addresses.weights[index] = Address(data);
    weights[index] = std::move(data);
  }
  pending.clear();
  // Taken before the weights are read: a write from now on is seen as a change by the next check.
  Watch();
  for (Derived& buffer : derived) buffer.valid = false;
  if (moved) {
    DropPrograms();
    if (plan.symbols.empty()) GetShape({});
    return;
  }
  if (shapes.empty()) return;
  try {
    Pack(std::vector(shapes.begin(), shapes.end()));
  } catch (...) {
    DropPrograms();
    throw;
  }
}

// Calls make the programs that they need anew: for weights at other addresses, and after a refit
// that failed half-way.
void Engine::State::DropPrograms() {
  ++generation;
  shapes.clear();
  for (Derived& buffer : derived) buffer.valid = false;
}

}  // namespace stator
