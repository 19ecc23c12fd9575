// Sympy text as the export schema spells sizes.
#include <gtest/gtest.h>

#include "import/schema/sympy.h"

namespace stator {
namespace {

std::string ToText(std::string_view sympy) {
  std::optional<Dim> dim = FindSympyDim(sympy);
  return dim ? dim->ToString() : "none";
}

TEST(Sympy, Symbols) {
  EXPECT_EQ(ToText("Symbol('s77', positive=True, integer=True)"), "s77");
  EXPECT_EQ(ToText("Symbol('s0')"), "s0");
  EXPECT_EQ(ToText("s0"), "s0");
}

TEST(Sympy, Arithmetic) {
  EXPECT_EQ(ToText("Integer(7)"), "7");
  EXPECT_EQ(ToText("Integer(-7)"), "-7");
  EXPECT_EQ(ToText("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))"), "2*s0 - 1");
  EXPECT_EQ(ToText("Pow(Symbol('s0'), Integer(2))"), "s0*s0");
  EXPECT_EQ(ToText("torch.utils._sympy.functions.FloorDiv(Symbol('s0'), Integer(2))"),
            "floordiv(s0, 2)");
  EXPECT_EQ(ToText("Mod(Symbol('s0'), Integer(8))"), "mod(s0, 8)");
  EXPECT_EQ(ToText("Max(Integer(1), Symbol('s0'))"), "max(1, s0)");
}

TEST(Sympy, WhatDimCannotExpress) {
  for (std::string_view text :
       {"", "(", "Symbol(", "Symbol('s0'", "Symbol('')", "Symbol('1')", "Symbol('max')", "Add()",
        "Add(,)", "Add(Integer(1)) Integer(2)", "Integer(99999999999999999999)", "Sin(Symbol('x'))",
        "FloorDiv(Symbol('s0'), Integer(0))", "Pow(Symbol('s0'), Integer(-1))", "Rational(1, 2)"}) {
    EXPECT_EQ(ToText(text), "none") << text;
  }
}

TEST(Sympy, HostileTextEnds) {
  std::string nested = "s0", product = "Mul(s0";
  for (int i = 0; i < 1000; ++i) nested = "Add(" + nested + ", s1)";
  for (int i = 0; i < 1000; ++i) product += ", Add(s" + std::to_string(i) + ", Integer(1))";
  EXPECT_EQ(ToText(nested), "none");
  EXPECT_EQ(ToText(product + ")"), "none");
  EXPECT_EQ(ToText("Mul(Integer(999999999999), Integer(999999999999))"), "none");
}

}  // namespace
}  // namespace stator
