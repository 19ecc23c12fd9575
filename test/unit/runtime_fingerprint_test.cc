// Fingerprint: what it sees and what it does not.
#include <random>

#include <gtest/gtest.h>

#include "runtime/fingerprint.h"

namespace stator {
namespace {

class FingerprintTest : public ::testing::TestWithParam<size_t> {
 protected:
  ConstantData data() const {
    return {.bytes = reinterpret_cast<const std::byte*>(weight.data()), .size = weight.size() * 4};
  }

  std::vector<float> weight;
};

TEST_P(FingerprintTest, SeesDenseChangesAndBothEnds) {
  weight.resize(GetParam());
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i) * 0.1f;
  Fingerprint fingerprint;
  std::vector<ConstantData> weights = {{}, data()};
  fingerprint.Watch(weights);
  uint64_t before = fingerprint.Compute();
  EXPECT_EQ(fingerprint.Compute(), before);
  std::vector<float> copy = weight;
  for (float& element : weight) element += 1e-3f;
  EXPECT_NE(fingerprint.Compute(), before);
  weight = copy;
  weight.front() += 1;
  EXPECT_NE(fingerprint.Compute(), before);
  weight = copy;
  weight.back() += 1;
  EXPECT_NE(fingerprint.Compute(), before);
  std::copy(copy.begin(), copy.end(), weight.begin());
  EXPECT_EQ(fingerprint.Compute(), before);
}

INSTANTIATE_TEST_SUITE_P(Sizes, FingerprintTest,
                         ::testing::Values(1, 2, 3, 5, 8, 15, 16, 17, 63, 1000, 4097));

TEST(Fingerprint, SeesEveryElementOfSmallWeights) {
  std::vector<float> weight(8, 1.0f);
  Fingerprint fingerprint;
  ConstantData data{.bytes = reinterpret_cast<const std::byte*>(weight.data()), .size = 32};
  fingerprint.Watch({&data, 1});
  uint64_t before = fingerprint.Compute();
  for (float& element : weight) {
    element = 2.0f;
    EXPECT_NE(fingerprint.Compute(), before);
    element = 1.0f;
  }
}

}  // namespace
}  // namespace stator
