// The CUDA driver as a table of functions, opened at run time.
//
// In:  libcuda.so.1, which a driver installation brings; nothing links it. Out: a Driver, whose
// members are the driver API's functions, each in the version that its type names.
// Invariant: a failed call leaves as an Error that holds the call's name and the driver's own text;
// kind OutOfMemory for a failed allocation, else DeviceError.
#pragma once

#include <source_location>
#include <string>

#include <cudaTypedefs.h>

namespace stator {

// X(name, version): the function cu<name> with the types that it has since CUDA `version`.
#define STATOR_CUDA_DRIVER(X)               \
  X(Init, 2000)                             \
  X(DriverGetVersion, 2020)                 \
  X(GetErrorName, 6000)                     \
  X(GetErrorString, 6000)                   \
  X(DeviceGetCount, 2000)                   \
  X(DeviceGet, 2000)                        \
  X(DeviceGetName, 2000)                    \
  X(DeviceGetAttribute, 2000)               \
  X(DevicePrimaryCtxRetain, 7000)           \
  X(CtxGetCurrent, 4000)                    \
  X(CtxGetDevice, 2000)                     \
  X(CtxPushCurrent, 4000)                   \
  X(CtxPopCurrent, 4000)                    \
  X(CtxSynchronize, 2000)                   \
  X(MemAlloc, 3020)                         \
  X(MemFree, 3020)                          \
  X(MemcpyHtoDAsync, 3020)                  \
  X(MemcpyDtoHAsync, 3020)                  \
  X(StreamCreate, 2000)                     \
  X(StreamDestroy, 4000)                    \
  X(StreamSynchronize, 2000)                \
  X(StreamGetId, 12000)                     \
  X(StreamWaitEvent, 3020)                  \
  X(StreamIsCapturing, 10000)               \
  X(StreamBeginCapture, 10010)              \
  X(StreamEndCapture, 10000)                \
  X(StreamGetCaptureInfo, 12030)            \
  X(ThreadExchangeStreamCaptureMode, 10010) \
  X(EventCreate, 2000)                      \
  X(EventDestroy, 4000)                     \
  X(EventRecord, 2000)                      \
  X(EventSynchronize, 2000)                 \
  X(EventElapsedTime, 2000)                 \
  X(GraphInstantiateWithFlags, 11040)       \
  X(GraphDestroy, 10000)                    \
  X(GraphExecDestroy, 10000)                \
  X(GraphExecKernelNodeSetParams, 12000)    \
  X(GraphLaunch, 10000)                     \
  X(ModuleLoadData, 2000)                   \
  X(ModuleUnload, 2000)                     \
  X(ModuleGetFunction, 2000)                \
  X(FuncSetAttribute, 9000)                 \
  X(LaunchKernelEx, 11060)

struct Driver {
#define STATOR_CUDA_MEMBER(name, version) PFN_cu##name##_v##version name = nullptr;
  STATOR_CUDA_DRIVER(STATOR_CUDA_MEMBER)
#undef STATOR_CUDA_MEMBER

  // Raises unless `result` is a success; `call` is "cuMemAlloc".
  void Check(CUresult result, std::string_view call,
             std::source_location where = std::source_location::current()) const;
};

// The first version of the driver API with all of the table: capture info with edges, for
// programmatic dependent launch in graphs.
inline constexpr int kMinDriverVersion = 12030;

// The process's driver, opened and initialised by the first call. Raises DeviceError, saying what
// is missing, without one or with one that is too old; every call does then.
const Driver& GetDriver();

// Makes GetDriver return `driver`, or the real one again for null. For tests, before any device is
// made.
void SetDriver(const Driver* driver);

// driver.MemAlloc(args...), with its result checked.
#define STATOR_CUDA(driver, name, ...) (driver).Check((driver).name(__VA_ARGS__), "cu" #name)

}  // namespace stator
