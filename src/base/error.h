// The one exception type of Stator, and the two ways to raise it.
//
// In:  a kind, a message in lower case that says what was expected, what was found and what to do.
// Out: `Error`, which every public entry (C ABI, Python binding, CLI) turns into its own form.
// Invariant: STATOR_CHECK marks bugs of ours (kind Internal); everything a user can cause is raised
// with Fail() and a kind that says whose fault it is.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace stator {

enum class ErrorKind {
  kInvalidArgument,  // the caller passed something that cannot be right
  kUnsupported,      // right, but outside what this build or device can do
  kCorruptFile,      // a plan, archive, cache or text file that fails its checks
  kVersionMismatch,  // a well-formed file of another format version
  kDeviceError,      // the device or a vendor library failed
  kOutOfMemory,      // an allocation failed
  kInternal,         // a bug in Stator
};

std::string_view ErrorKindName(ErrorKind kind);

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message, std::string node = {},
        std::source_location where = std::source_location::current());

  ErrorKind kind() const { return kind_; }
  // The message without its kind and node prefix.
  const std::string& message() const { return message_; }
  // The graph node at fault with its user file:line, or empty.
  const std::string& node() const { return node_; }
  const std::source_location& where() const { return where_; }

 private:
  ErrorKind kind_;
  std::string message_;
  std::string node_;
  std::source_location where_;
};

template <typename... Args>
[[noreturn]] void Fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void CheckFailed(const char* condition, std::string message,
                              std::source_location where);
}  // namespace detail

// Raises Internal when `condition` is false. Further arguments are a fmt format and its values.
#define STATOR_CHECK(condition, ...)                                                     \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      ::stator::detail::CheckFailed(#condition,                                          \
                                    std::string() __VA_OPT__(+fmt::format(__VA_ARGS__)), \
                                    std::source_location::current());                    \
    }                                                                                    \
  } while (false)

}  // namespace stator
