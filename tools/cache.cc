// stator cache ls, clear, verify: the folder of cached engines (src/compile/engine_cache.h).
#include <memory>

#include <fmt/format.h>

#include "base/error.h"
#include "base/knobs.h"
#include "compile/cache_folder.h"
#include "compile/engine_cache.h"
#include "tools/cli.h"
#include "tools/model_file.h"

namespace stator {
namespace {

std::string AgeToString(int64_t seconds) {
  constexpr int64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  if (seconds < kHour) return fmt::format("{} min", seconds / kMinute);
  return seconds < kDay ? fmt::format("{} h", seconds / kHour)
                        : fmt::format("{} d", seconds / kDay);
}

// What an entry holds, or why it cannot be used.
std::string DescribeEntry(const std::string& path) {
  try {
    CacheEntry entry = ReadCacheEntry(path);
    return fmt::format("{} steps, {} weights; {}", entry.plan.steps.size(),
                       entry.plan.weights.size(),
                       entry.key.context.substr(0, entry.key.context.find('\n')));
  } catch (const Error& error) {
    return fmt::format("damaged: {}", error.message());
  }
}

void RunLs(const std::string& folder) {
  int64_t total = 0;
  std::vector<CacheFile> engines = ListEngines(folder);
  for (const CacheFile& file : engines) {
    fmt::print("{}  {}, used {} ago: {}\n", file.path, BytesToString(file.bytes),
               AgeToString(file.age_seconds), DescribeEntry(file.path));
    total += file.bytes;
  }
  fmt::print("{}: {} engines, {} of {}\n", folder, engines.size(), BytesToString(total),
             BytesToString(GetIntKnob("STATOR_CACHE_SIZE")));
}

void RunVerify(const std::string& folder) {
  int num_damaged = 0;
  std::vector<CacheFile> engines = ListEngines(folder);
  for (const CacheFile& file : engines) {
    try {
      ReadCacheEntry(file.path);
    } catch (const Error& error) {
      fmt::print("{}: {}\n", file.path, error.message());
      ++num_damaged;
    }
  }
  fmt::print("{}: {} engines, {} damaged\n", folder, engines.size(), num_damaged);
  if (num_damaged > 0) {
    Fail(ErrorKind::kCorruptFile,
         "{} of {} cached engines are damaged; they are built again when they are next wanted",
         num_damaged, engines.size());
  }
}

}  // namespace

void AddCache(CLI::App& app) {
  auto folder = std::make_shared<std::string>(GetCacheFolder());
  CLI::App* sub = app.add_subcommand("cache", "List, remove or check cached engines");
  sub->require_subcommand(1)->fallthrough();
  sub->add_option("--dir", *folder, "the cache folder")->capture_default_str();
  sub->add_subcommand("ls", "List the engines, least recently used first")->callback([folder] {
    RunLs(*folder);
  });
  sub->add_subcommand("clear", "Remove the engines and the measured times")->callback([folder] {
    fmt::print("{}: {} files removed\n", *folder, ClearCache(*folder));
  });
  sub->add_subcommand("verify", "Read every engine; exit with 1 when one is damaged")
      ->callback([folder] { RunVerify(*folder); });
}

}  // namespace stator
