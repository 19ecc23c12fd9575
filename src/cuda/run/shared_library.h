// Finds and opens the shared libraries that come with CUDA; nothing links them.
//
// In:  the file names that a library may have, best first ("libnvrtc.so.13").
// Out: the opened library, whose functions are looked up by name.
// Where it looks for each name, in this order:
//   1. among the libraries that the process has loaded already (torch loads most),
//   2. in the folders given to AddLibraryFolder (Python gives site-packages/nvidia/*/lib),
//   3. beside Stator's own library,
//   4. where the system looks: LD_LIBRARY_PATH, the cache of ldconfig, the standard folders.
// Invariant: an opened library stays open until the process ends, as CUDA's libraries need.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace stator {

class SharedLibrary {
 public:
  // Empty when no name is found anywhere; `why_not` then gets the loader's words.
  static std::optional<SharedLibrary> Find(std::span<const char* const> names,
                                           std::string* why_not = nullptr);

  // The file that was opened, as the loader knows it.
  const std::string& path() const { return path_; }
  void* handle() const { return handle_; }

  // Null when the library has no function of this name.
  template <typename Fn>
  Fn FindFunction(const char* name) const {
    return reinterpret_cast<Fn>(FindSymbol(name));
  }

 private:
  SharedLibrary(void* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
  void* FindSymbol(const char* name) const;

  void* handle_;
  std::string path_;
};

// One more folder to look in, before those added earlier. Any thread may call it.
void AddLibraryFolder(std::string folder);

}  // namespace stator
