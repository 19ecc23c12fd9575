// Measured times of tactics, kept in memory and on disk between runs.
//
// In:  a key (provider key, kernel text, operand layouts, tactic). Out: seconds.
// File: one JSON object, written atomically; a corrupt or foreign file is ignored with a warning.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace stator {

class TimingCache {
 public:
  // Starts from the file when it is there and readable; an empty path keeps times in memory only.
  explicit TimingCache(std::string path);

  std::optional<double> Find(const std::string& key) const;
  void Set(const std::string& key, double seconds);
  // Writes the file if anything was set since. Raises nothing: a cache that cannot be written is a
  // warning.
  void Save();

 private:
  std::string path_;
  mutable std::mutex mutex_;
  std::map<std::string, double> seconds_;
  bool changed_ = false;
};

}  // namespace stator
