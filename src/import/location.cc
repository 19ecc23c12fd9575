// The user's line that made a node, from the stack trace that the FX graph recorded.
#include <cctype>
#include <string>
#include <string_view>

#include "import/importer.h"

namespace stator {
namespace {

// Frames of torch itself are not the user's.
bool IsTorchFile(std::string_view path) {
  return path.find("-packages/torch/") != std::string_view::npos;
}

// "modules/linear.py": the file and its folder.
std::string_view ShortenPath(std::string_view path) {
  size_t slash = path.rfind('/');
  if (slash != std::string_view::npos && slash > 0) slash = path.rfind('/', slash - 1);
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

// Frames are spelled `File "path", line N, in f`, the innermost last.
std::string FindLocation(std::string_view stack_trace) {
  constexpr std::string_view kFile = "File \"", kLine = "\", line ";
  std::string location;
  bool is_torch = true;
  for (size_t at = stack_trace.find(kFile); at != std::string_view::npos;
       at = stack_trace.find(kFile, at + 1)) {
    std::string_view frame = stack_trace.substr(at + kFile.size());
    size_t end = frame.find(kLine);
    if (end == std::string_view::npos) break;
    std::string_view path = frame.substr(0, end), line = frame.substr(end + kLine.size());
    size_t digits = 0;
    while (digits < line.size() && std::isdigit(static_cast<unsigned char>(line[digits]))) ++digits;
    if (!is_torch && IsTorchFile(path)) continue;
    is_torch = IsTorchFile(path);
    location = std::string(ShortenPath(path)) + ":" + std::string(line.substr(0, digits));
  }
  return location;
}

}  // namespace stator
