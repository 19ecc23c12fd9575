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
  std::unique_lock lock(state_->mutex);
  state_->pending.insert_or_assign(it - weights.begin(), Trim(std::move(data), WeightBytes(*it)));
}

void Engine::Refit() {
  std::unique_lock lock(state_->mutex);
  state_->Refit();
  ++num_refits_;
}

bool Engine::RefitIfChanged() {
  {
    std::shared_lock lock(state_->mutex);
    if (state_->pending.empty() && state_->fingerprint.Compute() == state_->fingerprint_value) {
      return false;
    }
  }
  Refit();
  return true;
}

int64_t Engine::derived_bytes() const {
  std::shared_lock lock(state_->mutex);
  int64_t bytes = 0;
  for (size_t i = 0; i < state_->derived.size(); ++i) {
    if (state_->derived_valid[i]) bytes += state_->derived[i].bytes();
  }
  if (state_->prologue != nullptr) bytes += state_->prologue->packed_bytes();
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
  for (const PlanWeight& weight : plan.weights) {
    CheckWeightData(weight, weight.data);
    weights.push_back(Trim(weight.data, WeightBytes(weight)));
    addresses.weights.push_back(Address(weight.data));
  }
  for (size_t i = 0; i < plan.literals.size(); ++i) {
    const ConstantData& literal = plan.literals[i];
    if (literal.bytes == nullptr && literal.size > 0) {
      Fail(ErrorKind::kInvalidArgument,
           "literal {} has no data: a plan read from text cannot be run", i);
    }
    addresses.literals.push_back(Address(literal));
  }
  for (const PlanBuffer& buffer : plan.derived) {
    derived.emplace_back(device, buffer.bytes.value());
    addresses.derived.push_back(derived.back().data());
  }
  derived_valid.assign(derived.size(), false);
  Watch();
  Derive();
}

void Engine::State::LoadPrologue() {
  SymbolValues any;  // constants have no symbols, but the other tensors are bound along
  for (const SymbolRange& symbol : plan.symbols) any[symbol.name] = symbol.min;
  prologue_bound = BindPlan(plan, any, addresses);
  std::unique_ptr<Program> loaded = device.Load(prologue_bound, plan.prologue);
  prologue_ws = DeviceBuffer(device, loaded->ws_bytes());
  prologue = std::move(loaded);
}

void Engine::State::Watch() {
  fingerprint.Watch(weights);
  fingerprint_value = fingerprint.Compute();
}

// Runs the prologue when some of what it makes is not there.
void Engine::State::Derive() {
  bool valid = std::find(derived_valid.begin(), derived_valid.end(), false) == derived_valid.end();
  if (valid || plan.prologue.empty()) return;
  if (prologue == nullptr) LoadPrologue();
  prologue->Run({.ws = prologue_ws.data()});
  derived_valid.assign(derived.size(), true);
}

// Discards what no loaded program reads where it lies.
void Engine::State::DiscardUnread() {
  std::vector<bool> read(derived.size(), false);
  for (const Step& step : plan.steps) {
    for (int input : step.inputs) {
      const PlanTensor& tensor = plan.tensors[input];
      if (tensor.storage != StorageKind::kDerived || read[tensor.index]) continue;
      read[tensor.index] = std::any_of(shapes.begin(), shapes.end(), [&](const auto& shape) {
        return shape->program->Reads(input);
      });
    }
  }
  for (size_t i = 0; i < derived.size(); ++i) {
    if (read[i] || !derived_valid[i]) continue;
    if (derived[i].data() != nullptr) device.Discard(derived[i].data(), derived[i].bytes());
    derived_valid[i] = false;
  }
}

std::shared_ptr<const LoadedShape> Engine::State::GetShape(const SymbolValues& symbols) {
  auto it = std::find_if(shapes.begin(), shapes.end(),
                         [&](const auto& shape) { return shape->bound.symbols == symbols; });
  if (it != shapes.end()) {
    shapes.splice(shapes.begin(), shapes, it);
    return shapes.front();
  }
  Derive();
  auto shape = std::make_shared<LoadedShape>();
  shape->generation = generation;
  shape->bound = BindPlan(plan, symbols, addresses);
  for (const PlanPort& port : plan.inputs) shape->inputs.push_back(BindPort(port, symbols));
  for (const PlanPort& port : plan.outputs) shape->outputs.push_back(BindPort(port, symbols));
  shape->program = device.Load(shape->bound, plan.steps);
  shapes.push_front(shape);
  if (shapes.size() > kMaxShapes) {
    shapes.back()->generation = kEvicted;
    shapes.pop_back();
  }
  DiscardUnread();
  return shape;
}

void Engine::State::Refit() {
  bool moved = !pending.empty();
  for (auto& [index, data] : pending) {
    addresses.weights[index] = Address(data);
    weights[index] = std::move(data);
  }
  pending.clear();
  // Taken before the weights are read: a write from now on is seen as a change by the next check.
  Watch();
  derived_valid.assign(derived.size(), false);
  if (moved) {
    DropPrograms();
    if (plan.symbols.empty()) GetShape({});
    return;
  }
  try {
    if (prologue != nullptr) prologue->Refit();
    Derive();
    for (const auto& shape : shapes) shape->program->Refit();
  } catch (...) {
    DropPrograms();
    throw;
  }
  DiscardUnread();
}

// Calls make the programs that they need anew: for weights at other addresses, and after a refit
// that failed half-way.
void Engine::State::DropPrograms() {
  ++generation;
  shapes.clear();
  prologue.reset();
}

}  // namespace stator
