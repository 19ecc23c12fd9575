// The folder of cached engines: who may use it, what lies in it, how large it may grow.
//
// In:  a folder's path. Out: its files; the oldest in use removed when they exceed a size.
// Invariant: nothing is read from a folder that another user could have written to. Any number of
// processes may use a folder at once: files appear whole, and a file that is gone was removed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stator {

inline constexpr char kEngineSuffix[] = ".engine";
inline constexpr char kTimingFile[] = "timing.json";  // measured times of tactics

// A file of the cache. Its time of modification is that of its last use.
struct CacheFile {
  std::string path;
  int64_t bytes = 0;
  int64_t age_seconds = 0;  // since its last use
};

// Makes the folder, for this user alone, when it is not there. Raises InvalidArgument when it
// cannot be made, belongs to another user, or can be written by others.
void OpenCacheFolder(const std::string& folder);

// The cached engines, least recently used first. A folder that is not there holds none.
std::vector<CacheFile> ListEngines(const std::string& folder);

// Removes the least recently used engines until the rest has at most `max_bytes`, and what writers
// that were killed left behind; compiled kernels likewise, on their own. Raises nothing.
void TrimCache(const std::string& folder, int64_t max_bytes);

// Removes every engine, every compiled kernel and the measured times; returns how many files went.
// Raises InvalidArgument for a file that cannot be removed.
int ClearCache(const std::string& folder);

// Sets the time of a file's last use to now. Raises nothing.
void MarkUsed(const std::string& path);

}  // namespace stator
