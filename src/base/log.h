// The log of the compiler and runtime: stderr, warnings and up unless STATOR_LOG says otherwise
// (trace, debug, info, warn, error, off).
#pragma once

#include <string>

#include <spdlog/spdlog.h>

namespace stator {

// Log().warn("timing cache {} is ignored: {}", path, reason);
spdlog::logger& Log();

// Warns once per process for each distinct text.
void WarnOnce(const std::string& text);

}  // namespace stator
