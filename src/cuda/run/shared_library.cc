#include "cuda/run/shared_library.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include <dlfcn.h>
#include <link.h>

namespace stator {
namespace {

std::mutex folders_mutex;
std::vector<std::string>& Folders() {
  static std::vector<std::string> folders;
  return folders;
}

// The folder of the file that holds this function.
std::string OwnFolder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&OwnFolder), &info) == 0 || info.dli_fname == nullptr)
    return "";
  std::string path = info.dli_fname;
  size_t end = path.rfind('/');
  return end == std::string::npos ? "" : path.substr(0, end);
}

std::vector<std::string> FoldersToSearch() {
  std::lock_guard lock(folders_mutex);
  std::vector<std::string> folders(Folders().rbegin(), Folders().rend());
  if (std::string own = OwnFolder(); !own.empty()) folders.push_back(std::move(own));
  return folders;
}

void* OpenAnywhere(const char* name) {
  constexpr int kFlags = RTLD_NOW | RTLD_LOCAL;
  if (void* handle = dlopen(name, kFlags | RTLD_NOLOAD)) return handle;
  for (const std::string& folder : FoldersToSearch()) {
    if (void* handle = dlopen((folder + "/" + name).c_str(), kFlags)) return handle;
  }
  return dlopen(name, kFlags);
}

}  // namespace

void* SharedLibrary::FindSymbol(const char* name) const { return dlsym(handle_, name); }

std::optional<SharedLibrary> SharedLibrary::Find(std::span<const char* const> names,
                                                 std::string* why_not) {
  std::string reasons;
  for (const char* name : names) {
    if (void* handle = OpenAnywhere(name)) {
      link_map* map = nullptr;
      bool known = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr;
      return SharedLibrary(handle, known && map->l_name[0] != '\0' ? map->l_name : name);
    }
    const char* error = dlerror();
    reasons += (reasons.empty() ? "" : "; ") + std::string(error != nullptr ? error : name);
  }
  if (why_not != nullptr) *why_not = reasons;
  return std::nullopt;
}

void AddLibraryFolder(std::string folder) {
  std::lock_guard lock(folders_mutex);
  std::vector<std::string>& folders = Folders();
  std::erase(folders, folder);
  folders.push_back(std::move(folder));
}

}  // namespace stator
