// StageGate: times, dumps, and errors that name the stage.
#include <gtest/gtest.h>

#include "base/error.h"
#include "compile/stage.h"

namespace stator {
namespace {

// The error that leaves the gate when a stage throws `thrown`.
template <typename T>
Error Raised(const T& thrown) {
  std::vector<StageTime> stages;
  try {
    StageGate(stages).Run("fuse", [&] { throw thrown; });
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorKind::kInternal, "no error");
}

TEST(StageGate, AddsUpTheTimesOfAStage) {
  std::vector<StageTime> stages;
  StageGate gate(stages);
  for (const char* name : {"fuse", "emit", "fuse"}) gate.Run(name, [] {});
  ASSERT_EQ(stages.size(), 2u);
  EXPECT_EQ(stages[0].name, "fuse");
  EXPECT_EQ(stages[1].name, "emit");
}

TEST(StageGate, NamesTheStageInErrorsOfOurs) {
  Error ours = Raised(Error(ErrorKind::kInternal, "lost a node", "add_1"));
  EXPECT_EQ(ours.message(), "stage fuse: lost a node");
  EXPECT_EQ(ours.node(), "add_1");
  EXPECT_EQ(Raised(Error(ErrorKind::kUnsupported, "no kernel")).message(), "no kernel");
}

TEST(StageGate, TurnsOtherExceptionsIntoErrors) {
  EXPECT_EQ(Raised(std::bad_alloc()).kind(), ErrorKind::kOutOfMemory);
  Error library = Raised(std::runtime_error("bad primitive"));
  EXPECT_EQ(library.kind(), ErrorKind::kInternal);
  EXPECT_EQ(library.message(), "stage fuse: bad primitive");
}

}  // namespace
}  // namespace stator
