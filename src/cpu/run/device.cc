// The CPU engine: a plan's steps, prepared once and run in order.
//
// In:  a bound plan and some of its steps. Out: a Program of prepared steps.
// Invariants: Run allocates nothing itself; its pointers live at the front of the caller's
// workspace, so threads share a program. Steps with equal bodies share one generated kernel inside
// oneDNN. Work is split for as many threads as there are at Load; a
// Run with fewer is right, too, and with more is no faster.
#include "runtime/device.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>

#include <sys/mman.h>

#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu/run/onednn.h"
#include "cpu/run/parallel.h"
#include "cpu/run/step.h"
#include "runtime/step_loader.h"

namespace stator {
namespace {

constexpr int64_t kAlignment = 64;

int64_t RoundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

struct LoadedStep {
  std::shared_ptr<PreparedStep> prepared;  // maybe by programs under other symbol values, too
  const Step* step = nullptr;
  bool has_static_body = false;
};

class CpuProgram final : public Program {
 public:
  CpuProgram(std::vector<LoadedStep> steps, PointerTable pointers)
      : steps_(std::move(steps)), pointers_(std::move(pointers)), num_threads_(NumThreads()) {
    for (const LoadedStep& loaded : steps_) {
      ws_bytes_ = std::max(ws_bytes_, loaded.prepared->ws_bytes());
    }
    int num_pointers = pointers_.num_bases() + pointers_.max_operands();
    pointer_bytes_ = RoundUp(num_pointers * sizeof(std::byte*), kAlignment);
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

  bool IsPacked(int step) const override { return steps_[step].prepared->IsPacked(); }

  bool Reads(int step, int input) const override { return steps_[step].prepared->Reads(input); }

  std::span<const LoadedStep> steps() const { return steps_; }
  int num_threads() const { return num_threads_; }

 private:
  // Calls run(step, its arguments) in order. An error leaves with the origin of the step.
  template <typename Fn>
  void RunSteps(const RunArgs& args, Fn&& run) const {
    std::byte** bases = reinterpret_cast<std::byte**>(args.ws);
    std::byte** operands = bases + pointers_.num_bases();
    pointers_.SetBases(args, bases);
    std::byte* ws = args.ws + pointer_bytes_;
    const LoadedStep* current = nullptr;
    try {
      for (size_t i = 0; i < steps_.size(); ++i) {
        current = &steps_[i];
        int step = static_cast<int>(i);
        pointers_.Resolve(step, bases, operands);
        run(*current,
            StepArgs{
                .inputs = operands, .outputs = operands + pointers_.num_inputs(step), .ws = ws});
      }
    } catch (const Error& error) {
      throw Error(error.kind(), error.message(), current->step->origin, error.where());
    }
  }

  std::vector<LoadedStep> steps_;
  PointerTable pointers_;
  int num_threads_ = 0;        // that the work is split for
  int64_t pointer_bytes_ = 0;  // of the bases and one step's operands, at the front of the ws
  int64_t ws_bytes_ = 0;
};

// ---- loading
std::unique_ptr<PreparedStep> Prepare(const StepSite& site) {
  switch (site.step->kind) {
    case StepKind::kReference: return PrepareNode(site);
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

bool IsSame(const TensorRef& lhs, const TensorRef& rhs) {
  return lhs.data == rhs.data && lhs.dims == rhs.dims && lhs.strides == rhs.strides;
}

// A program that runs already, and what it was bound to.
struct Loaded {
  const BoundPlan& bound;
  const CpuProgram& program;
};

// The step as another program has it, if it is the same there; else null.
const LoadedStep* FindShared(const BoundPlan& bound, const Step& step, int index,
                             const std::optional<Loaded>& other) {
  if (!other || other->program.num_threads() != NumThreads()) return nullptr;
  const LoadedStep& loaded = other->program.steps()[index];
  auto is_same = [&](int tensor) {
    return IsSame(bound.tensors[tensor], other->bound.tensors[tensor]);
  };
  bool shared = loaded.has_static_body && std::ranges::all_of(step.inputs, is_same) &&
                std::ranges::all_of(step.outputs, is_same);
  return shared ? &loaded : nullptr;
}

std::unique_ptr<Program> LoadProgram(const BoundPlan& bound, std::span<const Step> steps,
                                     const std::optional<Loaded>& other) {
  SiteReader reader(bound, steps);
  std::vector<LoadedStep> loaded;
  for (const Step& step : steps) {
    if (const auto* shared = FindShared(bound, step, static_cast<int>(loaded.size()), other)) {
      loaded.push_back(*shared);
      continue;
    }
    try {
      loaded.push_back({.prepared = PrepareAnyhow(reader.Read(step)),
                        .step = &step,
                        .has_static_body = reader.HasStaticBody(step)});
    } catch (const Error& error) {
      throw Error(error.kind(), error.message(), step.origin, error.where());
    }
  }
  return std::make_unique<CpuProgram>(std::move(loaded), PointerTable(bound, steps));
}

// ---- the device
class Cpu final : public Device {
 public:
  std::string_view name() const override { return "cpu"; }

  std::unique_ptr<Program> Load(const BoundPlan& bound, std::span<const Step> steps) override {
    return LoadProgram(bound, steps, std::nullopt);
  }

  std::unique_ptr<Program> LoadBeside(const BoundPlan& bound, std::span<const Step> steps,
                                      const BoundPlan& other, const Program& program) override {
    return LoadProgram(bound, steps, Loaded{other, static_cast<const CpuProgram&>(program)});
  }

  std::unique_ptr<PackedCopies> MakePackedCopies() override {
    return std::make_unique<OneDnnCopies>();
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

  bool packs_in_background() const override { return true; }
  void EnterBackground() override { UseOneThread(); }
  void RunInOneRegion(const std::function<void()>& work) override { InOneRegion(work); }

  void Copy(const TensorRef& from, const TensorRef& to, DeviceStream) override {
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
