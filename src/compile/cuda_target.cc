#ifdef STATOR_WITH_CUDA
#include "compile/cuda_target.h"

#include <map>
#include <mutex>

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

struct CudaTarget {
  CudaTactics tactics;
  CompileTarget target;

  CudaTarget(const Target& of, CudaDevice* device) : tactics(of, device) {
    const CudaTactics* own = &tactics;
    target = {.name = "cuda " + of.arch,
              .tactics = own,
              .can_run = CanRunOnCuda,
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

std::unique_ptr<CudaTarget> MakeTarget(std::string_view device) {
  if (std::optional<Target> target = FindTarget(device)) {
    return std::make_unique<CudaTarget>(*target, nullptr);
  }
  if (!device.starts_with("cuda")) {
    Fail(ErrorKind::kInvalidArgument,
         "there is no device engine for {}: expected cpu, cuda, or an arch from {} on", device,
         AllTargets().front().arch);
  }
  CudaDevice& found = GetCudaDevice(GetOrdinal(device));
  return std::make_unique<CudaTarget>(TargetOf(found), &found);
}

}  // namespace

const CompileTarget& GetCudaTarget(std::string_view device) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<CudaTarget>, std::less<>> targets;
  std::lock_guard lock(mutex);
  auto it = targets.find(device);
  if (it == targets.end()) it = targets.emplace(device, MakeTarget(device)).first;
  return it->second->target;
}

}  // namespace stator
#endif
