#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <mutex>
#include <set>

namespace stator {

spdlog::logger& Log() {
  static std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "stator", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    const char* level = std::getenv("STATOR_LOG");
    made->set_level(level != nullptr ? spdlog::level::from_str(level) : spdlog::level::warn);
    made->set_pattern("%^stator %l%$: %v");
    return made;
  }();
  return *logger;
}

void WarnOnce(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> seen;
  std::lock_guard lock(mutex);
  if (seen.insert(text).second) Log().warn("{}", text);
}

}  // namespace stator
