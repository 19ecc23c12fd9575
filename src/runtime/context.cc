// Context: one caller's arena, and the way from a call's tensors to a program's pointers.

#include <algorithm>
#include <list>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/told_symbol.h"
#include "runtime/engine_state.h"

namespace stator {
namespace {

std::string DescribeTensor(const TensorRef& tensor) {
  return std::string(DTypeName(tensor.dtype)) +
         DimsToString(Dims(tensor.dims.begin(), tensor.dims.end()));
}

// "f32[s0, 4] with s0 in [1, 64]"
std::string DescribePort(const Plan& plan, const PlanPort& port) {
  std::string text = std::string(DTypeName(port.dtype)) + DimsToString(port.dims);
  std::set<std::string> used;
  for (const Dim& dim : port.dims) dim.CollectSymbols(used);
  const char* separator = " with ";
  for (const SymbolRange& symbol : plan.symbols) {
    if (!used.contains(symbol.name)) continue;
    text += fmt::format("{}{} in [{}, {}]", separator, symbol.name, symbol.min, symbol.max);
    separator = ", ";
  }
  return text;
}

[[noreturn]] void BadInput(const Plan& plan, size_t i, const TensorRef& found,
                           std::string_view why) {
  const PlanPort& port = plan.inputs[i];
  Fail(ErrorKind::kInvalidArgument, "input {} `{}`: expected {}, found {}{}", i, port.name,
       DescribePort(plan, port), DescribeTensor(found), why);
}

const SymbolRange* FindSymbol(const Plan& plan, const Dim& dim) {
  std::optional<std::string> name = FindToldSymbol(dim);
  for (const SymbolRange& symbol : plan.symbols) {
    if (name == symbol.name) return &symbol;
  }
  return nullptr;
}

// Takes the values of the symbols from the dims that tell one, and checks all others.
SymbolValues BindInputs(const Plan& plan, std::span<const TensorRef> inputs) {
  SymbolValues symbols;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const PlanPort& port = plan.inputs[i];
    if (inputs[i].dtype != port.dtype || inputs[i].dims.size() != port.dims.size()) {
      BadInput(plan, i, inputs[i], "");
    }
    for (size_t d = 0; d < port.dims.size(); ++d) {
      const SymbolRange* symbol = FindSymbol(plan, port.dims[d]);
      if (symbol == nullptr) continue;
      std::optional<int64_t> value = SolveSymbol(port.dims[d], inputs[i].dims[d]);
      if (!value || *value < symbol->min || *value > symbol->max) BadInput(plan, i, inputs[i], "");
      auto [it, inserted] = symbols.emplace(symbol->name, *value);
      if (!inserted && it->second != *value) {
        BadInput(plan, i, inputs[i],
                 fmt::format("; {} is {} by an input before it", symbol->name, it->second));
      }
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].dims != EvalDims(plan.inputs[i].dims, symbols)) {
      BadInput(plan, i, inputs[i], "");
    }
  }
  return symbols;
}

}  // namespace

struct Context::State {
  std::vector<TensorRef> prepared;  // the inputs of the last Prepare; empty data means none
  bool is_prepared = false;
  SymbolValues symbols;
  std::shared_ptr<const LoadedShape> shape;
  // What the shapes' programs keep for this caller; the last used first.
  struct Kept {
    std::shared_ptr<const LoadedShape> shape;
    std::unique_ptr<RunState> run;
  };
  std::list<Kept> kept;
  bool has_stale = false;  // whether some in `kept` may be no longer the engine's
  RunState* run = nullptr;
  DeviceStream stream = nullptr;
  DeviceBuffer arena, ws;
  std::vector<DeviceBuffer> scratch;  // one per input: its copy in the plan's strides
  std::vector<TensorRef> copies;      // one per input: the tensor in `scratch`
  std::vector<std::byte*> inputs, outputs;

  bool Matches(std::span<const TensorRef> tensors) const {
    if (!is_prepared || tensors.size() != prepared.size()) return false;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].dtype != prepared[i].dtype || tensors[i].dims != prepared[i].dims) {
        return false;
      }
    }
    return true;
  }

  void Load(Device& device, std::shared_ptr<const LoadedShape> loaded) {
    shape = std::move(loaded);
    Grow(device, arena, shape->bound.arena_bytes);
    Grow(device, ws, shape->program->ws_bytes());
    copies = shape->inputs;
    scratch.resize(copies.size());
    inputs.resize(copies.size());
    outputs.resize(shape->outputs.size());
    KeepRunState();
  }

  void KeepRunState() {
    auto it = std::ranges::find(kept, shape, &Kept::shape);
    if (it != kept.end()) {
      kept.splice(kept.begin(), kept, it);
      run = it->run.get();
      return;
    }
    std::unique_ptr<RunState> made = shape->program->MakeRunState();
    run = made.get();
    if (made == nullptr) return;
    kept.push_front({shape, std::move(made)});
    has_stale = true;
  }

  // Under the engine's lock.
  void DropStale() {
    if (!has_stale) return;
    kept.remove_if([&](const Kept& each) { return each.shape->generation != shape->generation; });
    has_stale = false;
  }

  static void Grow(Device& device, DeviceBuffer& buffer, int64_t bytes) {
    if (buffer.bytes() >= bytes) return;
    buffer = {};  // the old one goes first
    buffer = DeviceBuffer(device, bytes);
  }

  // The address that the program reads input `i` from.
  std::byte* BringInput(Device& device, size_t i, const TensorRef& tensor) {
    const TensorRef& expected = shape->inputs[i];
    if (tensor.data == nullptr) {
      if (tensor.num_elements() > 0) {
        Fail(ErrorKind::kInvalidArgument, "input {} `{}` has no data", i,
             shape->bound.plan->inputs[i].name);
      }
      return NoElements();
    }
    bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % device.alignment() == 0;
    if (aligned && IsSameLayout(tensor.dims, tensor.strides, expected.strides)) return tensor.data;
    Grow(device, scratch[i], Extent(expected));
    copies[i].data = scratch[i].data();
    device.Copy(tensor, copies[i], stream);
    return copies[i].data;
  }
};

Context::Context(std::shared_ptr<Engine> engine, DeviceStream stream)
    : engine_(std::move(engine)), state_(new State) {
  state_->stream = stream;
}

Context::~Context() = default;

std::span<const TensorRef> Context::Prepare(std::span<const TensorRef> inputs) {
  State& state = *state_;
  if (state.Matches(inputs)) return state.shape->outputs;
  const Plan& plan = engine_->plan();
  state.is_prepared = false;
  if (inputs.size() != plan.inputs.size()) {
    Fail(ErrorKind::kInvalidArgument, "plan @{} takes {} inputs, found {}", plan.name,
         plan.inputs.size(), inputs.size());
  }
  state.symbols = BindInputs(plan, inputs);
  state.Load(engine_->device(), engine_->GetShape(state.symbols));
  state.prepared.assign(inputs.begin(), inputs.end());
  state.is_prepared = true;
  return state.shape->outputs;
}

void Context::Run(std::span<const TensorRef> inputs, std::span<std::byte* const> outputs) {
  RunProgram(inputs, outputs,
             [](const Program& program, const RunArgs& args) { program.Run(args); });
}

std::vector<double> Context::Profile(std::span<const TensorRef> inputs,
                                     std::span<std::byte* const> outputs) {
  std::vector<double> seconds;
  RunProgram(inputs, outputs,
             [&](const Program& program, const RunArgs& args) { seconds = program.Profile(args); });
  return seconds;
}

// Calls fn(program, its arguments) for a call on these tensors.
template <typename Fn>
void Context::RunProgram(std::span<const TensorRef> inputs, std::span<std::byte* const> outputs,
                         Fn&& fn) {
  State& state = *state_;
  STATOR_CHECK(state.is_prepared && inputs.size() == state.inputs.size(),
               "a run without a Prepare for its inputs");
  STATOR_CHECK(outputs.size() == state.outputs.size(), "{} outputs, expected {}", outputs.size(),
               state.outputs.size());
  std::shared_lock lock(engine_->state_->group->mutex);
  // Weights moved meanwhile, or the process forked.
  while (state.shape->generation != engine_->state_->generation || engine_->state_->HasForked()) {
    lock.unlock();
    state.is_prepared = false;  // until it has succeeded
    state.Load(engine_->device(), engine_->GetShape(state.symbols));
    state.is_prepared = true;
    lock.lock();
  }
  state.DropStale();
  for (size_t i = 0; i < inputs.size(); ++i) {
    state.inputs[i] = state.BringInput(engine_->device(), i, inputs[i]);
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    state.outputs[i] = outputs[i] != nullptr ? outputs[i] : NoElements();
  }
  fn(*state.shape->program, RunArgs{.inputs = state.inputs,
                                    .outputs = state.outputs,
                                    .arena = state.arena.data(),
                                    .ws = state.ws.data(),
                                    .state = state.run,
                                    .stream = state.stream});
}

}  // namespace stator
