#include "cuda/run/kernel.h"

#include "base/error.h"

namespace stator {
namespace {

constexpr int kSmemWithoutAsking = 48 << 10;  // CUDA C++ Programming Guide, "Shared Memory"

}  // namespace

CudaModule::CudaModule(const Driver& driver, const void* image) : driver_(driver) {
  CudaRelaxedCapture relaxed(driver_);
  STATOR_CUDA(driver_, CtxGetCurrent, &context_);
  STATOR_CUDA(driver_, ModuleLoadData, &module_, image);
}

CudaModule::~CudaModule() {
  CUcontext popped = nullptr;
  if (driver_.CtxPushCurrent(context_) != CUDA_SUCCESS) return;  // the process ends
  CudaRelaxedCapture relaxed(driver_);
  driver_.CtxSynchronize();
  driver_.ModuleUnload(module_);
  driver_.CtxPopCurrent(&popped);
}

CUfunction CudaModule::GetFunction(const std::string& entry, int smem) const {
  CUfunction function = nullptr;
  CUresult result = driver_.ModuleGetFunction(&function, module_, entry.c_str());
  if (result == CUDA_ERROR_NOT_FOUND) {
    Fail(ErrorKind::kDeviceError, "a plan's code has no kernel `{}`", entry);
  }
  driver_.Check(result, "cuModuleGetFunction");
  if (smem > kSmemWithoutAsking) {
    STATOR_CUDA(driver_, FuncSetAttribute, function,
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, smem);
  }
  return function;
}

void LaunchKernel(const Driver& driver, const KernelLaunch& launch, void** params,
                  CUstream stream) {
  if (launch.empty()) return;
  CUlaunchAttribute attribute{};
  attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attribute.value.programmaticStreamSerializationAllowed = 1;
  CUlaunchConfig config{};
  config.gridDimX = launch.grid[0];
  config.gridDimY = launch.grid[1];
  config.gridDimZ = launch.grid[2];
  config.blockDimX = launch.block;
  config.blockDimY = config.blockDimZ = 1;
  config.sharedMemBytes = launch.smem;
  config.hStream = stream;
  config.attrs = &attribute;
  config.numAttrs = launch.pdl ? 1 : 0;
  STATOR_CUDA(driver, LaunchKernelEx, &config, launch.function, params, nullptr);
}

void PatchKernel(const Driver& driver, const KernelLaunch& launch, void** params, CUgraphExec exec,
                 CUgraphNode node) {
  CUDA_KERNEL_NODE_PARAMS_v2 node_params{};
  node_params.func = launch.function;
  node_params.gridDimX = launch.grid[0];
  node_params.gridDimY = launch.grid[1];
  node_params.gridDimZ = launch.grid[2];
  node_params.blockDimX = launch.block;
  node_params.blockDimY = node_params.blockDimZ = 1;
  node_params.sharedMemBytes = launch.smem;
  node_params.kernelParams = params;
  STATOR_CUDA(driver, GraphExecKernelNodeSetParams, exec, node, &node_params);
}

}  // namespace stator
