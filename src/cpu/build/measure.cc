#include "cpu/build/measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <random>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"
#include "base/log.h"
#include "cpu/run/conv.h"
#include "cpu/run/gemm.h"
#include "runtime/buffer.h"

namespace stator {
namespace {

// What one tactic may take, once prepared: a model has about a hundred to measure in two seconds.
// The fastest of a few runs is near the fastest of many, since what disturbs a run only slows it.
constexpr double kBudgetSeconds = 6e-3;
constexpr int kMinRuns = 2, kMaxRuns = 20;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Normally distributed numbers, the same in every process.
template <typename T>
std::vector<T> MakeRandom() {
  std::vector<T> values(1 << 14);
  std::mt19937 engine(0);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  for (T& value : values) value = T(normal(engine));
  return values;
}

// Repeats them to fill the buffer, as floats where `dtype` is none that oneDNN multiplies.
void FillRandom(const DeviceBuffer& buffer, DType dtype) {
  auto fill = [&]<typename T>(T) {
    static const std::vector<T> block = MakeRandom<T>();
    size_t block_bytes = block.size() * sizeof(T), size = buffer.bytes();
    for (size_t at = 0; at < size; at += block_bytes) {
      std::memcpy(buffer.data() + at, block.data(), std::min(block_bytes, size - at));
    }
  };
  switch (dtype) {
    case DType::kFloat16: return fill(Float16{});
    case DType::kBFloat16: return fill(BFloat16{});
    default: return fill(float{});
  }
}

// The kernel's operands in memory of their own.
class Bench {
 public:
  Bench(const KernelSite& site, const Tactic& tactic) {
    step_.kind = tactic.kind;
    step_.attrs = tactic.attrs;
    step_site_.step = &step_;
    step_site_.body = *site.kernel->body;
    SymbolValues symbols = GuessSymbols(step_site_.body);
    for (const PlanTensor& tensor : site.inputs) {
      step_site_.inputs.push_back(Allocate(tensor, symbols));
      inputs_.push_back(step_site_.inputs.back().data);
      if (!IsConstant(tensor)) step_site_.inputs.back().data = nullptr;
    }
    for (const PlanTensor& tensor : site.outputs) {
      step_site_.outputs.push_back(Allocate(tensor, symbols));
      outputs_.push_back(std::exchange(step_site_.outputs.back().data, nullptr));
    }
  }

  double Run(int num_runs) {
    std::unique_ptr<PreparedStep> prepared = Prepare();
    if (prepared == nullptr) return kInfinity;
    prepared->Pack();
    DeviceBuffer ws(CpuDevice(), prepared->ws_bytes());
    StepArgs args{.inputs = inputs_.data(), .outputs = outputs_.data(), .ws = ws.data()};
    using Clock = std::chrono::steady_clock;
    auto time = [&] {
      Clock::time_point start = Clock::now();
      for (int i = 0; i < num_runs; ++i) prepared->Run(args);
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    double spent = time();  // warms up: touches pages, wakes threads
    double best = kInfinity;
    for (int i = 0; i < kMaxRuns && (i < kMinRuns || spent < kBudgetSeconds); ++i) {
      double seconds = time();
      spent += seconds;
      best = std::min(best, seconds / num_runs);
    }
    return best;
  }

 private:
  std::unique_ptr<PreparedStep> Prepare() const {
    switch (step_.kind) {
      case StepKind::kGemm: return FindGemm(step_site_, step_.attrs.GetString("form"));
      case StepKind::kConv: return FindConv(step_site_, step_.attrs.GetString("layout"));
      default: return nullptr;  // kinds with one tactic: nothing to choose
    }
  }

  TensorRef Allocate(const PlanTensor& tensor, const SymbolValues& symbols) {
    TensorRef ref{.data = nullptr,
                  .dtype = tensor.dtype,
                  .dims = EvalDims(tensor.dims, symbols),
                  .strides = EvalDims(tensor.strides, symbols)};
    int64_t elements = 1;
    for (int i = 0; i < ref.rank(); ++i) {
      elements += std::max<int64_t>(ref.dims[i] - 1, 0) * ref.strides[i];
    }
    buffers_.emplace_back(CpuDevice(), elements * static_cast<int64_t>(DTypeSize(ref.dtype)));
    FillRandom(buffers_.back(), ref.dtype);
    ref.data = buffers_.back().data();
    return ref;
  }

  Step step_;
  StepSite step_site_;
  std::vector<DeviceBuffer> buffers_;
  std::vector<std::byte*> inputs_, outputs_;
};

}  // namespace

double MeasureTactic(const KernelSite& site, const Tactic& tactic, int num_runs) {
  try {
    return Bench(site, tactic).Run(num_runs);
  } catch (const Error& error) {
    Log().debug("tactic {}{} cannot run: {}", StepKindName(tactic.kind), tactic.attrs.ToString(),
                error.what());
    return kInfinity;
  }
}

std::string CpuModelName() {
#if defined(__x86_64__)
  unsigned eax = 0, vendor[3] = {}, signature = 0, unused;
  __get_cpuid(0, &eax, &vendor[0], &vendor[2], &vendor[1]);
  __get_cpuid(1, &signature, &unused, &unused, &unused);
  unsigned family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
  unsigned model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
  return fmt::format("{} family {} model {}",
                     std::string_view(reinterpret_cast<const char*>(vendor), sizeof(vendor)),
                     family, model);
#else
  return "arm64";
#endif
}

}  // namespace stator
