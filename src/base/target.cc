#include "base/target.h"

#include <charconv>
#include <functional>
#include <map>
#include <vector>

#include "base/embedded_targets.h"
#include "base/error.h"

namespace stator {
namespace {

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

double ParseFigure(std::string_view key, std::string_view value, int line) {
  double figure = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), figure);
  bool whole = error == std::errc() && end == value.data() + value.size();
  if (!whole || !(figure > 0 && figure < 1e18)) {
    Fail(ErrorKind::kInvalidArgument, "target, line {}: {} is `{}`, expected a positive number",
         line, key, value);
  }
  return figure;
}

}  // namespace

Target ParseTarget(std::string_view text) {
  Target target;
  auto set = [](auto& field) {
    return [&field](double value) { field = static_cast<std::decay_t<decltype(field)>>(value); };
  };
  std::map<std::string_view, std::function<void(double)>> figures = {
      {"capability", set(target.capability)},
      {"num_sms", set(target.num_sms)},
      {"warp_size", set(target.warp_size)},
      {"max_threads_per_sm", set(target.max_threads_per_sm)},
      {"max_smem_per_block", set(target.max_smem_per_block)},
      {"l2_bytes", set(target.l2_bytes)},
      {"bandwidth", set(target.bandwidth)},
      {"half_flops", set(target.half_flops)},
      {"float_flops", set(target.float_flops)},
  };
  for (int line = 1; !text.empty(); ++line) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view content = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    content = Trim(content.substr(0, content.find('#')));
    if (content.empty()) continue;
    size_t equals = content.find('=');
    std::string_view key = Trim(content.substr(0, equals));
    std::string_view value =
        equals == std::string_view::npos ? "" : Trim(content.substr(equals + 1));
    if (key == "arch") {
      target.arch = value;
      continue;
    }
    auto it = figures.find(key);
    if (it == figures.end() || !it->second) {
      Fail(ErrorKind::kInvalidArgument, "target, line {}: `{}` is no figure, or told twice", line,
           key);
    }
    it->second(ParseFigure(key, value, line));
    it->second = nullptr;
  }
  if (target.arch.empty()) Fail(ErrorKind::kInvalidArgument, "the target names no arch");
  for (const auto& [key, left] : figures) {
    if (left) Fail(ErrorKind::kInvalidArgument, "the target does not tell its {}", key);
  }
  return target;
}

std::span<const Target> AllTargets() {
  static const std::vector<Target> targets = {ParseTarget(kTargetSm80), ParseTarget(kTargetSm90a),
                                              ParseTarget(kTargetSm100)};
  return targets;
}

std::optional<Target> FindTarget(std::string_view arch) {
  if (arch == kPortableArch) {
    std::optional<Target> portable = FindTarget("sm_80");
    portable->arch = arch;
    return portable;
  }
  for (const Target& target : AllTargets()) {
    if (target.arch == arch) return target;
  }
  constexpr std::string_view kPrefix = "sm_";
  if (!arch.starts_with(kPrefix)) return std::nullopt;
  int capability = 0;
  const char* end = arch.data() + arch.size();
  auto [rest, error] = std::from_chars(arch.data() + kPrefix.size(), end, capability);
  if (error != std::errc() || rest != end) return std::nullopt;
  std::optional<Target> found = FindTarget(capability / 10, capability % 10);
  if (found) found->arch = arch;  // sm_90 where there is an sm_90a: runs there too
  return found;
}

std::optional<Target> FindTarget(int major, int minor) {
  int capability = 10 * major + minor;
  std::optional<Target> found;
  for (const Target& target : AllTargets()) {
    if (target.capability <= capability) found = target;
  }
  if (found && found->capability != capability) {
    found->capability = capability;
    found->arch = fmt::format("sm_{}", capability);
  }
  return found;
}

int GetOrdinal(std::string_view device) {
  size_t colon = device.find(':');
  if (colon == std::string_view::npos) return 0;
  int ordinal = 0;
  auto [end, error] =
      std::from_chars(device.data() + colon + 1, device.data() + device.size(), ordinal);
  if (error != std::errc() || end != device.data() + device.size() || ordinal < 0) {
    Fail(ErrorKind::kInvalidArgument, "`{}` is no device: expected `cpu` or `cuda:0`", device);
  }
  return ordinal;
}

}  // namespace stator
