// DType: names, and every 16-bit pattern of float16 and bfloat16 against the compiler's own types.
#include <cmath>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "base/dtype.h"

namespace stator {
namespace {

TEST(DType, NamesRoundTrip) {
  for (int i = 0; i < kNumDTypes; ++i) {
    DType dtype = static_cast<DType>(i);
    EXPECT_EQ(FindDType(DTypeName(dtype)), dtype);
    DispatchDType(dtype, [&](auto zero) { EXPECT_EQ(sizeof(zero), DTypeSize(dtype)); });
  }
  EXPECT_FALSE(FindDType("float").has_value());
}

TEST(Float16, EveryPatternSurvives) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    Float16 half;
    half.bits = static_cast<uint16_t>(bits);
    _Float16 native;
    std::memcpy(&native, &half.bits, 2);
    float value = half;
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(native)));
      EXPECT_TRUE(std::isnan(static_cast<float>(Float16(value))));
    } else {
      ASSERT_EQ(value, static_cast<float>(native)) << bits;
      ASSERT_EQ(Float16(value).bits, half.bits) << bits;
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  std::mt19937 rng(2);
  for (int i = 0; i < 2000000; ++i) {
    uint32_t bits = rng();
    float value;
    std::memcpy(&value, &bits, 4);
    if (std::isnan(value)) continue;
    _Float16 native = static_cast<_Float16>(value);
    uint16_t expected;
    std::memcpy(&expected, &native, 2);
    ASSERT_EQ(Float16(value).bits, expected) << value;
  }
}

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(BFloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(BFloat16(1.00390625f).bits, 0x3f80);  // halfway, to even
  EXPECT_EQ(BFloat16(1.01171875f).bits, 0x3f82);  // halfway, to even
  EXPECT_EQ(static_cast<float>(BFloat16(3.4e38f)), INFINITY);
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(NAN))));
  EXPECT_EQ(BFloat16(-0.0f).bits, 0x8000);
}

}  // namespace
}  // namespace stator
