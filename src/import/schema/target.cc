#include "import/schema/target.h"

#include <map>
#include <string_view>

namespace stator {

std::string NormalizeTarget(std::string target) {
  constexpr std::string_view kPrefix = "torch.ops.";
  if (target.starts_with(kPrefix)) target.erase(0, kPrefix.size());
  return target;
}

std::optional<std::string> FindFunctional(const std::string& target) {
  static const std::map<std::string_view, std::string_view> kOperators = {
      {"__iadd__", "add"},           {"__isub__", "sub"},          {"__imul__", "mul"},
      {"__iand__", "__and__"},       {"__ior__", "__or__"},        {"__ixor__", "__xor__"},
      {"__ilshift__", "__lshift__"}, {"__irshift__", "__rshift__"}};
  constexpr std::string_view kNamespace = "aten.";
  size_t end = target.rfind('.');
  if (!target.starts_with(kNamespace) || end < kNamespace.size()) return std::nullopt;
  std::string_view name(target.data() + kNamespace.size(), end - kNamespace.size());
  auto it = kOperators.find(name);
  if (it != kOperators.end()) {
    name = it->second;
  } else if (name.ends_with('_') && !name.starts_with("__")) {
    name.remove_suffix(1);
  } else {
    return std::nullopt;
  }
  return std::string(kNamespace) + std::string(name) + target.substr(end);
}

}  // namespace stator
