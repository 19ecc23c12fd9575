// Knobs and dumps: values, defaults, bad values, files of dumps.
#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/knobs.h"

namespace stator {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Knobs : public ::testing::Test {
 protected:
  void SetUp() override {
    unsetenv("STATOR_FUEL");
    unsetenv("STATOR_DUMP");
  }
  void TearDown() override { SetUp(); }
};

TEST_F(Knobs, AnUnsetOrEmptyVariableIsItsDefault) {
  EXPECT_EQ(GetIntKnob("STATOR_FUEL"), -1);
  setenv("STATOR_FUEL", "", 1);
  EXPECT_EQ(GetIntKnob("STATOR_FUEL"), -1);
  setenv("STATOR_FUEL", "12", 1);
  EXPECT_EQ(GetIntKnob("STATOR_FUEL"), 12);
}

TEST_F(Knobs, WhatIsNoIntegerIsTheUsersError) {
  for (const char* text : {"twelve", "1.5", "12 ", "0x10", "99999999999999999999"}) {
    setenv("STATOR_FUEL", text, 1);
    try {
      GetIntKnob("STATOR_FUEL");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr("STATOR_FUEL"));
    }
  }
}

TEST_F(Knobs, ANameOutsideTheTableIsOurBug) {
  try {
    GetKnob("STATOR_FULE");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
}

TEST_F(Knobs, DumpsAreMadeOnDemand) {
  int calls = 0;
  auto text = [&] {
    ++calls;
    return std::string("text");
  };
  DumpText("stage", text);
  EXPECT_EQ(calls, 0);

  fs::path folder = fs::path(::testing::TempDir()) / "stator_knobs_test" / "dumps";
  fs::remove_all(folder);
  setenv("STATOR_DUMP", folder.c_str(), 1);
  DumpText("stage", text);
  EXPECT_EQ(calls, 1);
  for (const auto& entry : fs::directory_iterator(folder)) {
    EXPECT_THAT(entry.path().filename().string(), HasSubstr("_stage.txt"));
  }
}

TEST_F(Knobs, AFolderThatCannotBeMadeIsNoError) {
  setenv("STATOR_DUMP", "/proc/no/such/folder", 1);
  EXPECT_NO_THROW(DumpText("stage", [] { return std::string("text"); }));
}

}  // namespace
}  // namespace stator
