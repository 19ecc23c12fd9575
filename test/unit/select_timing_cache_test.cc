#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "select/timing_cache.h"

namespace stator {
namespace {

class TimingCacheTest : public ::testing::Test {
 protected:
  std::string path_ = ::testing::TempDir() + "/" +
                      ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
  void SetUp() override { std::filesystem::remove(path_); }
  void TearDown() override { std::filesystem::remove(path_); }
};

TEST_F(TimingCacheTest, KeepsWhatTwoWritersMeasured) {
  TimingCache first(path_), second(path_);
  first.Set("a", 1.5);
  first.Set("both", 1.0);
  second.Set("b", 2.5);
  second.Set("both", 2.0);
  first.Save();
  second.Save();
  TimingCache reader(path_);
  EXPECT_EQ(reader.Find("a"), 1.5);
  EXPECT_EQ(reader.Find("b"), 2.5);
  EXPECT_EQ(reader.Find("both"), 2.0);
  EXPECT_EQ(reader.Find("c"), std::nullopt);
}

TEST_F(TimingCacheTest, IgnoresAForeignFile) {
  for (const char* text : {"", "[1]", "{\"version\": 0}", "{\"version\": 1, \"seconds\": 3}"}) {
    std::ofstream(path_) << text;
    TimingCache cache(path_);
    EXPECT_EQ(cache.Find("a"), std::nullopt) << text;
    cache.Set("a", 1.0);
    cache.Save();
    EXPECT_EQ(TimingCache(path_).Find("a"), 1.0) << text;
  }
}

}  // namespace
}  // namespace stator
