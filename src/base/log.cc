#include "base/log.h"

#include <mutex>
#include <set>

#include <spdlog/sinks/stdout_color_sinks.h>

#include "base/knobs.h"

namespace stator {

spdlog::logger& Log() {
  static std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "stator", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_level(spdlog::level::from_str(GetKnob("STATOR_LOG")));
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
