#include "select/timing_cache.h"

#include <fstream>
#include <iterator>
#include <span>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file_map.h"
#include "base/log.h"

namespace stator {
namespace {

constexpr int kFileVersion = 1;
constexpr size_t kMaxFileBytes = size_t{64} << 20;

}  // namespace

TimingCache::TimingCache(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  std::ifstream file(path_, std::ios::binary);
  if (!file) return;  // none yet
  std::string text(std::istreambuf_iterator<char>(file), {});
  auto json =
      text.size() <= kMaxFileBytes ? nlohmann::json::parse(text, nullptr, false) : nlohmann::json();
  if (!json.is_object() || json["version"] != kFileVersion || !json["seconds"].is_object()) {
    Log().warn("timing cache {} is ignored: it is not a timing cache of version {}", path_,
               kFileVersion);
    return;
  }
  for (const auto& [key, seconds] : json["seconds"].items()) {
    if (seconds.is_number()) seconds_[key] = seconds.get<double>();
  }
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
