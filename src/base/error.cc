#include "base/error.h"

namespace stator {

std::string_view ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument: return "InvalidArgument";
    case ErrorKind::kUnsupported: return "Unsupported";
    case ErrorKind::kCorruptFile: return "CorruptFile";
    case ErrorKind::kVersionMismatch: return "VersionMismatch";
    case ErrorKind::kDeviceError: return "DeviceError";
    case ErrorKind::kOutOfMemory: return "OutOfMemory";
    case ErrorKind::kInternal: return "Internal";
  }
  return "Internal";
}

Error::Error(ErrorKind kind, std::string message, std::string node, std::source_location where)
    : std::runtime_error(node.empty()
                             ? fmt::format("{}: {}", ErrorKindName(kind), message)
                             : fmt::format("{}: {} (at {})", ErrorKindName(kind), message, node)),
      kind_(kind),
      message_(std::move(message)),
      node_(std::move(node)),
      where_(where) {}

namespace detail {

void CheckFailed(const char* condition, std::string message, std::source_location where) {
  std::string_view file = where.file_name();
  if (size_t src = file.rfind("src/"); src != std::string_view::npos) file.remove_prefix(src);
  throw Error(
      ErrorKind::kInternal,
      fmt::format("check `{}` failed in {} ({}:{}){}{}; this is a bug in stator, please report it",
                  condition, where.function_name(), file, where.line(), message.empty() ? "" : ": ",
                  message),
      {}, where);
}

}  // namespace detail
}  // namespace stator
