// The CPU engine: a plan's steps, prepared once and run in order.
//
// In:  a bound plan and some of its steps. Out: a Program of prepared steps and, for each operand,
// a recipe that turns the pointers of a call into the operand's: a base and a distance from it.
// Invariants: Run allocates nothing itself; its pointers live at the front of the caller's
// workspace, so threads share a program. Steps with equal bodies share one parsed graph (and,
// inside oneDNN, one generated kernel). Work is split for as many threads as there are at Load; a
// Run with fewer is right, too, and with more is no faster.
#include "runtime/device.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <set>

#include <sys/mman.h>

#include "base/error.h"
#include "cpu/run/step.h"
#include "ir/parse.h"
#include "ops/evaluate.h"

namespace stator {
namespace {

constexpr int64_t kAlignment = 64;

int64_t RoundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// The bases of a call: null, from which an offset is an address (constants); the arena; then the
// inputs and the outputs.
constexpr int64_t kConstantBase = 0, kArenaBase = 1, kFirstPortBase = 2;

// An operand starts `offset` bytes from a base.
struct PointerRecipe {
  int64_t base = 0;
  intptr_t offset = 0;
};

struct LoadedStep {
  std::unique_ptr<PreparedStep> prepared;
  int first_operand = 0;  // its inputs among the recipes, then its outputs
  int num_inputs = 0;
  int num_outputs = 0;
  const Step* step = nullptr;
};

class CpuProgram final : public Program {
 public:
  CpuProgram(std::vector<LoadedStep> steps, std::vector<PointerRecipe> recipes, int64_t num_bases)
      : steps_(std::move(steps)), recipes_(std::move(recipes)), num_bases_(num_bases) {
    int64_t num_operands = 0;
    for (const LoadedStep& loaded : steps_) {
      num_operands = std::max<int64_t>(num_operands, loaded.num_inputs + loaded.num_outputs);
      ws_bytes_ = std::max(ws_bytes_, loaded.prepared->ws_bytes());
    }
    pointer_bytes_ = RoundUp((num_bases_ + num_operands) * sizeof(std::byte*), kAlignment);
    ws_bytes_ += pointer_bytes_;
  }

  int64_t ws_bytes() const override { return ws_bytes_; }

  void Run(const RunArgs& args) const override {
    RunSteps(args, [](const LoadedStep& loaded, const StepArgs& step_args) {
      loaded.prepared->Run(step_args);
    });
  }

  std::vector<double> Profile(const RunArgs& args) const override {
    using Clock = std::chrono::steady_clock;
    std::vector<double> seconds;
    seconds.reserve(steps_.size());
    RunSteps(args, [&](const LoadedStep& loaded, const StepArgs& step_args) {
      Clock::time_point start = Clock::now();
      loaded.prepared->Run(step_args);
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    });
    return seconds;
  }

  void Pack(int step) override { steps_[step].prepared->Pack(); }

  bool Reads(int step, int input) const override { return steps_[step].prepared->Reads(input); }

  int64_t packed_bytes() const override {
    int64_t bytes = 0;
    for (const LoadedStep& loaded : steps_) bytes += loaded.prepared->packed_bytes();
    return bytes;
  }

 private:
  // Calls run(step, its arguments) in order. An error leaves with the origin of the step.
  template <typename Fn>
  void RunSteps(const RunArgs& args, Fn&& run) const {
    // A prologue runs without inputs and outputs.
    int64_t num_ports = static_cast<int64_t>(args.inputs.size() + args.outputs.size());
    STATOR_CHECK(num_ports == 0 || num_ports == num_bases_ - kFirstPortBase,
                 "{} inputs and outputs, expected {}", num_ports, num_bases_ - kFirstPortBase);
    std::byte** bases = reinterpret_cast<std::byte**>(args.ws);
    bases[kConstantBase] = nullptr;
    bases[kArenaBase] = args.arena;
    std::byte** next = std::ranges::copy(args.inputs, bases + kFirstPortBase).out;
    next = std::ranges::copy(args.outputs, next).out;
    std::byte* ws = args.ws + pointer_bytes_;
    const LoadedStep* current = nullptr;
    try {
      for (const LoadedStep& loaded : steps_) {
        current = &loaded;
        const PointerRecipe* recipe = &recipes_[loaded.first_operand];
        int num_operands = loaded.num_inputs + loaded.num_outputs;
        for (int i = 0; i < num_operands; ++i) {
          next[i] = reinterpret_cast<std::byte*>(reinterpret_cast<intptr_t>(bases[recipe[i].base]) +
                                                 recipe[i].offset);
        }
        run(loaded, StepArgs{.inputs = next, .outputs = next + loaded.num_inputs, .ws = ws});
      }
    } catch (const Error& error) {
      throw Error(error.kind(), error.message(), current->step->origin, error.where());
    }
  }

  std::vector<LoadedStep> steps_;
  std::vector<PointerRecipe> recipes_;
  int64_t num_bases_ = 0;
  int64_t pointer_bytes_ = 0;  // of the bases and one step's operands, at the front of the ws
  int64_t ws_bytes_ = 0;
};

// ---- loading
std::unique_ptr<PreparedStep> Prepare(const StepSite& site) {
  switch (site.step->kind) {
    case StepKind::kReference: return PrepareReference(site);
    case StepKind::kPointwise: return PreparePointwise(site);
    case StepKind::kRowwise: return PrepareRowwise(site);
    case StepKind::kReduce: return PrepareReduce(site);
    case StepKind::kGemm: return PrepareGemm(site);
    case StepKind::kConv: return PrepareConv(site);
    case StepKind::kAttention: return PrepareAttention(site);
    case StepKind::kPool: return PreparePool(site);
    case StepKind::kGather: return PrepareGather(site);
    case StepKind::kCopy: return PrepareCopy(site);
  }
  Fail(ErrorKind::kUnsupported, "step kind {}", static_cast<int>(site.step->kind));
}

// What a step's own way cannot run, the reference kernels do.
std::unique_ptr<PreparedStep> PrepareAnyhow(const StepSite& site) {
  try {
    return Prepare(site);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported || site.step->kind == StepKind::kCopy) throw;
    return PrepareReference(site);
  }
}

class Loader {
 public:
  Loader(const BoundPlan& bound, std::span<const Step> steps) : bound_(bound), steps_(steps) {
    for (const Step& step : steps) {
      for (int output : step.outputs) written_.insert(Storage(output));
    }
  }

  std::unique_ptr<Program> Run() {
    std::vector<LoadedStep> loaded;
    loaded.reserve(steps_.size());
    for (const Step& step : steps_) loaded.push_back(Load(step));
    int64_t num_bases = kFirstPortBase + static_cast<int64_t>(bound_.plan->inputs.size() +
                                                              bound_.plan->outputs.size());
    return std::make_unique<CpuProgram>(std::move(loaded), std::move(recipes_), num_bases);
  }

 private:
  std::pair<StorageKind, int> Storage(int tensor) const {
    const PlanTensor& plan_tensor = bound_.plan->tensors[tensor];
    return {plan_tensor.storage, plan_tensor.index};
  }

  LoadedStep Load(const Step& step) {
    StepSite site{.step = &step, .body = GetBody(step.body), .inputs = {}, .outputs = {}};
    LoadedStep loaded{.prepared = nullptr,
                      .first_operand = static_cast<int>(recipes_.size()),
                      .num_inputs = static_cast<int>(step.inputs.size()),
                      .num_outputs = static_cast<int>(step.outputs.size()),
                      .step = &step};
    for (int input : step.inputs) {
      site.inputs.push_back(bound_.tensors[input]);
      // A constant that these very steps make has no content yet: nothing may be derived from it.
      if (written_.contains(Storage(input))) site.inputs.back().data = nullptr;
      recipes_.push_back(MakeRecipe(input));
    }
    for (int output : step.outputs) {
      site.outputs.push_back(bound_.tensors[output]);
      site.outputs.back().data = nullptr;
      recipes_.push_back(MakeRecipe(output));
    }
    try {
      loaded.prepared = PrepareAnyhow(site);
    } catch (const Error& error) {
      throw Error(error.kind(), error.message(), step.origin, error.where());
    }
    return loaded;
  }

  const Graph& GetBody(const std::string& text) {
    auto [it, inserted] = bodies_.try_emplace(text);
    if (inserted && !text.empty()) {
      it->second = ParseGraph(text);
      if (!bound_.symbols.empty()) ResolveSymbols(it->second, bound_.symbols);
    }
    return it->second;
  }

  PointerRecipe MakeRecipe(int tensor) const {
    auto [storage, index] = Storage(tensor);
    int64_t offset = bound_.tensor_offsets[tensor];
    switch (storage) {
      case StorageKind::kInput: return {kFirstPortBase + index, offset};
      case StorageKind::kOutput:
        return {kFirstPortBase + static_cast<int64_t>(bound_.plan->inputs.size()) + index, offset};
      case StorageKind::kArena: return {kArenaBase, bound_.arena_offsets[index] + offset};
      case StorageKind::kWeight:
      case StorageKind::kLiteral:
      case StorageKind::kDerived:
        return {kConstantBase, reinterpret_cast<intptr_t>(bound_.tensors[tensor].data)};
    }
    __builtin_unreachable();
  }

  const BoundPlan& bound_;
  std::span<const Step> steps_;
  std::set<std::pair<StorageKind, int>> written_;
  std::map<std::string_view, Graph> bodies_;
  std::vector<PointerRecipe> recipes_;
};

// ---- the device
class Cpu final : public Device {
 public:
  std::string_view name() const override { return "cpu"; }

  std::unique_ptr<Program> Load(const BoundPlan& bound, std::span<const Step> steps) override {
    return Loader(bound, steps).Run();
  }

  std::byte* Allocate(int64_t bytes) override {
    bool huge = bytes >= kHugePage;
    int64_t unit = huge ? kHugePage : kAlignment;
    int64_t size = RoundUp(std::max<int64_t>(bytes, 1), unit);
    void* data = std::aligned_alloc(unit, size);
    if (data == nullptr) {
      Fail(ErrorKind::kOutOfMemory, "cannot allocate {} bytes of host memory", bytes);
    }
    // Fewer page faults and TLB misses; a hint that may be refused. Not for the last, partial huge
    // page: a few used bytes would make all of it resident.
    if (huge) madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
    return static_cast<std::byte*>(data);
  }

  void Free(std::byte* data) override { std::free(data); }

  void Discard(std::byte* data, int64_t bytes) override {
    int64_t begin = RoundUp(reinterpret_cast<intptr_t>(data), kPage);
    int64_t end = (reinterpret_cast<intptr_t>(data) + bytes) / kPage * kPage;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }

  void Copy(const TensorRef& from, const TensorRef& to) override {
    StepSite site{.step = nullptr, .body = {}, .inputs = {from}, .outputs = {to}};
    std::unique_ptr<PreparedStep> copy = PrepareCopy(site);
    STATOR_CHECK(copy->ws_bytes() == 0, "a copy needs a workspace");
    copy->Run({.inputs = &from.data, .outputs = &to.data, .ws = nullptr});
  }

 private:
  static constexpr int64_t kPage = 4096, kHugePage = int64_t{2} << 20;
};

}  // namespace

Device& CpuDevice() {
  static Cpu device;
  return device;
}

}  // namespace stator
