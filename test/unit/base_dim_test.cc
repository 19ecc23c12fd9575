// Dim: canonical form, text round trip, exact division, and agreement with plain integers.
#include <random>

#include <gtest/gtest.h>

#include "base/dim.h"
#include "base/error.h"

namespace stator {
namespace {

const Dim s0 = Dim::Symbol("s0");
const Dim s1 = Dim::Symbol("s1");

TEST(Dim, FoldsIntegers) {
  EXPECT_EQ((Dim(3) * 4 + 2).value(), 14);
  EXPECT_EQ(FloorDiv(-7, 2).value(), -4);
  EXPECT_EQ(Mod(-7, 2).value(), 1);
  EXPECT_EQ(Min(3, 5).value(), 3);
  EXPECT_EQ(Max(3, 5).value(), 5);
}

TEST(Dim, IsCanonical) {
  EXPECT_EQ(s0 + s1, s1 + s0);
  EXPECT_EQ((s0 + 1) * (s0 - 1), s0 * s0 - 1);
  EXPECT_EQ(s0 - s0, Dim(0));
  EXPECT_TRUE((s0 * 0).is_static());
  EXPECT_FALSE(s0 == s1);
  EXPECT_EQ((2 * s0 + 1).ToString(), "2*s0 + 1");
  EXPECT_EQ((s0 * s1 - 3).ToString(), "s0*s1 - 3");
}

TEST(Dim, DividesExactly) {
  EXPECT_EQ(FloorDiv(s0 * 12, 4), s0 * 3);
  EXPECT_EQ(FloorDiv(s0 * s1 * 2, s0), s1 * 2);
  EXPECT_EQ(FloorDiv(s0 * 4 + 8, 4), s0 + 2);
  EXPECT_EQ(Mod(s0 * 4 + 8, 4), Dim(0));
  EXPECT_EQ(FloorDiv(s0 + 1, 2).ToString(), "floordiv(s0 + 1, 2)");
}

TEST(Dim, DividesBySums) {
  Dim area = (s0 + 1) * (s0 + 1), sides = FloorDiv(s0 - 1, 4) + s1;
  EXPECT_EQ(FloorDiv(area * 32, area), Dim(32));
  EXPECT_EQ(FloorDiv(area * 64, area * 32), Dim(2));
  EXPECT_EQ(FloorDiv(area, s0 + 1), s0 + 1);
  EXPECT_EQ(FloorDiv(s0 * s0 - s1 * s1, s0 + s1), s0 - s1);
  EXPECT_EQ(FloorDiv(sides * area, sides), area);
  EXPECT_EQ(FloorDiv(area * 3, area * 2).ToString(),
            "floordiv(6*s0 + 3*s0*s0 + 3, 4*s0 + 2*s0*s0 + 2)");
  EXPECT_EQ(FloorDiv(area, s0 + 2).ToString(), "floordiv(2*s0 + s0*s0 + 1, s0 + 2)");
}

TEST(Dim, FlattensDivisions) {
  EXPECT_EQ(FloorDiv(FloorDiv(s0 - 1, 4), 2), FloorDiv(s0 - 1, 8));
  EXPECT_EQ(FloorDiv(FloorDiv(s0 - 1, 8) - 3, 4), FloorDiv(s0 - 25, 32));
  EXPECT_EQ(FloorDiv(FloorDiv(s0, s1), 2).ToString(), "floordiv(floordiv(s0, s1), 2)");
  EXPECT_EQ(FloorDiv(FloorDiv(s0, -4), 2).ToString(), "floordiv(floordiv(s0, -4), 2)");
}

TEST(Dim, RejectsBadText) {
  for (const char* text : {"", "s0 +", "2s0", "(s0", "floordiv(s0)", "99999999999999999999",
                           "mod(s0, 0)", "s0 s1", "foo(s0, 1)"}) {
    EXPECT_FALSE(Dim::Find(text).has_value()) << text;
  }
  EXPECT_FALSE(Dim::Find(std::string(100000, '(')).has_value());
}

TEST(Dim, NamesASymbolWithoutValue) {
  try {
    (s0 + 1).Eval({});
    FAIL() << "evaluated without a value";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_NE(error.message().find("s0"), std::string::npos);
  }
}

// Random expressions: the symbolic result, evaluated, is the integer result; text reads back equal.
TEST(Dim, AgreesWithIntegers) {
  std::mt19937 rng(1);
  for (int round = 0; round < 2000; ++round) {
    SymbolValues values = {{"s0", rng() % 9 + 1}, {"s1", rng() % 9 + 1}};
    std::vector<std::pair<Dim, int64_t>> pool = {
        {s0, values["s0"]}, {s1, values["s1"]}, {Dim(2), 2}, {Dim(3), 3}};
    for (int i = 0; i < 6; ++i) {
      auto [a, x] = pool[rng() % pool.size()];
      auto [b, y] = pool[rng() % pool.size()];
      switch (rng() % 7) {
        case 0: pool.emplace_back(a + b, x + y); break;
        case 1: pool.emplace_back(a - b, x - y); break;
        case 2: pool.emplace_back(a * b, x * y); break;
        case 3: pool.emplace_back(FloorDiv(a, 3), x >= 0 ? x / 3 : -((-x + 2) / 3)); break;
        case 4: pool.emplace_back(Mod(a, 3), ((x % 3) + 3) % 3); break;
        case 5: pool.emplace_back(Min(a, b), std::min(x, y)); break;
        default: pool.emplace_back(Max(a, b), std::max(x, y)); break;
      }
      if (std::abs(pool.back().second) > 1000000) pool.pop_back();
    }
    for (const auto& [dim, expected] : pool) {
      ASSERT_EQ(dim.Eval(values), expected) << dim.ToString();
      std::optional<Dim> read = Dim::Find(dim.ToString());
      ASSERT_TRUE(read.has_value()) << dim.ToString();
      ASSERT_EQ(*read, dim) << dim.ToString();
    }
  }
}

}  // namespace
}  // namespace stator
