// A tensor size: an integer, or an integer expression over named symbols.
//
// In:  integers, symbols ("s0"), and + - * floordiv mod min max over them.
// Out: a value in canonical form (a polynomial over atoms, sorted), so that equal forms compare
//      equal and print alike: "64", "s0", "2*s0 + 1", "floordiv(s0 + 1, 2)".
// Invariant: an expression without symbols is always folded to an integer. Two Dims that compare
// unequal may still be equal for every value of their symbols; equality is never claimed wrongly.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace stator {

// The values of symbols for one call.
using SymbolValues = std::map<std::string, int64_t, std::less<>>;

class Dim {
 public:
  Dim(int64_t value = 0) : constant_(value) {}  // NOLINT: an integer is a size
  static Dim Symbol(std::string_view name);

  bool is_static() const { return polynomial_ == nullptr; }
  // The integer; raises Internal when symbolic.
  int64_t value() const;
  // Evaluates under `symbols`; raises InvalidArgument naming a symbol without a value.
  int64_t Eval(const SymbolValues& symbols) const;
  void CollectSymbols(std::set<std::string>& symbols) const;

  // This divided by `divisor` when the division leaves no remainder for any value of the symbols;
  // found for integer and single-term divisors only.
  std::optional<Dim> FindExactQuotient(const Dim& divisor) const;

  std::string ToString() const;
  // Reads what ToString writes; empty when `text` is not an expression.
  static std::optional<Dim> Find(std::string_view text);

  friend Dim operator+(const Dim& lhs, const Dim& rhs);
  friend Dim operator-(const Dim& lhs, const Dim& rhs);
  friend Dim operator*(const Dim& lhs, const Dim& rhs);
  friend bool operator==(const Dim& lhs, const Dim& rhs);

  struct Atom;
  struct Polynomial;

 private:
  friend Dim MakeAtom(int kind, std::string name, const Dim& lhs, const Dim& rhs);
  static Dim FromPolynomial(Polynomial polynomial);
  Polynomial AsPolynomial() const;

  int64_t constant_ = 0;
  std::shared_ptr<const Polynomial> polynomial_;
};

// Division rounding to minus infinity, and its remainder (the sign of the divisor), as Python's.
// Raise InvalidArgument on a zero divisor.
Dim FloorDiv(const Dim& lhs, const Dim& rhs);
Dim Mod(const Dim& lhs, const Dim& rhs);
Dim Min(const Dim& lhs, const Dim& rhs);
Dim Max(const Dim& lhs, const Dim& rhs);

using Dims = std::vector<Dim>;

// "[1, s0, 64]"
std::string DimsToString(const Dims& dims);
// Product of all sizes; 1 for a 0-d tensor.
Dim NumElements(const Dims& dims);
bool IsStatic(const Dims& dims);
std::vector<int64_t> EvalDims(const Dims& dims, const SymbolValues& symbols);
// Row-major strides in elements of a dense tensor with these sizes.
Dims ContiguousStrides(const Dims& dims);

}  // namespace stator
