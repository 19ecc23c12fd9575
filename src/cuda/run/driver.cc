#include "cuda/run/driver.h"

#include <atomic>

#include <dlfcn.h>

#include "base/error.h"

namespace stator {
namespace {

std::atomic<const Driver*> replacement = nullptr;

// "12.3" for 12030
std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// How to get at a function before the table is there: from the library itself.
template <typename Fn>
Fn FindSymbol(void* library, const char* name) {
  Fn function = reinterpret_cast<Fn>(dlsym(library, name));
  if (function == nullptr) {
    Fail(ErrorKind::kDeviceError,
         "the NVIDIA driver's libcuda.so.1 has no {}: expected a driver for CUDA {} or newer", name,
         VersionText(kMinDriverVersion));
  }
  return function;
}

Driver LoadDriver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    Fail(ErrorKind::kDeviceError, "no NVIDIA driver: {}", dlerror());
  }
  Driver driver;
  auto get_version = FindSymbol<PFN_cuDriverGetVersion_v2020>(library, "cuDriverGetVersion");
  int version = 0;
  get_version(&version);
  if (version < kMinDriverVersion) {
    Fail(ErrorKind::kDeviceError,
         "the NVIDIA driver is for CUDA {}, and CUDA {} or newer is needed: update the driver",
         VersionText(version), VersionText(kMinDriverVersion));
  }
  auto get_address = FindSymbol<PFN_cuGetProcAddress_v12000>(library, "cuGetProcAddress_v2");
#define STATOR_CUDA_FIND(name, version)                                                \
  {                                                                                    \
    void* address = nullptr;                                                           \
    CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;       \
    get_address("cu" #name, &address, version, CU_GET_PROC_ADDRESS_DEFAULT, &found);   \
    if (address == nullptr) {                                                          \
      Fail(ErrorKind::kDeviceError, "the NVIDIA driver has no cu" #name " of CUDA {}", \
           VersionText(version));                                                      \
    }                                                                                  \
    driver.name = reinterpret_cast<decltype(driver.name)>(address);                    \
  }
  STATOR_CUDA_DRIVER(STATOR_CUDA_FIND)
#undef STATOR_CUDA_FIND
  STATOR_CUDA(driver, Init, 0);
  return driver;
}

}  // namespace

void Driver::Check(CUresult result, std::string_view call, std::source_location where) const {
  if (result == CUDA_SUCCESS) [[likely]]
    return;
  const char *name = nullptr, *text = nullptr;
  bool known = GetErrorName(result, &name) == CUDA_SUCCESS && name != nullptr &&
               GetErrorString(result, &text) == CUDA_SUCCESS && text != nullptr;
  std::string message =
      known ? fmt::format("{} failed with {}: {}", call, name, text)
            : fmt::format("{} failed with error {}", call, static_cast<int>(result));
  bool memory = result == CUDA_ERROR_OUT_OF_MEMORY;
  throw Error(memory ? ErrorKind::kOutOfMemory : ErrorKind::kDeviceError, std::move(message), {},
              where);
}

const Driver& GetDriver() {
  if (const Driver* driver = replacement.load()) return *driver;
  static const Driver driver = LoadDriver();
  return driver;
}

void SetDriver(const Driver* driver) { replacement = driver; }

}  // namespace stator
