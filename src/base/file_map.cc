#include "base/file_map.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

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
  std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  std::ofstream file(temporary, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(temporary, path, error);
  if (!file || error) {
    int reason = error ? error.value() : errno;
    std::filesystem::remove(temporary, error);
    FailOnFile("write", path, reason);
  }
}

}  // namespace stator
