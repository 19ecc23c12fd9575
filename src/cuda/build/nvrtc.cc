#include "cuda/build/nvrtc.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <span>

#include <nvrtc.h>

#include "base/error.h"
#include "base/file_map.h"
#include "base/hash.h"
#include "cuda/run/shared_library.h"

namespace stator {

// X(name): the function nvrtc<name>.
#define STATOR_NVRTC(X)   \
  X(Version)              \
  X(GetNumSupportedArchs) \
  X(GetSupportedArchs)    \
  X(GetErrorString)       \
  X(CreateProgram)        \
  X(DestroyProgram)       \
  X(CompileProgram)       \
  X(GetProgramLogSize)    \
  X(GetProgramLog)        \
  X(GetCUBINSize)         \
  X(GetCUBIN)             \
  X(GetPTXSize)           \
  X(GetPTX)

struct Nvrtc::Functions {
#define STATOR_NVRTC_MEMBER(name) decltype(&nvrtc##name) name = nullptr;
  STATOR_NVRTC(STATOR_NVRTC_MEMBER)
#undef STATOR_NVRTC_MEMBER

  void Check(nvrtcResult result, const char* call) const {
    if (result == NVRTC_SUCCESS) return;
    Fail(ErrorKind::kDeviceError, "nvrtc{} failed: {}", call, GetErrorString(result));
  }
};

namespace {

constexpr const char* kNames[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
constexpr int kMinMajor = 12;

// Destroys the program at the end of its scope.
template <typename Functions>
class Program {
 public:
  Program(const Functions& functions, const CudaKernel& kernel) : functions_(functions) {
    std::string prelude(kCudaPrelude), prelude_name(kPreludeName);
    const char *headers[] = {prelude.c_str()}, *names[] = {prelude_name.c_str()};
    std::string name = kernel.entry + ".cu";
    functions.Check(
        functions.CreateProgram(&program_, kernel.source.c_str(), name.c_str(), 1, headers, names),
        "CreateProgram");
  }
  ~Program() { functions_.DestroyProgram(&program_); }
  Program(const Program&) = delete;
  nvrtcProgram get() const { return program_; }

  std::string Log() const {
    size_t size = 0;
    functions_.Check(functions_.GetProgramLogSize(program_, &size), "GetProgramLogSize");
    std::string log(size, '\0');
    if (size > 0) functions_.Check(functions_.GetProgramLog(program_, log.data()), "GetProgramLog");
    while (!log.empty() && log.back() == '\0') log.pop_back();
    return log;
  }

 private:
  const Functions& functions_;
  nvrtcProgram program_ = nullptr;
};

// Keeps a text that does not compile; returns where, or why not.
std::string KeepSource(const CudaKernel& kernel) {
  try {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() /
        fmt::format("stator_{}_{}.cu", kernel.entry, Hash128(kernel.source).ToString());
    WriteFile(path.string(), std::as_bytes(std::span(kernel.source)));
    return path.string();
  } catch (const std::exception& error) {
    return fmt::format("nowhere: {}", error.what());
  }
}

}  // namespace

Nvrtc::Nvrtc() = default;
Nvrtc::~Nvrtc() = default;

const Nvrtc* Nvrtc::Find(std::string* why_not) {
  struct Opened {
    std::unique_ptr<const Nvrtc> nvrtc;
    std::string why_not;
  };
  static const Opened opened = [] {
    Opened result;
    std::optional<SharedLibrary> library = SharedLibrary::Find(kNames, &result.why_not);
    auto fail = [&](std::string reason) {
      result.why_not = "NVRTC, which compiles kernels, cannot be used: " + std::move(reason) +
                       "; install it with `pip install nvidia-cuda-nvrtc`, or with torch for CUDA";
      return std::move(result);
    };
    if (!library) return fail(result.why_not);
    auto functions = std::make_unique<Functions>();
#define STATOR_NVRTC_FIND(name)                                                      \
  functions->name = library->FindFunction<decltype(functions->name)>("nvrtc" #name); \
  if (functions->name == nullptr) return fail(library->path() + " has no nvrtc" #name);
    STATOR_NVRTC(STATOR_NVRTC_FIND)
#undef STATOR_NVRTC_FIND
    int major = 0, minor = 0;
    if (functions->Version(&major, &minor) != NVRTC_SUCCESS || major < kMinMajor) {
      return fail(fmt::format("{} is version {}.{}, needed is {}", library->path(), major, minor,
                              kMinMajor));
    }
    std::unique_ptr<Nvrtc> nvrtc(new Nvrtc);
    nvrtc->functions_ = std::move(functions);
    nvrtc->version_ = fmt::format("{}.{}", major, minor);
    result.nvrtc = std::move(nvrtc);
    return result;
  }();
  if (why_not != nullptr) *why_not = opened.why_not;
  return opened.nvrtc.get();
}

bool Nvrtc::Supports(const Target& target) const {
  int count = 0;
  functions_->Check(functions_->GetNumSupportedArchs(&count), "GetNumSupportedArchs");
  std::vector<int> archs(count);
  functions_->Check(functions_->GetSupportedArchs(archs.data()), "GetSupportedArchs");
  return std::find(archs.begin(), archs.end(), target.capability) != archs.end();
}

std::vector<std::byte> Nvrtc::Compile(const CudaKernel& kernel, const std::string& arch) const {
  Program<Functions> program(*functions_, kernel);
  std::string arch_option = "--gpu-architecture=" + arch;
  const char* options[] = {arch_option.c_str(), "--std=c++20",
                           "--device-as-default-execution-space"};
  nvrtcResult result =
      functions_->CompileProgram(program.get(), static_cast<int>(std::size(options)), options);
  if (result != NVRTC_SUCCESS) {
    Fail(ErrorKind::kDeviceError, "kernel {} does not compile for {} ({}); its text is in {}: {}",
         kernel.entry, arch, functions_->GetErrorString(result), KeepSource(kernel), program.Log());
  }
  const Functions& f = *functions_;
  bool portable = arch == kPortableArch;
  size_t size = 0;
  f.Check(portable ? f.GetPTXSize(program.get(), &size) : f.GetCUBINSize(program.get(), &size),
          "GetCUBINSize");
  std::vector<std::byte> binary(size);
  char* to = reinterpret_cast<char*>(binary.data());
  f.Check(portable ? f.GetPTX(program.get(), to) : f.GetCUBIN(program.get(), to), "GetCUBIN");
  return binary;
}

}  // namespace stator
