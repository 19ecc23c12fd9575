#ifdef STATOR_WITH_CUDA
#include "compile/cuda_target.h"

#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "cuda/build/compile_kernels.h"
#include "cuda/build/cuda_tactics.h"

namespace stator {
namespace {

Target TargetOf(const CudaDevice& device) {
  std::optional<Target> target = FindTarget(device.major(), device.minor());
  STATOR_CHECK(target.has_value(), "{} is a device without a target", device.arch());
  return *target;
}

// On an H100 at batch 1 GoogLeNet takes 0.282 ms with none, 0.199 with one, 0.183 with two and
// 0.174 with three, Swin-T 0.425 and 0.411; BERT-base and EfficientNet-B0, without branches worth
// it, what they took.
constexpr int kAuxStreams = 3;

struct CudaTarget {
  CudaTactics tactics;
  CompileTarget target;

  CudaTarget(const Target& of, CudaDevice* device, const TacticLimits& limits)
      : tactics(of, device, limits) {
    const CudaTactics* own = &tactics;
    target = {
        .name = "cuda " + of.arch,
        .tactics = own,
        .aux_streams = kAuxStreams,
        .can_run = [own](std::string_view kind,
                         const Graph& body) { return CanRunOnCuda(own->target(), kind, body); },
        .find_reason =
            [own](const Graph& graph, const Node& node) {
              return FindReasonOnCuda(own->target(), graph, node);
            },
        .finish =
            [own](Plan& plan, const std::string& cache_folder) {
              CompileKernels(plan, own->target(), cache_folder);
            }};
  }
};

std::unique_ptr<CudaTarget> MakeTarget(std::string_view device, const TacticLimits& limits) {
  if (std::optional<Target> target = FindTarget(device)) {
    if (limits.hardware_compatible) target = FindTarget(kPortableArch);
    return std::make_unique<CudaTarget>(*target, nullptr, limits);
  }
  if (!device.starts_with("cuda")) {
    Fail(ErrorKind::kInvalidArgument,
         "there is no device engine for {}: expected cpu, cuda, or an arch from {} on", device,
         AllTargets().front().arch);
  }
  CudaDevice& found = GetCudaDevice(GetOrdinal(device));
  Target target = limits.hardware_compatible ? *FindTarget(kPortableArch) : TargetOf(found);
  return std::make_unique<CudaTarget>(target, &found, limits);
}

}  // namespace

const CompileTarget& GetCudaTarget(std::string_view device, const TacticLimits& limits) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, TacticLimits>, std::unique_ptr<CudaTarget>> targets;
  std::lock_guard lock(mutex);
  std::unique_ptr<CudaTarget>& target = targets[{std::string(device), limits}];
  if (target == nullptr) target = MakeTarget(device, limits);
  return target->target;
}

}  // namespace stator
#endif
