#include "cuda/build/cuda_measure.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "cuda/build/compile_kernels.h"
#include "cuda/run/library_step.h"
#include "runtime/bind.h"
#include "runtime/buffer.h"

namespace stator {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kLaunches = 8, kRounds = 3;

// Normally distributed values of the dtype, the same in every process: sums of
// products stay small. Integers are zeros, which are in range as indices.
std::vector<std::byte> MakeRandom(DType dtype, int64_t count) {
  std::vector<std::byte> bytes(count * DTypeSize(dtype));
  std::mt19937 engine(0);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  for (int64_t i = 0; i < count; ++i) {
    float value = normal(engine);
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    std::byte* to = bytes.data() + i * DTypeSize(dtype);
    if (dtype == DType::kFloat32) std::memcpy(to, &value, sizeof value);
    if (dtype == DType::kFloat64) {
      double wide = value;
      std::memcpy(to, &wide, sizeof wide);
    }
    uint16_t half = 0;
    if (dtype == DType::kBFloat16) half = static_cast<uint16_t>(bits >> 16);
    if (dtype == DType::kFloat16 && std::abs(value) > 1e-4f) {
      half = static_cast<uint16_t>((bits >> 16 & 0x8000) | (((bits >> 23 & 0xff) - 112) << 10) |
                                   (bits >> 13 & 0x3ff));
    }
    if (half != 0) std::memcpy(to, &half, sizeof half);
  }
  return bytes;
}

// A random block repeated over a buffer of the device.
void FillRandom(CudaDevice& device, DType dtype, const DeviceBuffer& buffer) {
  constexpr int64_t kBlock = 1 << 16;
  int64_t size = static_cast<int64_t>(DTypeSize(dtype));
  static thread_local std::map<DType, std::vector<std::byte>> blocks;
  std::vector<std::byte>& block = blocks[dtype];
  if (block.empty()) block = MakeRandom(dtype, kBlock / size);
  const Driver& driver = device.driver();
  auto stream = static_cast<CUstream>(device.stream());
  for (int64_t at = 0; at < buffer.bytes(); at += kBlock) {
    auto to = reinterpret_cast<CUdeviceptr>(buffer.data() + at);
    STATOR_CUDA(driver, MemcpyHtoDAsync, to, block.data(),
                std::min<int64_t>(block.size(), buffer.bytes() - at), stream);
  }
}

// The kernel's operands in memory of their own, and the step that runs on them.
class Bench {
 public:
  Bench(const KernelSite& site, const Tactic& tactic, const Target& target, CudaDevice& device)
      : measured_(site, tactic), device_(device), driver_(device.driver()) {
    CudaStepSite& step_site = measured_.site();
    for (size_t i = 0; i < site.inputs.size(); ++i) {
      inputs_.push_back(Allocate(step_site.inputs[i]));
      if (IsConstant(site.inputs[i])) step_site.inputs[i].data = inputs_.back();
    }
    for (const TensorRef& output : step_site.outputs) outputs_.push_back(Allocate(output));
    Prepare(site, tactic, target);
  }

  double Run(int num_runs) {
    if (step_ == nullptr) return kInfinity;
    auto stream = static_cast<CUstream>(device_.stream());
    step_->Pack(stream);
    DeviceBuffer ws(device_, step_->ws_bytes());
    CudaStepArgs args{
        .inputs = inputs_.data(), .outputs = outputs_.data(), .ws = ws.data(), .stream = stream};
    step_->Launch(args);  // loads what is loaded lazily, outside of a capture
    STATOR_CUDA(driver_, StreamSynchronize, stream);
    int count = kLaunches * num_runs;
    STATOR_CUDA(driver_, StreamBeginCapture, stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    CUgraph graph = nullptr;
    try {
      for (int i = 0; i < count; ++i) step_->Launch(args);
    } catch (...) {  // the stream must not stay in the capture
      driver_.StreamEndCapture(stream, &graph);
      if (graph != nullptr) driver_.GraphDestroy(graph);
      throw;
    }
    STATOR_CUDA(driver_, StreamEndCapture, stream, &graph);
    CUgraphExec exec = nullptr;
    CUresult result = driver_.GraphInstantiateWithFlags(&exec, graph, 0);
    driver_.GraphDestroy(graph);
    driver_.Check(result, "cuGraphInstantiateWithFlags");
    CUevent start = nullptr, end = nullptr;
    STATOR_CUDA(driver_, EventCreate, &start, CU_EVENT_DEFAULT);
    STATOR_CUDA(driver_, EventCreate, &end, CU_EVENT_DEFAULT);
    double best = kInfinity;
    for (int round = 0; round < kRounds; ++round) {
      STATOR_CUDA(driver_, EventRecord, start, stream);
      STATOR_CUDA(driver_, GraphLaunch, exec, stream);
      STATOR_CUDA(driver_, EventRecord, end, stream);
      STATOR_CUDA(driver_, EventSynchronize, end);
      float ms = 0;
      STATOR_CUDA(driver_, EventElapsedTime, &ms, start, end);
      best = std::min(best, 1e-3 * ms / count);
    }
    driver_.EventDestroy(start);
    driver_.EventDestroy(end);
    driver_.GraphExecDestroy(exec);
    return best;
  }

 private:
  std::byte* Allocate(const TensorRef& tensor) {
    buffers_.emplace_back(device_, tensor.num_elements() == 0 ? 0 : Extent(tensor));
    FillRandom(device_, tensor.dtype, buffers_.back());
    return buffers_.back().data();
  }

  void Prepare(const KernelSite& site, const Tactic& tactic, const Target& target) {
    const CudaStepSite& step_site = measured_.site();
    if (tactic.attrs.Find("library") != nullptr) {
      step_ = PrepareLibraryStep(step_site, device_.libraries());
      return;
    }
    CudaKernel kernel = WriteTrialKernel(site, tactic, target);
    StepLaunch launch{.code = 0,
                      .grid = kernel.grid,
                      .block = kernel.block,
                      .smem = kernel.smem,
                      .symbols = kernel.symbols,
                      .pdl = target.capability >= 90};
    ConstantData binary = MakeConstantData(CompileKernel(kernel, target, ""));
    auto module = std::make_shared<const CudaModule>(driver_, binary.bytes);
    step_ = PrepareKernel(step_site, launch, driver_, std::move(module), kernel.entry);
  }

  MeasureSite measured_;
  CudaDevice& device_;
  const Driver& driver_;
  std::vector<DeviceBuffer> buffers_;
  std::vector<std::byte*> inputs_, outputs_;
  std::unique_ptr<CudaStep> step_;
};

TensorRef MakeRef(const PlanTensor& tensor, const SymbolValues& symbols) {
  return {.data = nullptr,
          .dtype = tensor.dtype,
          .dims = EvalDims(tensor.dims, symbols),
          .strides = EvalDims(tensor.strides, symbols)};
}

}  // namespace

MeasureSite::MeasureSite(const KernelSite& site, const Tactic& tactic) {
  step_.kind = tactic.kind;
  step_.attrs = tactic.attrs;
  site_.step = &step_;
  site_.body = *site.kernel->body;
  symbols_ = GuessSymbols(site_.body);
  site_.symbols = &symbols_;
  for (const PlanTensor& tensor : site.inputs) site_.inputs.push_back(MakeRef(tensor, symbols_));
  for (const PlanTensor& tensor : site.outputs) site_.outputs.push_back(MakeRef(tensor, symbols_));
}

CudaKernel WriteTrialKernel(const KernelSite& site, const Tactic& tactic, const Target& target) {
  return MakeCudaKernel(site.kernel->attrs.GetString("kind"), *site.kernel->body,
                        MakeKernelOperands(site.inputs, CudaDevice::kAlignment, false),
                        MakeKernelOperands(site.outputs, CudaDevice::kAlignment, false), target,
                        tactic.attrs);
}

double MeasureCudaTactic(const KernelSite& site, const Tactic& tactic, const Target& target,
                         CudaDevice& device, int num_runs) {
  try {
    CudaScope scope(device.driver(), device.context());
    return Bench(site, tactic, target, device).Run(num_runs);
  } catch (const Error& error) {
    Log().debug("tactic {}{} cannot run: {}", StepKindName(tactic.kind), tactic.attrs.ToString(),
                error.what());
    bool lacks_memory = error.kind() == ErrorKind::kOutOfMemory;
    return lacks_memory ? std::numeric_limits<double>::quiet_NaN() : kInfinity;
  }
}

}  // namespace stator
