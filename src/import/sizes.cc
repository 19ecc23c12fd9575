#include "import/sizes.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <vector>

#include "base/error.h"

namespace stator {

using Kind = schema::Argument::Kind;

std::optional<Dim> SizeTable::Find(const std::string& name) const {
  auto it = sizes_.find(name);
  return it == sizes_.end() ? std::nullopt : std::optional(it->second);
}

void SizeTable::Define(const std::string& name) {
  auto it = program_.graph.sizes.find(name);
  if (it != program_.graph.sizes.end() && it->second.unknown.empty()) sizes_[name] = it->second.dim;
}

// It takes the size that the value has here, which may be spelled otherwise than torch spells it,
// so that sizes made from it fit those that type rules infer.
void SizeTable::DefineSizeOf(const std::string& name, const Dims& dims, int64_t dim) {
  Define(name);
  if (dim < 0) dim += static_cast<int64_t>(dims.size());
  if (dim < 0 || dim >= static_cast<int64_t>(dims.size())) return;
  std::optional<Dim> recorded = Find(name);
  if (!recorded || AreSame(dims[dim], *recorded)) sizes_[name] = dims[dim];
}

std::optional<Dim> SizeTable::FindArgument(const schema::Argument& arg) const {
  constexpr int64_t kMaxFactor = int64_t{1} << 20;  // so that products do not overflow
  if (arg.kind == Kind::kInt && std::abs(arg.integer / 2) < kMaxFactor) return Dim(arg.integer);
  if (arg.kind == Kind::kSymInt && !arg.sizes[0].name.empty()) return Find(arg.sizes[0].name);
  return std::nullopt;
}

// From the sizes at hand when they give what torch recorded, or else as torch recorded it.
void SizeTable::DefineExpression(const std::string& name, const std::string& target,
                                 const schema::Node& node) {
  Define(name);
  if (node.inputs.size() != 2) return;
  std::optional<Dim> a = FindArgument(node.inputs[0].arg), b = FindArgument(node.inputs[1].arg);
  std::optional<Dim> recorded = Find(name), value;
  if (!a || !b || !recorded) return;
  if (target == "_operator.add") value = *a + *b;
  if (target == "_operator.sub") value = *a - *b;
  if (target == "_operator.mul") value = *a * *b;
  if (target == "_operator.floordiv" && !(*b == Dim(0))) value = FloorDiv(*a, *b);
  if (value && AreSame(*value, *recorded)) sizes_[name] = *value;
}

// `text` with its first "min(a, b)" or "max(a, b)" replaced by "(a)" and by "(b)"; empty without.
static std::vector<std::string> FindBranches(const std::string& text) {
  size_t begin = std::min(text.find("min("), text.find("max("));
  if (begin == std::string::npos) return {};
  size_t comma = 0, end = begin + 4;
  for (int depth = 1; end < text.size(); ++end) {
    depth += (text[end] == '(') - (text[end] == ')');
    if (depth == 0) break;
    if (depth == 1 && text[end] == ',') comma = end;
  }
  auto replaced = [&](size_t from, size_t to) {
    return text.substr(0, begin) + "(" + text.substr(from, to - from) + text.substr(end);
  };
  return {replaced(begin + 4, comma), replaced(comma + 1, end)};
}

bool SizeTable::AreSame(const Dim& inferred, const Dim& recorded) const {
  if (AgreeEverywhere(inferred, recorded)) return true;
  constexpr size_t kMaxBranches = 32;
  std::vector<std::string> texts = {inferred.ToString()};
  for (size_t i = 0; i < texts.size() && texts.size() < kMaxBranches; ++i) {
    for (const std::string& branch : FindBranches(texts[i])) {
      std::optional<Dim> dim = Dim::Find(branch);
      if (!dim) continue;
      if (AgreeEverywhere(*dim, recorded)) return true;
      texts.push_back(dim->ToString());
    }
  }
  return false;
}

bool SizeTable::AgreeEverywhere(const Dim& a, const Dim& b) const {
  if (a == b) return true;
  if (a.is_static() && b.is_static()) return false;
  std::set<std::string> symbols;
  a.CollectSymbols(symbols);
  b.CollectSymbols(symbols);
  constexpr int64_t kMaxSample = 4096;  // so that products do not overflow
  constexpr int64_t kSteps[] = {0, 1, 2, 3, 7, 10, 33, 100, 257, 1000, 4099};
  for (int64_t step : kSteps) {
    SymbolValues values;
    int64_t salt = 1;
    for (const std::string& symbol : symbols) {
      auto it = program_.ranges.find(symbol);
      schema::RangeConstraint range =
          it == program_.ranges.end() ? schema::RangeConstraint{} : it->second;
      values[symbol] = std::min(range.max, std::min(range.min, kMaxSample) + step * salt);
      salt += 2;
    }
    try {
      if (a.Eval(values) != b.Eval(values)) return false;
    } catch (const Error&) {
      return false;  // a division by zero
    }
  }
  return true;
}

}  // namespace stator
