// The text form of a plan: exact round trip, long constants by hash, damaged text.
#include <random>

#include <gtest/gtest.h>

#include "base/error.h"
#include "sample_plan.h"

namespace stator {
namespace {

TEST(PlanText, RoundTripsExactly) { EXPECT_EQ(PlanToText(MakeSamplePlan()), kSamplePlan); }

TEST(PlanText, EndsItsFirstLineInAuxStreams) {
  Plan plan = MakeSamplePlan();
  plan.aux_streams = 3;
  std::string text = PlanToText(plan);
  EXPECT_EQ(text.substr(0, text.find('\n')),
            "plan \"sample\" version 1 target \"reference\" aux_streams 3");
  EXPECT_EQ(PlanFromText(text).aux_streams, 3);
}

TEST(PlanText, ShowsLongConstantsByHash) {
  Plan plan = MakeSamplePlan();
  plan.literals[0] = MakeConstantData(std::vector<std::byte>(100));
  std::string text = PlanToText(plan);
  EXPECT_NE(text.find("literal 0 = 100 bytes hash \""), std::string::npos) << text;
  Plan back = PlanFromText(text);
  EXPECT_EQ(back.literals[0].size, 100u);
  EXPECT_EQ(back.literals[0].bytes, nullptr);
  EXPECT_THROW(PlanToBytes(back), Error);
}

TEST(PlanText, ShowsCodeByHash) {
  Plan plan = MakeSamplePlan();
  plan.code[0].binary = MakeConstantData(std::vector<std::byte>(100));
  std::string text = PlanToText(plan);
  EXPECT_NE(text.find("code 0 = \"sm_90a\" \"add_3\" 100 bytes hash \""), std::string::npos)
      << text;
  Plan back = PlanFromText(text);
  EXPECT_EQ(back.code[0].binary.size, 100u);
  EXPECT_EQ(back.code[0].binary.bytes, nullptr);
  EXPECT_THROW(PlanToBytes(back), Error);
}

TEST(PlanText, NamesTheLineAtFault) {
  std::string text(kSamplePlan);
  text.replace(text.find("arena 1 ="), 9, "arena 7 =");
  try {
    PlanFromText(text);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorruptFile);
    EXPECT_NE(error.message().find("line 10"), std::string::npos) << error.message();
  }
}

TEST(PlanText, SurvivesDamage) {
  std::mt19937 rng(3);
  for (int round = 0; round < 5000; ++round) {
    std::string text(kSamplePlan);
    for (unsigned i = 0; i < 1 + rng() % 3; ++i) {
      size_t at = rng() % text.size();
      switch (rng() % 3) {
        case 0: text[at] = static_cast<char>(rng()); break;
        case 1: text.erase(at, rng() % 20); break;
        default: text.insert(at, text.substr(rng() % text.size(), rng() % 30));
      }
    }
    try {
      PlanFromText(text);
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::kCorruptFile ||
                  error.kind() == ErrorKind::kVersionMismatch)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace stator
