#include "cuda/run/cuda_device.h"

#include <charconv>

#include "base/error.h"
#include "base/target.h"
#include "cuda/run/cuda_program.h"
#include "runtime/buffer.h"

namespace stator {
namespace {

constexpr int kMinMajor = 8;  // Ampere: asynchronous copies, bfloat16, TF32

std::mutex release_mutex;

// Never destroyed: at the process's end the interpreter that it calls is gone.
std::function<void()>& GetRelease() {
  static auto& release = *new std::function<void()>;
  return release;
}

bool ReleaseMemory() {
  std::function<void()> release;
  {
    std::lock_guard lock(release_mutex);
    release = GetRelease();
  }
  if (release) release();
  return release != nullptr;
}

}  // namespace

void SetReleaseMemory(std::function<void()> release) {
  std::lock_guard lock(release_mutex);
  GetRelease() = std::move(release);
}

CudaDevice& GetCudaDevice(int ordinal) {
  // Never destroyed: at the process's end the driver may be gone already.
  static std::mutex mutex;
  static auto& devices = *new std::map<int, std::unique_ptr<CudaDevice>>;
  std::lock_guard lock(mutex);
  auto& device = devices[ordinal];
  if (device == nullptr) device = std::make_unique<CudaDevice>(GetDriver(), ordinal);
  return *device;
}

CudaDevice::CudaDevice(const Driver& driver, int ordinal)
    : driver_(driver), ordinal_(ordinal), name_(fmt::format("cuda:{}", ordinal)) {
  int count = 0;
  STATOR_CUDA(driver_, DeviceGetCount, &count);
  if (ordinal < 0 || ordinal >= count) {
    Fail(ErrorKind::kDeviceError, "there is no {}: the driver has {} devices", name_, count);
  }
  CUdevice device = 0;
  char model[256] = {};
  STATOR_CUDA(driver_, DeviceGet, &device, ordinal);
  STATOR_CUDA(driver_, DeviceGetName, model, sizeof(model), device);
  STATOR_CUDA(driver_, DeviceGetAttribute, &major_, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
              device);
  STATOR_CUDA(driver_, DeviceGetAttribute, &minor_, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
              device);
  model_ = model;
  if (major_ < kMinMajor) {
    Fail(ErrorKind::kUnsupported,
         "{} ({}) has compute capability {}.{}: engines run on {}.0 or newer", name_, model_,
         major_, minor_, kMinMajor);
  }
  STATOR_CUDA(driver_, DevicePrimaryCtxRetain, &context_, device);
  CudaScope scope(driver_, context_);
  STATOR_CUDA(driver_, StreamCreate, &stream_, CU_STREAM_NON_BLOCKING);
  copier_ = std::make_unique<CudaCopier>(driver_);
}

CudaDevice::~CudaDevice() {
  copier_.reset();
  driver_.StreamDestroy(stream_);
}

std::string CudaDevice::arch() const { return fmt::format("sm_{}{}", major_, minor_); }

// "sm_80" runs on 8.0 and on later minor versions, "sm_90a" on 9.0 only (CUDA C++ Programming
// Guide, "Binary Compatibility" and "Architecture-Specific Features").
void CudaDevice::CheckArch(const std::string& arch) const {
  int number = 0;
  const char* end = arch.data() + arch.size();
  bool fits = arch == kPortableArch;
  if (arch.starts_with("sm_")) {
    auto [rest, error] = std::from_chars(arch.data() + 3, end, number);
    bool exact = rest != end;
    fits = error == std::errc() && number / 10 == major_ &&
           (exact ? number % 10 == minor_ : number % 10 <= minor_);
  }
  if (fits) return;
  Fail(ErrorKind::kUnsupported,
       "the plan was compiled for {}, and {} ({}) is {}: compile the model again for it", arch,
       name_, model_, this->arch());
}

std::shared_ptr<const CudaModule> CudaDevice::LoadModule(const PlanCode& code) {
  CheckArch(code.arch);
  if (code.binary.bytes == nullptr) {
    Fail(ErrorKind::kInvalidArgument,
         "kernel `{}` has no code: a plan read from text cannot be run", code.entry);
  }
  std::string key = Hash128(code.binary.bytes, code.binary.size).ToString();
  std::lock_guard lock(mutex_);
  std::shared_ptr<const CudaModule> module = modules_[key].lock();
  if (module == nullptr) {
    module = std::make_shared<CudaModule>(driver_, code.binary.bytes);
    modules_[key] = module;
  }
  return module;
}

std::unique_ptr<Program> CudaDevice::Load(const BoundPlan& bound, std::span<const Step> steps) {
  CudaScope scope(driver_, context_);
  return LoadCudaProgram(*this, bound, steps);
}

std::byte* CudaDevice::Allocate(int64_t bytes) {
  CudaScope scope(driver_, context_);
  CudaRelaxedCapture relaxed(driver_);
  CUdeviceptr data = 0;
  auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  CUresult result = driver_.MemAlloc(&data, size);
  if (result == CUDA_ERROR_OUT_OF_MEMORY && ReleaseMemory()) {
    result = driver_.MemAlloc(&data, size);
  }
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    Fail(ErrorKind::kOutOfMemory, "cannot allocate {} bytes on {}", bytes, name_);
  }
  driver_.Check(result, "cuMemAlloc");
  return reinterpret_cast<std::byte*>(data);
}

// Waits for the device, since work on the memory may be under way on any stream.
void CudaDevice::Free(std::byte* data) {
  CUcontext popped = nullptr;
  if (driver_.CtxPushCurrent(context_) != CUDA_SUCCESS) return;  // the process ends
  {
    CudaRelaxedCapture relaxed(driver_);
    driver_.CtxSynchronize();
    driver_.MemFree(reinterpret_cast<CUdeviceptr>(data));
  }
  driver_.CtxPopCurrent(&popped);
}

void CudaDevice::Copy(const TensorRef& from, const TensorRef& to, DeviceStream stream) {
  CudaScope scope(driver_, context_);
  auto addresses = reinterpret_cast<uintptr_t>(from.data) | reinterpret_cast<uintptr_t>(to.data);
  int alignment = static_cast<int>((addresses | kAlignment) & -(addresses | kAlignment));
  for (const CudaCopier::Copy& copy : copier_->Make(from, to, alignment)) {
    copier_->Launch(copy, from.data, to.data, static_cast<CUstream>(stream));
  }
}

ConstantData CudaDevice::BringConstant(const ConstantData& data) {
  if (data.device != ConstantData::kHost && data.device != ordinal_) {
    Fail(ErrorKind::kInvalidArgument, "a constant lies on cuda:{}, and its engine's device is {}",
         data.device, name_);
  }
  if (data.size == 0) return data;
  if (data.device == ordinal_) {
    if (reinterpret_cast<uintptr_t>(data.bytes) % kAlignment != 0) {
      Fail(ErrorKind::kInvalidArgument,
           "a constant's address is no multiple of {}: make a copy of it with clone()", kAlignment);
    }
    return data;
  }
  auto size = static_cast<int64_t>(data.size);
  auto buffer = std::make_shared<DeviceBuffer>(*this, size);
  CudaScope scope(driver_, context_);
  STATOR_CUDA(driver_, MemcpyHtoDAsync, reinterpret_cast<CUdeviceptr>(buffer->data()), data.bytes,
              data.size, stream_);
  STATOR_CUDA(driver_, StreamSynchronize, stream_);
  const std::byte* bytes = buffer->data();
  return {.bytes = bytes, .size = data.size, .owner = std::move(buffer), .device = ordinal_};
}

ConstantData CudaDevice::BringToHost(const ConstantData& data) {
  if (data.device == ConstantData::kHost || data.size == 0) return data;
  Finish();
  CudaScope scope(driver_, context_);
  std::vector<std::byte> bytes(data.size);
  STATOR_CUDA(driver_, MemcpyDtoHAsync, bytes.data(), reinterpret_cast<CUdeviceptr>(data.bytes),
              data.size, stream_);
  STATOR_CUDA(driver_, StreamSynchronize, stream_);
  return MakeConstantData(std::move(bytes));
}

void CudaDevice::Finish() {
  CudaScope scope(driver_, context_);
  CudaRelaxedCapture relaxed(driver_);
  STATOR_CUDA(driver_, CtxSynchronize);
}

StreamKey CudaDevice::FindKey(DeviceStream stream) {
  CudaScope scope(driver_, context_);
  auto cuda_stream = static_cast<CUstream>(stream);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  cuuint64_t capture = 0;
  CUresult result = driver_.StreamGetCaptureInfo(cuda_stream, &status, &capture, nullptr, nullptr,
                                                 nullptr, nullptr);
  // A stream that is being captured may not be asked for its id; the capture's is its own.
  if (result == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
    return {.stream = 0, .capture = capture};
  }
  unsigned long long id = 0;
  STATOR_CUDA(driver_, StreamGetId, cuda_stream, &id);
  return {.stream = id, .capture = 0};
}

}  // namespace stator
