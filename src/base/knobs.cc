#include "base/knobs.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/log.h"

namespace stator {
namespace {

constexpr Knob kKnobs[] = {
    {"STATOR_CACHE_DIR", "",
     "folder of cached engines and measured times; unset: stator in $XDG_CACHE_HOME or ~/.cache"},
    {"STATOR_CACHE_SIZE", "1073741824",
     "most bytes of cached engines; the least recently used go first"},
    {"STATOR_DUMP", "", "folder that takes the text of each pass and stage; unset: no dumps"},
    {"STATOR_FUEL", "-1", "how many rewrites the passes of a graph may make; negative: no bound"},
    {"STATOR_LOG", "warn", "lowest level logged: trace, debug, info, warn, error, off"},
    {"STATOR_PDL", "1", "0: no kernel on a CUDA device starts before the one before it has ended"},
};

}  // namespace

std::span<const Knob> AllKnobs() { return kKnobs; }

std::string GetKnob(std::string_view name) {
  auto it = std::find_if(std::begin(kKnobs), std::end(kKnobs),
                         [&](const Knob& knob) { return knob.name == name; });
  STATOR_CHECK(it != std::end(kKnobs), "there is no knob `{}`", name);
  const char* value = std::getenv(it->name.data());
  return value != nullptr && *value != '\0' ? value : std::string(it->fallback);
}

int64_t GetIntKnob(std::string_view name) {
  std::string text = GetKnob(name);
  int64_t value = 0;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) {
    Fail(ErrorKind::kInvalidArgument, "{} is `{}`, expected an integer", name, text);
  }
  return value;
}

std::string GetCacheFolder() {
  std::string folder = GetKnob("STATOR_CACHE_DIR");
  if (!folder.empty()) return folder;
  const char* base = std::getenv("XDG_CACHE_HOME");
  if (base != nullptr && *base != '\0') return std::string(base) + "/stator";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "") + "/.cache/stator";
}

void DumpText(std::string_view name, const std::function<std::string()>& text) {
  std::string folder = GetKnob("STATOR_DUMP");
  if (folder.empty()) return;
  static std::atomic<int> count = 0;
  std::filesystem::path path =
      std::filesystem::path(folder) / fmt::format("{:04}_{}.txt", count++, name);
  std::error_code ignored;  // the open below reports what is wrong
  std::filesystem::create_directories(folder, ignored);
  std::ofstream file(path);
  file << text();
  if (!file) WarnOnce(fmt::format("dumps are lost: {} cannot be written", path.string()));
}

}  // namespace stator
