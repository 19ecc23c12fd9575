// Sympy text to Dim: how the export schema spells a symbolic size.
//
//   "Symbol('s77', positive=True, integer=True)"                       -> s77
//   "Add(Mul(Integer(2), Symbol('s0', ...)), Integer(-1))"             -> 2*s0 - 1
//   "torch.utils._sympy.functions.FloorDiv(Symbol('s0'), Integer(2))"  -> floordiv(s0, 2)
#pragma once

#include <optional>
#include <string_view>

#include "base/dim.h"

namespace stator {

// Empty when `text` is malformed, too large, or uses a function that Dim cannot express.
std::optional<Dim> FindSympyDim(std::string_view text);

// Sizes beyond this are taken for corruption: products of a few of them must fit in 64 bits.
inline constexpr int64_t kMaxSize = int64_t{1} << 40;

}  // namespace stator
