#include "base/told_symbol.h"

#include <set>

#include "base/error.h"

namespace stator {
namespace {

// dim = scale * symbol + offset
struct Linear {
  std::string symbol;
  int64_t scale = 0, offset = 0;
};

std::optional<Linear> FindLinear(const Dim& dim) {
  std::set<std::string> symbols;
  dim.CollectSymbols(symbols);
  if (symbols.size() != 1) return std::nullopt;
  Linear linear{.symbol = *symbols.begin()};
  try {
    linear.offset = dim.Eval({{linear.symbol, 0}});
    linear.scale = dim.Eval({{linear.symbol, 1}}) - linear.offset;
  } catch (const Error&) {
    return std::nullopt;  // a division by zero
  }
  bool is_linear =
      linear.scale != 0 && dim == linear.scale * Dim::Symbol(linear.symbol) + linear.offset;
  return is_linear ? std::optional(linear) : std::nullopt;
}

}  // namespace

std::optional<std::string> FindToldSymbol(const Dim& dim) {
  std::optional<Linear> linear = FindLinear(dim);
  return linear ? std::optional(linear->symbol) : std::nullopt;
}

std::optional<int64_t> SolveSymbol(const Dim& dim, int64_t size) {
  std::optional<Linear> linear = FindLinear(dim);
  if (!linear || (size - linear->offset) % linear->scale != 0) return std::nullopt;
  return (size - linear->offset) / linear->scale;
}

}  // namespace stator
