// Passes: golden graphs (test/golden/passes/<pass>/*.ir; folder `pipeline`: all passes in order).
//
// A golden file is a graph, a line "// EXPECT", and the graph after the pass.
// STATOR_UPDATE_GOLDEN=1 rewrites what follows the line. Each graph also shows that the pass is
// idempotent, that it says truly whether it changed anything, and that it keeps the graph's value.
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "passes_random_graph.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Pass> PassesOf(const fs::path& path) {
  std::string name = path.parent_path().filename();
  return name == "pipeline" ? AllPasses() : FindPasses({name});
}

// Passes that move and merge nodes without another rounding keep NaN, infinities and the sign of
// zero; what matches an activation, a norm or attention rounds as that op does.
bool IsExact(const fs::path& path) {
  const std::set<std::string> exact = {"simplify",         "simplify_views", "fold_literals",
                                       "eliminate_common", "eliminate_dead", "flatten_matmuls",
                                       "sink_views",       "assign_layout"};
  return exact.contains(path.parent_path().filename()) && path.stem() != "powers";
}

// Relative and absolute. Passes that narrow types round to 11 or 8 bits, and matched activations
// and factors of such values are no longer rounded between.
double ToleranceOf(const fs::path& path) {
  std::string pass = path.parent_path().filename();
  bool half = pass == "compute_in_half" || path.stem().string().ends_with("narrow");
  return half ? 4e-3 : pass == "compute_in_bfloat16" ? 3e-2 : 1e-4;
}

class PassGolden : public ::testing::TestWithParam<fs::path> {};

TEST_P(PassGolden, Matches) {
  constexpr std::string_view kMark = "// EXPECT\n";
  std::string text = ReadFile(GetParam());
  size_t mark = text.find(kMark);
  ASSERT_NE(mark, std::string::npos) << GetParam() << " has no line `// EXPECT`";
  Graph before = ParseGraph(text.substr(0, mark));
  FillWeights(before, 7);

  Graph after = before;
  RunPasses(after, PassesOf(GetParam()));
  std::string actual = PrintGraph(after);
  if (std::getenv("STATOR_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(GetParam()) << text.substr(0, mark) << kMark << actual;
  } else {
    EXPECT_EQ(actual, text.substr(mark + kMark.size())) << GetParam();
  }
  ExpectSameValues(before, after, ToleranceOf(GetParam()));
  if (IsExact(GetParam())) ExpectSameValues(before, after, 0, Match::kExact);

  Graph twice = after;
  int64_t num_rewrites = 0;
  for (const PassTime& time : RunPasses(twice, PassesOf(GetParam()))) {
    num_rewrites += time.num_rewrites;
  }
  EXPECT_EQ(num_rewrites, 0) << "not idempotent";
  EXPECT_EQ(PrintGraph(twice), actual);
}

std::vector<fs::path> GoldenFiles() {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(STATOR_GOLDEN_DIR) / "passes")) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

INSTANTIATE_TEST_SUITE_P(Files, PassGolden, ::testing::ValuesIn(GoldenFiles()),
                         [](const auto& info) {
                           return std::string(info.param.parent_path().filename()) + "_" +
                                  std::string(info.param.stem());
                         });

}  // namespace
}  // namespace stator
