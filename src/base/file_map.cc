#include "base/file_map.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace stator {
namespace {

[[noreturn]] void FailOnFile(const char* what, const std::string& path, int error) {
  Fail(ErrorKind::kInvalidArgument, "cannot {} {}: {}", what, path, std::strerror(error));
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

// A name beside `path` that no other writer uses, in this process or another.
std::string MakeTemporaryName(const std::string& path) {
  std::random_device random;
  return fmt::format("{}.{:08x}{:08x}.tmp", path, random(), random());
}

// `path` is what errors name.
void WriteNewFile(const std::string& temporary, const std::string& path,
                  std::span<const std::byte> bytes) {
  constexpr mode_t kMode = 0666;  // less the process's umask
  Descriptor file{open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode)};
  if (file.fd < 0) FailOnFile("write", path, errno);
  while (!bytes.empty()) {
    ssize_t count = write(file.fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) FailOnFile("write", path, errno);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

}  // namespace

FileMap::~FileMap() {
  if (!bytes.empty()) munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

std::shared_ptr<const FileMap> MapFile(const std::string& path) {
  Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat info;
  if (file.fd < 0 || fstat(file.fd, &info) != 0) FailOnFile("read", path, errno);
  if (!S_ISREG(info.st_mode)) {
    FailOnFile("read", path, S_ISDIR(info.st_mode) ? EISDIR : EINVAL);
  }
  auto map = std::make_shared<FileMap>();
  size_t size = static_cast<size_t>(info.st_size);
  if (size == 0) return map;  // an empty range cannot be mapped
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) FailOnFile("map", path, errno);
  map->bytes = {static_cast<const std::byte*>(data), size};
  return map;
}

void WriteFile(const std::string& path, std::span<const std::byte> bytes) {
  std::string temporary = MakeTemporaryName(path);
  try {
    WriteNewFile(temporary, path, bytes);
    if (rename(temporary.c_str(), path.c_str()) != 0) FailOnFile("write", path, errno);
  } catch (const Error&) {
    unlink(temporary.c_str());
    throw;
  }
}

}  // namespace stator
