#include "select/timing_cache.h"

#include <filesystem>
#include <fstream>
#include <span>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file_map.h"
#include "base/log.h"

namespace stator {
namespace {

constexpr int kFileVersion = 1;
constexpr size_t kMaxFileBytes = size_t{64} << 20;

// What the file holds; nothing when it is not there, or, with a warning, not ours.
std::map<std::string, double> ReadTimes(const std::string& path) {
  std::map<std::string, double> times;
  std::error_code error;
  auto size = std::filesystem::file_size(path, error);
  if (error) return times;  // none yet
  nlohmann::json json;
  if (size <= kMaxFileBytes) {
    std::ifstream file(path, std::ios::binary);
    json = nlohmann::json::parse(file, nullptr, false);
  }
  if (!json.is_object() || json["version"] != kFileVersion || !json["seconds"].is_object()) {
    Log().warn("timing cache {} is ignored: it is not a timing cache of version {}", path,
               kFileVersion);
    return times;
  }
  for (const auto& [key, seconds] : json["seconds"].items()) {
    if (seconds.is_number()) times[key] = seconds.get<double>();
  }
  return times;
}

}  // namespace

TimingCache::TimingCache(std::string path) : path_(std::move(path)) {
  if (!path_.empty()) seconds_ = ReadTimes(path_);
}

std::optional<double> TimingCache::Find(const std::string& key) const {
  std::lock_guard lock(mutex_);
  auto it = seconds_.find(key);
  return it == seconds_.end() ? std::nullopt : std::optional(it->second);
}

void TimingCache::Set(const std::string& key, double seconds) {
  std::lock_guard lock(mutex_);
  seconds_[key] = seconds;
  changed_ = true;
}

void TimingCache::Save() {
  std::lock_guard lock(mutex_);
  if (path_.empty() || !changed_) return;
  // Another process may have written since: its times stay where there are none of our own.
  seconds_.merge(ReadTimes(path_));
  nlohmann::json json = {{"version", kFileVersion}, {"seconds", seconds_}};
  std::string text = json.dump(1);
  try {
    WriteFile(path_, std::as_bytes(std::span(text)));
    changed_ = false;
  } catch (const Error& error) {
    Log().warn("timing cache {} is not kept: {}", path_, error.what());
  }
}

}  // namespace stator
