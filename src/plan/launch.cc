// The launch of a step's kernel, as attributes of the step.

#include "base/error.h"
#include "plan/plan.h"

namespace stator {
namespace {

template <typename T>
const T& Get(const Attrs& attrs, std::string_view name) {
  const Attr* attr = attrs.Find(name);
  const T* value = attr != nullptr ? std::get_if<T>(attr) : nullptr;
  if (value != nullptr) return *value;
  Fail(ErrorKind::kCorruptFile, "a step that launches code has no attribute `{}` of kind {}", name,
       AttrKindName(T()));
}

int GetInt(const Attrs& attrs, std::string_view name) {
  const Dim& dim = Get<Dim>(attrs, name);
  if (!dim.is_static() || dim.value() < 0 || dim.value() > INT32_MAX) {
    Fail(ErrorKind::kCorruptFile, "attribute `{}` is {}, expected 0 to 2^31 - 1", name,
         dim.ToString());
  }
  return static_cast<int>(dim.value());
}

std::vector<std::string> Split(const std::string& names) {
  std::vector<std::string> result;
  for (size_t start = 0; start < names.size();) {
    size_t end = std::min(names.find(',', start), names.size());
    result.push_back(names.substr(start, end - start));
    start = end + 1;
  }
  return result;
}

}  // namespace

std::optional<StepLaunch> FindLaunch(const Attrs& attrs) {
  if (attrs.Find("code") == nullptr) return std::nullopt;
  return StepLaunch{.code = GetInt(attrs, "code"),
                    .grid = Get<Dims>(attrs, "grid"),
                    .block = GetInt(attrs, "block"),
                    .smem = GetInt(attrs, "smem"),
                    .symbols = Split(Get<std::string>(attrs, "symbols")),
                    .pdl = Get<bool>(attrs, "pdl")};
}

void SetLaunch(Attrs& attrs, const StepLaunch& launch) {
  std::string symbols;
  for (const std::string& symbol : launch.symbols) {
    symbols += (symbols.empty() ? "" : ",") + symbol;
  }
  attrs.Set("code", Dim(launch.code));
  attrs.Set("grid", launch.grid);
  attrs.Set("block", Dim(launch.block));
  attrs.Set("smem", Dim(launch.smem));
  attrs.Set("symbols", symbols);
  attrs.Set("pdl", launch.pdl);
}

}  // namespace stator
