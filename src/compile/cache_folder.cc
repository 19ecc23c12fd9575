#include "compile/cache_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "codegen/cuda_kernel.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

constexpr char kTemporarySuffix[] = ".tmp";  // WriteFile's
constexpr int64_t kStaleSeconds = 3600;      // no writer takes that long

// Regular files whose names end so, oldest first.
std::vector<CacheFile> ListFiles(const std::string& folder, std::string_view suffix) {
  std::vector<CacheFile> files;
  std::error_code error;
  int64_t now = std::time(nullptr);
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string path = it->path().string();
    struct stat info;
    if (!path.ends_with(suffix) || lstat(path.c_str(), &info) != 0) continue;
    if (!S_ISREG(info.st_mode)) continue;
    files.push_back({.path = path, .bytes = info.st_size, .age_seconds = now - info.st_mtime});
  }
  std::sort(files.begin(), files.end(), [](const CacheFile& lhs, const CacheFile& rhs) {
    return std::tie(rhs.age_seconds, lhs.path) < std::tie(lhs.age_seconds, rhs.path);
  });
  return files;
}

}  // namespace

void OpenCacheFolder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(fs::path(folder).parent_path(), error);  // mkdir reports what is wrong
  if (mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    Fail(ErrorKind::kInvalidArgument, "cannot make the cache folder {}: {}", folder,
         std::strerror(errno));
  }
  struct stat info;
  if (stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    Fail(ErrorKind::kInvalidArgument, "the cache folder {} is not a folder", folder);
  }
  if (info.st_uid != geteuid()) {
    Fail(ErrorKind::kInvalidArgument,
         "the cache folder {} belongs to user {}, not to user {}; choose another with "
         "STATOR_CACHE_DIR or cache_dir",
         folder, info.st_uid, geteuid());
  }
  if (info.st_mode & (S_IWGRP | S_IWOTH)) {
    Fail(ErrorKind::kInvalidArgument,
         "others may write to the cache folder {}; run `chmod go-w` on it", folder);
  }
}

std::vector<CacheFile> ListEngines(const std::string& folder) {
  return ListFiles(folder, kEngineSuffix);
}

void TrimCache(const std::string& folder, int64_t max_bytes) {
  for (const CacheFile& file : ListFiles(folder, kTemporarySuffix)) {
    if (file.age_seconds > kStaleSeconds) unlink(file.path.c_str());
  }
  for (std::string_view suffix : {std::string_view(kEngineSuffix), kKernelSuffix}) {
    std::vector<CacheFile> files = ListFiles(folder, suffix);
    int64_t total = 0;
    for (const CacheFile& file : files) total += file.bytes;
    for (const CacheFile& file : files) {
      if (total <= max_bytes) break;
      unlink(file.path.c_str());
      total -= file.bytes;
    }
  }
}

int ClearCache(const std::string& folder) {
  int num_removed = 0;
  for (std::string_view suffix :
       {std::string_view(kEngineSuffix), kKernelSuffix, std::string_view(kTemporarySuffix),
        std::string_view(kTimingFile)}) {
    for (const CacheFile& file : ListFiles(folder, suffix)) {
      if (unlink(file.path.c_str()) == 0) {
        ++num_removed;
      } else if (errno != ENOENT) {
        Fail(ErrorKind::kInvalidArgument, "cannot remove {}: {}", file.path, std::strerror(errno));
      }
    }
  }
  return num_removed;
}

void MarkUsed(const std::string& path) { utimensat(AT_FDCWD, path.c_str(), nullptr, 0); }

}  // namespace stator
