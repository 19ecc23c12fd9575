#include "cuda/build/compile_kernels.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/file_map.h"
#include "base/hash.h"
#include "base/log.h"
#include "cuda/build/nvrtc.h"
#include "cuda/run/cuda_device.h"
#include "ir/parse.h"
#include "select/select.h"

namespace stator {
namespace {

const Nvrtc& GetNvrtc(const Target& target) {
  std::string why_not;
  const Nvrtc* nvrtc = Nvrtc::Find(&why_not);
  if (nvrtc == nullptr) Fail(ErrorKind::kDeviceError, "{}", why_not);
  if (!nvrtc->Supports(target)) {
    Fail(ErrorKind::kDeviceError, "NVRTC {} does not compile for {}: a later one is needed",
         nvrtc->version(), target.arch);
  }
  return *nvrtc;
}

// ---- the folder of binaries: a file is a hash of the binary, then the binary
std::vector<std::byte> ReadBinary(const std::string& path) {
  std::shared_ptr<const FileMap> file;
  try {
    file = MapFile(path);
  } catch (const Error&) {
    return {};  // not there yet
  }
  std::span<const std::byte> bytes = file->bytes;
  uint64_t hash = 0;
  if (bytes.size() <= sizeof hash) return {};
  std::memcpy(&hash, bytes.data(), sizeof hash);
  bytes = bytes.subspan(sizeof hash);
  if (Hash64(bytes.data(), bytes.size()) != hash) return {};
  return {bytes.begin(), bytes.end()};
}

void WriteBinary(const std::string& path, const std::vector<std::byte>& binary) {
  uint64_t hash = Hash64(binary.data(), binary.size());
  std::vector<std::byte> bytes(sizeof hash + binary.size());
  std::memcpy(bytes.data(), &hash, sizeof hash);
  std::copy(binary.begin(), binary.end(), bytes.begin() + sizeof hash);
  try {
    WriteFile(path, bytes);
  } catch (const Error& error) {
    Log().warn("a compiled kernel is not kept: {}", error.what());
  }
}

// ---- what the process compiled lately: what is measured is then part of a plan
class RecentBinaries {
 public:
  std::vector<std::byte> Find(const std::string& key) {
    std::lock_guard lock(mutex_);
    auto it = binaries_.find(key);
    return it != binaries_.end() ? it->second : std::vector<std::byte>();
  }

  void Keep(const std::string& key, std::vector<std::byte> binary) {
    constexpr size_t kMaxBytes = 32 << 20;
    std::lock_guard lock(mutex_);
    bytes_ += binary.size();
    if (bytes_ > kMaxBytes) {
      binaries_.clear();
      bytes_ = binary.size();
    }
    binaries_.insert_or_assign(key, std::move(binary));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<std::byte>> binaries_;
  size_t bytes_ = 0;
};

RecentBinaries recent;

// ---- plans
bool HasKernel(const Step& step) {
  if (step.attrs.Find("library") != nullptr) return false;
  return step.kind == StepKind::kCopy || step.attrs.Find("form") != nullptr;
}

CudaKernel WriteStepKernel(const Plan& plan, const Step& step, bool is_prologue,
                           const Target& target) {
  auto operands = [&](const std::vector<int>& tensors) {
    std::vector<PlanTensor> windows;
    for (int tensor : tensors) windows.push_back(plan.tensors[tensor]);
    return MakeKernelOperands(windows, CudaDevice::kAlignment, is_prologue);
  };
  std::vector<KernelOperand> inputs = operands(step.inputs), outputs = operands(step.outputs);
  Graph body = step.body.empty() ? Graph() : ParseGraph(step.body);
  std::string_view kind = StepKindName(step.kind);
  Attrs variant = step.attrs;
  if (step.kind == StepKind::kCopy) {
    std::vector<Attrs> variants = FindCudaVariants(kind, body, inputs, outputs, target);
    STATOR_CHECK(!variants.empty(), "a copy that cannot be written");
    variant = variants[0];
  }
  return MakeCudaKernel(kind, body, inputs, outputs, target, variant);
}

// Calls fn(i) for i in [0, count) in as many threads as there are cores; raises what one raised.
template <typename Fn>
void ForEachParallel(size_t count, Fn&& fn) {
  std::atomic<size_t> next = 0;
  std::exception_ptr error;
  std::mutex mutex;
  auto work = [&] {
    for (size_t i = next++; i < count; i = next++) {
      try {
        fn(i);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> threads;
  size_t num_threads = std::min<size_t>(count, std::max(1u, std::thread::hardware_concurrency()));
  for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace

std::vector<KernelOperand> MakeKernelOperands(std::span<const PlanTensor> tensors, int alignment,
                                              bool is_prologue) {
  std::vector<KernelOperand> operands;
  for (const PlanTensor& tensor : tensors) {
    int64_t size = static_cast<int64_t>(DTypeSize(tensor.dtype));
    // A symbolic offset is a multiple of the element's size, and who knows of what else.
    int64_t offset = tensor.offset.is_static() ? tensor.offset.value() * size : size;
    // The prologue's own results are not there before it has run.
    bool constant = IsConstant(tensor) && !(is_prologue && tensor.storage == StorageKind::kDerived);
    operands.push_back({.dtype = tensor.dtype,
                        .dims = tensor.dims,
                        .strides = tensor.strides,
                        .alignment = static_cast<int>(std::gcd<int64_t>(alignment, offset)),
                        .constant = constant});
  }
  return operands;
}

std::vector<std::byte> CompileKernel(const CudaKernel& kernel, const Target& target,
                                     const std::string& cache_folder) {
  const Nvrtc& nvrtc = GetNvrtc(target);
  std::string key = Hash128(fmt::format("{}\n{}\n{}\n{}", nvrtc.version(), target.arch,
                                        kCudaPrelude, kernel.source))
                        .ToString();
  std::string path =
      cache_folder.empty() ? "" : fmt::format("{}/{}{}", cache_folder, key, kKernelSuffix);
  std::vector<std::byte> binary;
  if (!path.empty()) binary = ReadBinary(path);
  if (!binary.empty()) return binary;
  binary = recent.Find(key);
  if (binary.empty()) {
    binary = nvrtc.Compile(kernel, target.arch);
    recent.Keep(key, binary);
  }
  if (!path.empty()) WriteBinary(path, binary);
  return binary;
}

void PrecompileKernels(std::span<const CudaKernel> kernels, const Target& target) {
  std::map<std::string_view, const CudaKernel*> by_text;
  for (const CudaKernel& kernel : kernels) by_text.emplace(kernel.source, &kernel);
  std::vector<const CudaKernel*> distinct;
  for (const auto& [text, kernel] : by_text) distinct.push_back(kernel);
  ForEachParallel(distinct.size(), [&](size_t i) {
    try {
      CompileKernel(*distinct[i], target, "");
    } catch (const Error& error) {
      Log().debug("kernel {}: {}", distinct[i]->entry, error.what());
    }
  });
}

void CompileKernels(Plan& plan, const Target& target, const std::string& cache_folder) {
  std::vector<CudaKernel> kernels;   // by position in Plan::code
  std::map<std::string, int> codes;  // by text
  for (auto* steps : {&plan.prologue, &plan.steps}) {
    bool is_prologue = steps == &plan.prologue;
    for (Step& step : *steps) {
      if (step.kind == StepKind::kReference && !HasKernel(step)) {
        throw Error(ErrorKind::kUnsupported,
                    fmt::format("the CUDA engine has no kernel for this step:\n{}", step.body),
                    step.origin);
      }
      if (!HasKernel(step)) continue;
      CudaKernel kernel = WriteStepKernel(plan, step, is_prologue, target);
      auto [it, inserted] = codes.emplace(kernel.source, static_cast<int>(kernels.size()));
      SetLaunch(step.attrs, {.code = it->second,
                             .grid = kernel.grid,
                             .block = kernel.block,
                             .smem = kernel.smem,
                             .symbols = kernel.symbols,
                             .pdl = target.capability >= 90 && !is_prologue});
      if (inserted) kernels.push_back(std::move(kernel));
    }
  }
  plan.code.resize(kernels.size());
  ForEachParallel(kernels.size(), [&](size_t i) {
    plan.code[i] = {.arch = target.arch,
                    .entry = kernels[i].entry,
                    .binary = MakeConstantData(CompileKernel(kernels[i], target, cache_folder))};
  });
}

}  // namespace stator
