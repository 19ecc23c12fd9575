// Symbols whose values a tensor's sizes tell.
//
// In:  a size of an input, linear in one symbol: "s0", "2*s0 + 1". Out: the symbol, and its value
// for an integer size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dim.h"

namespace stator {

// The only symbol of a linear size; empty for other sizes.
std::optional<std::string> FindToldSymbol(const Dim& dim);
// The value of that symbol where `dim` is `size`; empty when no integer is.
std::optional<int64_t> SolveSymbol(const Dim& dim, int64_t size);

}  // namespace stator
