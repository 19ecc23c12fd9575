// The pipeline as a whole: values of random graphs, fuel, selection by name, dumps, documentation.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "passes_random_graph.h"

namespace stator {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(Pipeline, KeepsTheValueOfRandomGraphs) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    Graph before = MakeModelGraph(seed);
    VerifyGraph(before);
    Graph after = before;
    RunPasses(after, AllPasses());
    ExpectSameValues(before, after, 1e-3);
    if (::testing::Test::HasFatalFailure()) {
      FAIL() << "seed " << seed << "\n" << PrintGraph(before) << PrintGraph(after);
    }
  }
}

TEST(Pipeline, KeepsTheValueUnderAnyFuel) {
  Graph before = MakeModelGraph(5);
  for (int fuel = 0; fuel < 40; ++fuel) {
    setenv("STATOR_FUEL", std::to_string(fuel).c_str(), 1);
    Graph after = before;
    int64_t num_rewrites = 0;
    for (const PassTime& time : RunPasses(after, AllPasses())) num_rewrites += time.num_rewrites;
    EXPECT_LE(num_rewrites, fuel);
    ExpectSameValues(before, after, 1e-3);
  }
  unsetenv("STATOR_FUEL");
}

TEST(Pipeline, EachPassIsIdempotent) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    Graph graph = MakeModelGraph(seed);
    for (const Pass& pass : AllPasses()) {
      RunPasses(graph, {pass});
      std::string once = PrintGraph(graph);
      EXPECT_EQ(RunPasses(graph, {pass})[0].num_rewrites, 0) << pass.name << "\n" << once;
    }
  }
}

TEST(Pipeline, NamesTheValidPasses) {
  EXPECT_EQ(FindPasses({"simplify", "eliminate_dead"}).size(), 2u);
  try {
    FindPasses({"simplfy"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("`simplfy`"));
    EXPECT_THAT(error.what(), HasSubstr("eliminate_dead"));
  }
}

TEST(Pipeline, RejectsFuelThatIsNoNumber) {
  setenv("STATOR_FUEL", "ten", 1);
  Graph graph = MakeModelGraph(1);
  EXPECT_THROW(RunPasses(graph, AllPasses()), Error);
  unsetenv("STATOR_FUEL");
}

TEST(Pipeline, DumpsEachPass) {
  fs::path folder = fs::path(::testing::TempDir()) / "stator_dump_test";
  fs::remove_all(folder);
  setenv("STATOR_DUMP", folder.c_str(), 1);
  Graph graph =
      ParseGraph("graph @g(%x: f32[2]) {\n  %0 = neg(%x)\n  %1 = neg(%0)\n  return %1\n}\n");
  RunPasses(graph, FindPasses({"simplify", "simplify"}));
  unsetenv("STATOR_DUMP");
  std::vector<std::string> texts;
  std::vector<fs::path> files(fs::directory_iterator(folder), {});
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    EXPECT_THAT(file.filename().string(), HasSubstr("pass_simplify"));
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    texts.push_back(text.str());
  }
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0], "graph @g(%x: f32[2]) {\n  return %x\n}\n");
  EXPECT_EQ(texts[1], "(unchanged)\n");
}

TEST(Pipeline, DocumentsEachPass) {
  std::string text = PassesToMarkdown();
  for (const Pass& pass : AllPasses()) EXPECT_THAT(text, HasSubstr(std::string(pass.name)));
}

}  // namespace
}  // namespace stator
