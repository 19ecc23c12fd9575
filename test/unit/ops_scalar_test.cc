// Scalars at the edges: integers that wrap, divisions that would trap, casts that do not fit.
#include <gtest/gtest.h>

#include "ops/scalar.h"

namespace stator::scalar {
namespace {

using I32 = Int<int32_t>;
using I64 = Int<int64_t>;
constexpr int32_t kMin32 = std::numeric_limits<int32_t>::min();
constexpr int32_t kMax32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMin64 = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax64 = std::numeric_limits<int64_t>::max();

TEST(Scalar, IntegersWrap) {
  EXPECT_EQ((I32(kMax32) + 1).value, kMin32);
  EXPECT_EQ((I32(kMin32) - 1).value, kMax32);
  EXPECT_EQ((I64(kMax64) * 2).value, -2);
  EXPECT_EQ((-I64(kMin64)).value, kMin64);
  EXPECT_EQ(abs(I32(kMin32)).value, kMin32);
  EXPECT_EQ((Int<uint8_t>(200) + 100).value, 44);
  EXPECT_EQ((-Int<uint8_t>(1)).value, 255);
  EXPECT_EQ(pow(Int<int8_t>(2), 7).value, -128);
  EXPECT_EQ(pow(I64(3), 100).value, (pow(I64(3), 50) * pow(I64(3), 50)).value);
}

TEST(Scalar, DivisionNeverTraps) {
  for (I32 zero_by : {I32(7), I32(0), I32(kMin32)}) {
    EXPECT_EQ(floor_div(zero_by, 0).value, 0);
    EXPECT_EQ(trunc_div(zero_by, 0).value, 0);
    EXPECT_EQ(remainder(zero_by, 0).value, 0);
    EXPECT_EQ(fmod(zero_by, 0).value, 0);
  }
  EXPECT_EQ(trunc_div(I64(kMin64), -1).value, kMin64);
  EXPECT_EQ(floor_div(I64(kMin64), -1).value, kMin64);
  EXPECT_EQ(remainder(I32(kMin32), -1).value, 0);
  EXPECT_EQ(fmod(I32(kMin32), -1).value, 0);
}

TEST(Scalar, DivisionRoundsAsItsNameSays) {
  EXPECT_EQ(floor_div(I32(-7), 2).value, -4);
  EXPECT_EQ(trunc_div(I32(-7), 2).value, -3);
  EXPECT_EQ(remainder(I32(-7), 2).value, 1);
  EXPECT_EQ(fmod(I32(-7), 2).value, -1);
  EXPECT_EQ(remainder(I32(7), -2).value, -1);
  EXPECT_EQ(floor_div(-7.0f, 2.0f), -4.0f);
  EXPECT_EQ(floor_div(6.5, 0.1), 64.0);  // 6.5 / 0.1 rounds up to 65
  EXPECT_EQ(remainder(-5.0, HUGE_VAL), HUGE_VAL);
}

TEST(Scalar, NegativePowersRoundToZero) {
  EXPECT_EQ(pow(I32(2), -1).value, 0);
  EXPECT_EQ(pow(I32(1), -3).value, 1);
  EXPECT_EQ(pow(I32(-1), -3).value, -1);
  EXPECT_EQ(pow(I32(-1), -2).value, 1);
  EXPECT_EQ(pow(I32(0), -1).value, 0);
}

TEST(Scalar, ExtremaPropagateNaN) {
  EXPECT_TRUE(std::isnan(maximum(NAN, 1.0)));
  EXPECT_TRUE(std::isnan(maximum(1.0, NAN)));
  EXPECT_TRUE(std::isnan(minimum(NAN, 1.0)));
  EXPECT_TRUE(std::isnan(minimum(1.0, NAN)));
  EXPECT_EQ(sign(static_cast<double>(NAN)), 0);
}

TEST(Scalar, RoundsHalfToEven) {
  EXPECT_EQ(round(0.5), 0.0);
  EXPECT_EQ(round(1.5), 2.0);
  EXPECT_EQ(round(-2.5), -2.0);
}

TEST(Scalar, CastsWhatDoesNotFitAsTorchDoes) {
  EXPECT_EQ(CastTo<int32_t>(3e9), kMin32);
  EXPECT_EQ(CastTo<int32_t>(NAN), kMin32);
  EXPECT_EQ(CastTo<int32_t>(-2147483648.9), kMin32);
  EXPECT_EQ(CastTo<int32_t>(2147483647.9), kMax32);
  EXPECT_EQ(CastTo<int64_t>(1e19), kMin64);
  EXPECT_EQ(CastTo<int64_t>(-9223372036854775808.0), kMin64);
  EXPECT_EQ(CastTo<uint8_t>(-1.0f), 255);
  EXPECT_EQ(CastTo<uint8_t>(3e9 + 5), 5);
  EXPECT_EQ(CastTo<int16_t>(70000.0f), 4464);
  EXPECT_EQ(CastTo<int16_t>(3e9), 0);
  EXPECT_TRUE(CastTo<bool>(NAN));
  EXPECT_EQ(static_cast<float>(CastTo<Float16>(1e6)), HUGE_VALF);
  EXPECT_EQ(CastTo<int8_t>(Int<int64_t>(200)), -56);
}

}  // namespace
}  // namespace stator::scalar
