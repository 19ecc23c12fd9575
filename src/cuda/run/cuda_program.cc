#include "cuda/run/cuda_program.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "cuda/run/branches.h"
#include "cuda/run/capture_stream.h"
#include "cuda/run/library_step.h"
#include "cuda/run/step.h"
#include "runtime/bind.h"
#include "runtime/step_loader.h"

namespace stator {
namespace {

constexpr int64_t kWsAlignment = 256;

int64_t RoundUp(int64_t bytes) { return (bytes + kWsAlignment - 1) / kWsAlignment * kWsAlignment; }

class CopyStep final : public CudaStep {
 public:
  CopyStep(const CudaCopier& copier, std::vector<CudaCopier::Copy> copies)
      : copier_(copier), copies_(std::move(copies)) {}

  void Launch(const CudaStepArgs& args) const override {
    for (const CudaCopier::Copy& copy : copies_) {
      copier_.Launch(copy, args.inputs[0], args.outputs[0], args.stream);
    }
  }

  bool hides_pointers() const override { return copies_.size() > 1; }

  void Patch(CUgraphExec exec, CUgraphNode node, const CudaStepArgs& args) const override {
    copier_.Patch(copies_[0], args.inputs[0], args.outputs[0], exec, node);
  }

 private:
  const CudaCopier& copier_;
  std::vector<CudaCopier::Copy> copies_;
};

struct LoadedStep {
  std::unique_ptr<CudaStep> run;
  std::vector<int> bases;  // of its operands, inputs first
  const Step* step = nullptr;
};

// An input or output of the plan.
struct Port {
  int64_t bytes = 0;
  bool hidden = false;                   // a step hides its pointer
  int64_t staging_at = 0;                // of a hidden one: its own buffer in the workspace
  std::vector<CudaCopier::Copy> copies;  // between the buffer and the caller's tensor
};

// A node of a graph whose parameters hold callers' pointers.
struct PatchedNode {
  CUgraphNode node = nullptr;
  int step = -1;  // of the program, or:
  int port = -1;  // a copy of this port to or from its buffer
  int copy = 0;   // which of its copies
};

// What a context keeps for a program: its graph.
class CudaRunState final : public RunState {
 public:
  explicit CudaRunState(const Driver& driver) : driver_(driver) {}
  ~CudaRunState() override { DropGraph(); }

  void DropGraph() {
    if (exec != nullptr) driver_.GraphExecDestroy(exec);
    if (graph != nullptr) driver_.GraphDestroy(graph);
    exec = nullptr;
    graph = nullptr;
    nodes.clear();
  }

  bool has_run = false;  // once, step by step
  bool cannot_capture = false;
  CUgraph graph = nullptr;                    // the nodes are its
  CUgraphExec exec = nullptr;                 // null: none yet
  std::byte *arena = nullptr, *ws = nullptr;  // that the graph works on
  std::vector<std::byte*> ports, before;      // callers' pointers in the graph, now and before
  std::vector<bool> staged;  // by port: hidden, and its pointer changes; its own buffer is used
  std::vector<PatchedNode> nodes;
  std::vector<std::byte*> bases, operands;  // scratch of a call
  std::unique_ptr<CudaBranches> branches;   // of calls step by step; null: none yet

 private:
  const Driver& driver_;
};

class CudaProgram final : public Program {
 public:
  CudaProgram(CudaDevice& device, std::vector<LoadedStep> steps, PointerTable pointers,
              std::vector<Port> ports, int num_inputs, StepSchedule schedule)
      : device_(device),
        driver_(device.driver()),
        steps_(std::move(steps)),
        pointers_(std::move(pointers)),
        ports_(std::move(ports)),
        num_inputs_(num_inputs),
        schedule_(std::move(schedule)) {
    PlaceStaging();
    PlaceWorkspaces();
  }

  int64_t ws_bytes() const override { return ws_bytes_; }

  std::unique_ptr<RunState> MakeRunState() const override {
    auto state = std::make_unique<CudaRunState>(driver_);
    state->staged.resize(ports_.size(), false);
    state->bases.resize(pointers_.num_bases());
    state->operands.resize(pointers_.max_operands());
    return state;
  }

  void Run(const RunArgs& args) const override {
    CudaScope scope(driver_, device_.context());
    auto stream = static_cast<CUstream>(args.stream);
    auto* state = static_cast<CudaRunState*>(args.state);
    if (state == nullptr || !UseGraph(args, *state)) {
      RunSteps(args, FindBranches(state), Launch);
      return;
    }
    STATOR_CUDA(driver_, GraphLaunch, state->exec, stream);
  }

  std::vector<double> Profile(const RunArgs& args) const override {
    CudaScope scope(driver_, device_.context());
    Events events(driver_, steps_.size() + 1);
    size_t next = 0;
    auto stream = static_cast<CUstream>(args.stream);
    STATOR_CUDA(driver_, EventRecord, events[next++], stream);
    RunSteps(args, nullptr, [&](const LoadedStep& loaded, const CudaStepArgs& step_args) {
      loaded.run->Launch(step_args);
      STATOR_CUDA(driver_, EventRecord, events[next++], stream);
    });
    STATOR_CUDA(driver_, EventSynchronize, events[next - 1]);
    std::vector<double> seconds;
    for (size_t i = 0; i < steps_.size(); ++i) {
      float milliseconds = 0;
      STATOR_CUDA(driver_, EventElapsedTime, &milliseconds, events[i], events[i + 1]);
      seconds.push_back(milliseconds / 1e3);
    }
    return seconds;
  }

  void Pack(int step) override {
    CudaScope scope(driver_, device_.context());
    steps_[step].run->Pack(static_cast<CUstream>(device_.stream()));
  }

  bool Reads(int step, int input) const override { return steps_[step].run->Reads(input); }

  int64_t packed_bytes() const override {
    int64_t bytes = 0;
    for (const LoadedStep& loaded : steps_) bytes += loaded.run->packed_bytes();
    return bytes;
  }

 private:
  class Events {
   public:
    Events(const Driver& driver, size_t count) : driver_(driver) {
      for (size_t i = 0; i < count; ++i) {
        CUevent event = nullptr;
        STATOR_CUDA(driver_, EventCreate, &event, CU_EVENT_DEFAULT);
        events_.push_back(event);
      }
    }
    ~Events() {
      for (CUevent event : events_) driver_.EventDestroy(event);
    }
    Events(const Events&) = delete;
    CUevent operator[](size_t i) const { return events_[i]; }

   private:
    const Driver& driver_;
    std::vector<CUevent> events_;
  };

  static bool IsPort(int base) { return base >= PointerTable::kFirstPortBase; }
  Port& GetPort(int base) { return ports_[base - PointerTable::kFirstPortBase]; }

  void PlaceStaging() {
    for (const LoadedStep& loaded : steps_) {
      if (!loaded.run->hides_pointers()) continue;
      for (int base : loaded.bases) {
        if (IsPort(base)) GetPort(base).hidden = true;
      }
    }
    for (Port& port : ports_) {
      if (!port.hidden) continue;
      port.staging_at = staging_bytes_;
      staging_bytes_ = RoundUp(staging_bytes_ + port.bytes);
      port.copies = device_.copier().MakeDense(port.bytes, CudaDevice::kAlignment);
    }
  }

  // Steps of one stream share a workspace.
  void PlaceWorkspaces() {
    std::vector<int64_t> bytes(schedule_.num_streams, 0);
    for (size_t i = 0; i < steps_.size(); ++i) {
      int64_t& most = bytes[StreamOf(static_cast<int>(i))];
      most = std::max(most, steps_[i].run->ws_bytes());
    }
    ws_bytes_ = staging_bytes_;
    for (int64_t size : bytes) {
      ws_at_.push_back(ws_bytes_);
      ws_bytes_ = RoundUp(ws_bytes_ + size);
    }
    starts_early_.assign(steps_.size(), true);
    if (!has_branches()) return;
    std::vector<bool> seen(schedule_.num_streams, false);
    for (size_t i = 0; i < steps_.size(); ++i) {
      int stream = schedule_.streams[i];
      starts_early_[i] = seen[stream] && schedule_.waits[i].empty();
      seen[stream] = true;
    }
  }

  bool has_branches() const { return schedule_.num_streams > 1; }
  int StreamOf(int step) const { return has_branches() ? schedule_.streams[step] : 0; }

  // ---- step by step

  static void Launch(const LoadedStep& loaded, const CudaStepArgs& args) {
    loaded.run->Launch(args);
  }

  CudaBranches* FindBranches(CudaRunState* state) const {
    if (state == nullptr || !has_branches()) return nullptr;
    if (state->branches == nullptr) {
      state->branches = std::make_unique<CudaBranches>(driver_, schedule_);
    }
    return state->branches.get();
  }

  // Calls run(step, its arguments) in order, on callers' tensors. Without branches, all steps are
  // on the caller's stream.
  template <typename Fn>
  void RunSteps(const RunArgs& args, CudaBranches* branches, Fn&& run) const {
    std::vector<std::byte*> bases(pointers_.num_bases()), operands(pointers_.max_operands());
    pointers_.SetBases(args, bases.data());
    auto caller = static_cast<CUstream>(args.stream);
    if (branches == nullptr) {
      for (size_t i = 0; i < steps_.size(); ++i) {
        RunStep(static_cast<int>(i), bases, operands, args, caller, run);
      }
      return;
    }
    branches->Fork(caller);
    try {
      for (int i = 0; i < static_cast<int>(steps_.size()); ++i) {
        RunStep(i, bases, operands, args, branches->Enter(i), run);
        branches->Leave(i);
      }
    } catch (...) {  // what is enqueued may still run: the caller's next work comes after it
      try {
        branches->Join();
      } catch (const Error&) {
      }
      throw;
    }
    branches->Join();
  }

  template <typename Fn>
  void RunStep(int i, const std::vector<std::byte*>& bases, std::vector<std::byte*>& operands,
               const RunArgs& args, CUstream stream, Fn&& run) const {
    const LoadedStep& loaded = steps_[i];
    pointers_.Resolve(i, bases.data(), operands.data());
    try {
      run(loaded, CudaStepArgs{.inputs = operands.data(),
                               .outputs = operands.data() + pointers_.num_inputs(i),
                               .ws = args.ws + ws_at_[StreamOf(i)],
                               .stream = stream,
                               .may_start_early = starts_early_[i]});
    } catch (const Error& error) {
      throw Error(error.kind(), error.message(), loaded.step->origin, error.where());
    }
  }

  // ---- as a graph

  // Whether this run replays a graph, which is then there and has the call's pointers.
  bool UseGraph(const RunArgs& args, CudaRunState& state) const {
    if (state.cannot_capture || !std::exchange(state.has_run, true)) return false;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    STATOR_CUDA(driver_, StreamIsCapturing, static_cast<CUstream>(args.stream), &status);
    if (status != CU_STREAM_CAPTURE_STATUS_NONE) return false;
    bool fits = state.exec != nullptr && state.arena == args.arena && state.ws == args.ws;
    if (fits && !StageMoved(args, state)) {
      SetPointers(args, state);
      return true;
    }
    if (state.exec != nullptr) {  // it may still run
      STATOR_CUDA(driver_, StreamSynchronize, static_cast<CUstream>(args.stream));
    }
    state.DropGraph();
    try {
      Capture(args, state);
    } catch (const Error& error) {
      state.DropGraph();
      state.cannot_capture = true;
      Log().warn("an engine's launches are not made a CUDA graph: {}", error.what());
    }
    return state.exec != nullptr;
  }

  // Stages the hidden ports whose pointers are no longer the graph's; whether there were some.
  // Those that stay where they are, such as weights that a caller passes, cost no copy.
  bool StageMoved(const RunArgs& args, CudaRunState& state) const {
    bool moved = false;
    for (int i = 0; i < static_cast<int>(ports_.size()); ++i) {
      if (!ports_[i].hidden || state.staged[i]) continue;
      const std::byte* now = i < num_inputs_ ? args.inputs[i] : args.outputs[i - num_inputs_];
      if (now == state.ports[i]) continue;
      state.staged[i] = true;
      moved = true;
    }
    return moved;
  }

  // Bases of a run in a graph: staged ports lie in the workspace.
  void SetGraphBases(const RunArgs& args, CudaRunState& state) const {
    pointers_.SetBases(args, state.bases.data());
    state.ports.assign(state.bases.begin() + PointerTable::kFirstPortBase, state.bases.end());
    for (size_t i = 0; i < ports_.size(); ++i) {
      if (!state.staged[i]) continue;
      state.bases[PointerTable::kFirstPortBase + i] = args.ws + ports_[i].staging_at;
    }
  }

  void Capture(const RunArgs& args, CudaRunState& state) const {
    SetGraphBases(args, state);
    std::optional<CudaBranches> branches;
    if (has_branches()) branches.emplace(driver_, schedule_);
    CaptureStream capture(driver_);
    // Keeps the node that `launch` makes on a stream, if it makes one.
    auto keep = [&](PatchedNode patched, CUstream stream, auto&& launch) {
      CUgraphNode before = capture.LastNode(stream);
      launch();
      patched.node = capture.LastNode(stream);
      if (patched.node != nullptr && patched.node != before) state.nodes.push_back(patched);
    };
    auto copy_ports = [&](int begin, int end) {
      for (int port = begin; port < end; ++port) {
        if (!state.staged[port]) continue;
        int count = static_cast<int>(ports_[port].copies.size());
        for (int copy = 0; copy < count; ++copy) {
          auto [from, to] = CopyEnds(port, state);
          keep({.port = port, .copy = copy}, capture.get(), [&] {
            device_.copier().Launch(ports_[port].copies[copy], from, to, capture.get());
          });
        }
      }
    };
    copy_ports(0, num_inputs_);
    if (branches) branches->Fork(capture.get());
    for (int i = 0; i < static_cast<int>(steps_.size()); ++i) {
      CUstream stream = branches ? branches->Enter(i) : capture.get();
      auto launch = [&] { RunStep(i, state.bases, state.operands, args, stream, Launch); };
      if (IsPatched(i, state)) {
        keep({.step = i}, stream, launch);
      } else {
        launch();
      }
      if (branches) branches->Leave(i);
    }
    if (branches) branches->Join();
    copy_ports(num_inputs_, static_cast<int>(ports_.size()));
    state.graph = capture.End();
    STATOR_CUDA(driver_, GraphInstantiateWithFlags, &state.exec, state.graph, 0);
    state.arena = args.arena;
    state.ws = args.ws;
  }

  // Whether a step's node holds callers' pointers.
  bool IsPatched(int step, const CudaRunState& state) const {
    const LoadedStep& loaded = steps_[step];
    return !loaded.run->hides_pointers() &&
           std::ranges::any_of(loaded.bases, [&](int base) { return IsCallers(base, state); });
  }

  // Whether an operand on this base lies in a caller's tensor when a graph runs.
  static bool IsCallers(int base, const CudaRunState& state) {
    return IsPort(base) && !state.staged[base - PointerTable::kFirstPortBase];
  }

  // From where to where a staged port is copied.
  std::pair<const std::byte*, std::byte*> CopyEnds(int port, const CudaRunState& state) const {
    std::byte* staging = state.bases[PointerTable::kFirstPortBase + port];
    bool input = port < num_inputs_;
    return {input ? state.ports[port] : staging, input ? staging : state.ports[port]};
  }

  // Brings this call's pointers into the graph.
  void SetPointers(const RunArgs& args, CudaRunState& state) const {
    auto middle = state.ports.begin() + num_inputs_;
    bool same = std::equal(args.inputs.begin(), args.inputs.end(), state.ports.begin(), middle) &&
                std::equal(args.outputs.begin(), args.outputs.end(), middle, state.ports.end());
    if (same) return;
    state.before.swap(state.ports);
    SetGraphBases(args, state);
    try {
      for (const PatchedNode& patched : state.nodes) SetPointers(patched, args, state);
    } catch (...) {
      state.DropGraph();  // half of it has the new ones
      throw;
    }
  }

  void SetPointers(const PatchedNode& patched, const RunArgs& args, CudaRunState& state) const {
    auto changed = [&](int port) { return state.ports[port] != state.before[port]; };
    if (patched.port >= 0) {
      if (!changed(patched.port)) return;
      auto [from, to] = CopyEnds(patched.port, state);
      device_.copier().Patch(ports_[patched.port].copies[patched.copy], from, to, state.exec,
                             patched.node);
      return;
    }
    const LoadedStep& loaded = steps_[patched.step];
    bool any = std::ranges::any_of(loaded.bases, [&](int base) {
      return IsCallers(base, state) && changed(base - PointerTable::kFirstPortBase);
    });
    if (!any) return;
    RunStep(patched.step, state.bases, state.operands, args, nullptr,
            [&](const LoadedStep& step, const CudaStepArgs& step_args) {
              step.run->Patch(state.exec, patched.node, step_args);
            });
  }

  CudaDevice& device_;
  const Driver& driver_;
  std::vector<LoadedStep> steps_;
  PointerTable pointers_;
  std::vector<Port> ports_;  // inputs, then outputs
  int num_inputs_ = 0;
  StepSchedule schedule_;
  std::vector<int64_t> ws_at_;      // by stream
  std::vector<bool> starts_early_;  // by step: whether it may
  int64_t staging_bytes_ = 0;       // at the front of the workspace
  int64_t ws_bytes_ = 0;
};

// ---- loading

// The bytes that the addresses of a copy's tensors are multiples of: storages are aligned.
int FindAlignment(const BoundPlan& bound, const Step& step) {
  int64_t bits = CudaDevice::kAlignment;
  for (int tensor : {step.inputs[0], step.outputs[0]}) {
    bits |= bound.tensor_offsets[tensor] | reinterpret_cast<intptr_t>(bound.tensors[tensor].data);
  }
  return static_cast<int>(bits & -bits);
}

std::unique_ptr<CudaStep> Prepare(CudaDevice& device, const BoundPlan& bound,
                                  const CudaStepSite& site) {
  if (std::optional<StepLaunch> launch = FindLaunch(site.step->attrs)) {
    const PlanCode& code = bound.plan->code[launch->code];
    return PrepareKernel(site, *launch, device.driver(), device.LoadModule(code), code.entry);
  }
  if (site.step->kind == StepKind::kCopy) {
    const CudaCopier& copier = device.copier();
    return std::make_unique<CopyStep>(
        copier, copier.Make(site.inputs[0], site.outputs[0], FindAlignment(bound, *site.step)));
  }
  if (site.step->attrs.Find("library") != nullptr) {
    if (std::unique_ptr<CudaStep> step = PrepareLibraryStep(site, device.libraries())) return step;
    Fail(ErrorKind::kUnsupported, "no library on this machine runs the {} step{} on {}",
         StepKindName(site.step->kind), site.step->attrs.ToString(), device.name());
  }
  Fail(ErrorKind::kUnsupported, "a {} step without code for {}", StepKindName(site.step->kind),
       device.name());
}

std::vector<Port> MakePorts(const BoundPlan& bound) {
  std::vector<Port> ports;
  for (const auto* list : {&bound.plan->inputs, &bound.plan->outputs}) {
    for (const PlanPort& port : *list) {
      TensorRef ref = BindPort(port, bound.symbols);
      ports.push_back({.bytes = ref.num_elements() > 0 ? Extent(ref) : 0});
    }
  }
  return ports;
}

}  // namespace

std::unique_ptr<Program> LoadCudaProgram(CudaDevice& device, const BoundPlan& bound,
                                         std::span<const Step> steps) {
  if (!bound.plan->target.starts_with("cuda")) {
    Fail(ErrorKind::kUnsupported, "the plan was compiled for {}, not for a CUDA device",
         bound.plan->target);
  }
  CudaScope scope(device.driver(), device.context());
  bool is_call = steps.data() == bound.plan->steps.data();  // not the prologue
  SiteReader reader(bound, steps);
  PointerTable pointers(bound, steps);
  std::vector<LoadedStep> loaded;
  for (size_t i = 0; i < steps.size(); ++i) {
    StepSite site = reader.Read(steps[i]);
    CudaStepSite cuda_site{.step = site.step,
                           .body = std::move(site.body),
                           .inputs = std::move(site.inputs),
                           .outputs = std::move(site.outputs),
                           .symbols = &bound.symbols};
    try {
      loaded.push_back({.run = Prepare(device, bound, cuda_site),
                        .bases = pointers.Bases(static_cast<int>(i)),
                        .step = &steps[i]});
    } catch (const Error& error) {
      throw Error(error.kind(), error.message(), steps[i].origin, error.where());
    }
  }
  return std::make_unique<CudaProgram>(
      device, std::move(loaded), std::move(pointers), MakePorts(bound),
      static_cast<int>(bound.plan->inputs.size()), is_call ? bound.schedule : StepSchedule());
}

}  // namespace stator
