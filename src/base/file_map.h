// Files as bytes: mapped read-only, so that weights are used where they lie; and written whole.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace stator {

// A file mapped read-only; unmapped when the last owner goes. It must not be truncated meanwhile.
struct FileMap {
  std::span<const std::byte> bytes;

  FileMap() = default;
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap();
};

// Raises InvalidArgument, naming the file and the system's reason.
std::shared_ptr<const FileMap> MapFile(const std::string& path);

// Writes a temporary file beside `path` and renames it, so that no reader sees half a file and maps
// of the file that was there stay valid. Raises InvalidArgument, naming the file and the reason.
void WriteFile(const std::string& path, std::span<const std::byte> bytes);

}  // namespace stator
