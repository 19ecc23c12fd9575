// Engine: constants in place, the prologue run, programs by shape, refit.

#include "runtime/engine.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "runtime/bind.h"
#include "runtime/buffer.h"
#include "runtime/engine_state.h"

namespace stator {
namespace {

constexpr size_t kMaxShapes = 16;  // programs kept; the least recently used one goes

// Bytes of weights that are worth a thread to pack them: those of some milliseconds.
constexpr int64_t kMinBackgroundBytes = int64_t{16} << 20;

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

std::shared_ptr<Engine> Engine::Load(std::shared_ptr<const Plan> plan, Device& device,
                                     std::shared_ptr<EngineGroup> group) {
  if (group == nullptr) group = std::make_shared<EngineGroup>(device);
  std::unique_lock lock(group->mutex);  // of a group that others pack for in the background
  std::shared_ptr<Engine> engine(new Engine(std::move(plan), device, group));
  engine->state_->LoadConstants();
  if (!engine->plan_->symbols.empty()) return engine;
  State& state = *engine->state_;
  state.StartShape({});
  int64_t bytes = 0;
  for (const ConstantData& weight : state.weights) bytes += static_cast<int64_t>(weight.size);
  if (device.packs_in_background() && bytes >= kMinBackgroundBytes) {
    state.PackInBackground();
  } else {
    state.FinishPacking();
  }
  return engine;
}

Engine::Engine(std::shared_ptr<const Plan> plan, Device& device, std::shared_ptr<EngineGroup> group)
    : plan_(std::move(plan)),
      device_(device),
      state_(new State(*plan_, device, std::move(group))) {}

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
  auto lock = state_->Lock();
  state_->pending.insert_or_assign(it - weights.begin(), std::move(data));
}

void Engine::Refit() {
  auto lock = state_->Lock();
  state_->Refit();
  ++num_refits_;
}

bool Engine::RefitIfChanged() {
  {
    auto lock = state_->LockShared();
    bool same =
        !device_.reads_host_memory() || state_->fingerprint.Compute() == state_->fingerprint_value;
    if (state_->pending.empty() && same) return false;
  }
  Refit();
  return true;
}

Plan Engine::MakePlan() const {
  auto lock = state_->LockShared();
  Plan plan = *plan_;
  for (size_t i = 0; i < plan.weights.size(); ++i) plan.weights[i].data = state_->weights[i];
  for (const auto& [index, data] : state_->pending) plan.weights[index].data = data;
  for (PlanWeight& weight : plan.weights) weight.data = device_.BringToHost(weight.data);
  return plan;
}

int64_t Engine::derived_bytes() const {
  auto lock = state_->Lock();
  state_->FinishPacking();
  int64_t bytes = 0;
  for (const State::Derived& derived : state_->derived) {
    if (derived.valid) bytes += derived.buffer.bytes();
  }
  for (const auto& shape : state_->shapes) bytes += shape->program->packed_bytes();
  const EngineGroup& group = *state_->group;
  return bytes + (group.copies != nullptr ? group.copies->bytes() / group.num_engines : 0);
}

std::shared_ptr<const LoadedShape> Engine::GetShape(const SymbolValues& symbols) {
  auto lock = state_->Lock();
  return state_->GetShape(symbols);
}

// ---- State

Engine::State::State(const Plan& plan, Device& device, std::shared_ptr<EngineGroup> of_group)
    : plan(plan), device(device), group(std::move(of_group)) {
  ++group->num_engines;
}

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
  FindWriters();
  Watch();
}

// The derived buffer that `tensor` lies in; -1 for another storage.
int Engine::State::FindDerived(int tensor) const {
  const PlanTensor& placed = plan.tensors[tensor];
  return placed.storage == StorageKind::kDerived ? placed.index : -1;
}

void Engine::State::FindWriters() {
  for (int i = 0; i < static_cast<int>(plan.prologue.size()); ++i) {
    for (int tensor : plan.prologue[i].outputs) derived[FindDerived(tensor)].writers.push_back(i);
  }
}

void Engine::State::Watch() {
  if (!device.reads_host_memory()) return;
  fingerprint.Watch(weights);
  fingerprint_value = fingerprint.Compute();
}

std::unique_lock<std::shared_mutex> Engine::State::Lock() {
  group->is_wanted = true;
  return std::unique_lock(group->mutex);
}

std::shared_lock<std::shared_mutex> Engine::State::LockShared() {
  if (!group->is_wanted.load(std::memory_order_relaxed)) group->is_wanted = true;
  return std::shared_lock(group->mutex);
}

// Packs the constants of these shapes' programs, step by step: the prologue runs only as far as the
// next step needs, and what no program reads any more is discarded at once. So the memory needed
// beyond what stays is that of a few derived buffers, not of all. What another shape has packed is
// there already, and the prologue runs for the rest alone.
void Engine::State::StartPacking(std::span<const std::shared_ptr<LoadedShape>> packed) {
  packing = Packing{.shapes = {packed.begin(), packed.end()}, .schedule = MakeSchedule(packed)};
}

void Engine::State::PackNext() {
  auto& [packed, schedule, next] = *packing;
  if (next == static_cast<int>(plan.steps.size())) {
    device.Finish();  // calls come on streams of their own
    packing.reset();
    return;
  }
  Derive(packed[0]->bound, next, schedule);
  const std::vector<int>& inputs = plan.steps[next].inputs;
  for (const auto& shape : packed) {
    shape->program->Pack(next);
    for (size_t k = 0; k < inputs.size(); ++k) {
      int index = FindDerived(inputs[k]);
      bool reads = index >= 0 && shape->program->Reads(next, static_cast<int>(k));
      if (reads) shape->reads_derived[index] = true;
    }
  }
  DiscardUnread(next, schedule);
  ++next;
}

void Engine::State::FinishPacking() {
  if (HasForked()) DropPrograms();
  try {
    if (!packing) return;
    device.RunInOneRegion([&] {
      while (packing) PackNext();
    });
  } catch (...) {
    DropPrograms();
    throw;
  }
}

// Between a compilation and the first call torch makes its guards, which takes one core about as
// long as packing. The first caller packs what is left; what fails here fails again there.
void Engine::State::PackInBackground() {
  auto pack = [this, entered = false]() mutable {
    if (!std::exchange(entered, true)) device.EnterBackground();
    if (group->is_wanted) return false;
    std::unique_lock lock(group->mutex);
    try {
      if (packing) PackNext();
    } catch (...) {
      DropPrograms();
    }
    return packing.has_value();
  };
  try {
    packer.emplace(std::move(pack));
  } catch (const std::system_error&) {  // no more threads are to be had
    FinishPacking();
  }
}

Engine::State::Schedule Engine::State::MakeSchedule(
    std::span<const std::shared_ptr<LoadedShape>> packed) {
  Schedule schedule{.due = std::vector<int>(plan.prologue.size(), Schedule::kNever),
                    .last_use = std::vector<int>(derived.size(), Schedule::kUnused)};
  for (int i = 0; i < static_cast<int>(plan.steps.size()); ++i) {
    const std::vector<int>& inputs = plan.steps[i].inputs;
    for (size_t k = 0; k < inputs.size(); ++k) {
      int index = FindDerived(inputs[k]);
      bool needed =
          index >= 0 && std::ranges::any_of(packed, [&](const auto& shape) {
            return !shape->program->IsPacked(i) || shape->program->Reads(i, static_cast<int>(k));
          });
      if (needed) Require(index, i, schedule);
    }
  }
  return schedule;
}

// The content of a derived buffer is needed in `step`: what makes it is due by then.
void Engine::State::Require(int index, int step, Schedule& schedule) {
  schedule.last_use[index] = std::max(schedule.last_use[index], step);
  if (derived[index].valid) return;
  for (int writer : derived[index].writers) {
    if (schedule.due[writer] != Schedule::kNever) continue;
    schedule.due[writer] = step;
    for (int tensor : plan.prologue[writer].inputs) {
      if (int input = FindDerived(tensor); input >= 0) Require(input, step, schedule);
    }
  }
}

// Runs the steps of the prologue that are due before `step`.
void Engine::State::Derive(const BoundPlan& bound, int step, const Schedule& schedule) {
  auto is_due = [&](int due) { return due == step; };
  std::optional<BoundPlan> apart;  // its packed copies serve once
  for (auto begin = schedule.due.begin();;) {
    begin = std::find_if(begin, schedule.due.end(), is_due);
    if (begin == schedule.due.end()) return;
    if (!apart) {
      apart = bound;
      apart->copies = nullptr;
    }
    auto end = std::find_if_not(begin, schedule.due.end(), is_due);
    auto steps = std::span(plan.prologue).subspan(begin - schedule.due.begin(), end - begin);
    std::unique_ptr<Program> program = device.Load(*apart, steps);
    for (size_t i = 0; i < steps.size(); ++i) program->Pack(static_cast<int>(i));
    DeviceBuffer ws(device, program->ws_bytes());
    program->Run({.ws = ws.data(), .stream = device.stream()});
    device.Finish();  // before the program and its workspace go
    for (const Step& made : steps) {
      for (int tensor : made.outputs) derived[FindDerived(tensor)].valid = true;
    }
    begin = end;
  }
}

// Discards what no step after `step`, with the prologue before it, nor any program in place reads.
void Engine::State::DiscardUnread(int step, const Schedule& schedule) {
  for (size_t i = 0; i < derived.size(); ++i) {
    Derived& buffer = derived[i];
    bool needed =
        !buffer.valid || schedule.last_use[i] > step ||
        std::ranges::any_of(shapes, [&](const auto& shape) { return shape->reads_derived[i]; });
    if (needed) continue;
    if (buffer.buffer.bytes() > 0) device.Discard(buffer.buffer.data(), buffer.buffer.bytes());
    buffer.valid = false;
  }
}

std::shared_ptr<const LoadedShape> Engine::State::GetShape(const SymbolValues& symbols) {
  FinishPacking();
  auto it = std::find_if(shapes.begin(), shapes.end(),
                         [&](const auto& shape) { return shape->bound.symbols == symbols; });
  if (it != shapes.end()) {
    shapes.splice(shapes.begin(), shapes, it);
    return shapes.front();
  }
  StartShape(symbols);
  FinishPacking();
  return shapes.front();
}

void Engine::State::StartShape(const SymbolValues& symbols) {
  auto shape = std::make_shared<LoadedShape>();
  shape->generation = generation;
  shape->bound = BindPlan(plan, symbols, addresses);
  shape->bound.copies = group->copies.get();
  for (const PlanPort& port : plan.inputs) shape->inputs.push_back(BindPort(port, symbols));
  for (const PlanPort& port : plan.outputs) shape->outputs.push_back(BindPort(port, symbols));
  if (shapes.empty()) {
    shape->program = device.Load(shape->bound, plan.steps);
  } else {
    const LoadedShape& last = *shapes.front();
    shape->program = device.LoadBeside(shape->bound, plan.steps, last.bound, *last.program);
  }
  shape->reads_derived.assign(derived.size(), false);
  if (shapes.size() == kMaxShapes) {
    shapes.back()->generation = kEvicted;
    shapes.pop_back();
  }
  shapes.push_front(shape);
  StartPacking({&shape, 1});
}

void Engine::State::Refit() {
  device.Finish();  // calls that read what is made anew, and writes to the weights
  packing.reset();
  bool moved = !pending.empty();
  for (auto& [index, data] : pending) {
    addresses.weights[index] = Address(data);
    weights[index] = std::move(data);
  }
  pending.clear();
  // Taken before the weights are read: a write from now on is seen as a change by the next check.
  Watch();
  for (Derived& buffer : derived) buffer.valid = false;
  ExpireCopies();
  if (moved) {
    DropPrograms();
    if (plan.symbols.empty()) GetShape({});
    return;
  }
  if (shapes.empty()) return;
  StartPacking(std::vector(shapes.begin(), shapes.end()));
  FinishPacking();
}

void Engine::State::ExpireCopies() {
  if (group->copies == nullptr) return;
  for (const ConstantData& weight : weights) group->copies->Expire({weight.bytes, weight.size});
  for (const Derived& made : derived) {
    group->copies->Expire({made.buffer.data(), static_cast<size_t>(made.buffer.bytes())});
  }
}

// Calls make the programs that they need anew: for weights at other addresses, and after a refit
// that failed half-way, and in a forked child.
void Engine::State::DropPrograms() {
  num_forks = NumForks();
  ++generation;
  packing.reset();
  shapes.clear();
  for (Derived& buffer : derived) buffer.valid = false;
}

}  // namespace stator
