// Fuse: golden kernel graphs (test/golden/fuse/*.ir), and its invariants on random graphs.
//
// A golden file is a graph, a line "// EXPECT", and the kernel graph. STATOR_UPDATE_GOLDEN=1
// rewrites what follows the line. The target of these tests fuses any chain of at most three nodes.
#include "fuse/fuse.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

#include "fuse/groups.h"
#include "ir/op_def.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

Graph FuseForTest(const Graph& graph) {
  return Fuse(graph, {.can_run = [](std::string_view, const Graph& body) {
                return body.nodes().size() <= 3;
              }});
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class FuseGolden : public ::testing::TestWithParam<fs::path> {};

TEST_P(FuseGolden, Matches) {
  constexpr std::string_view kMark = "// EXPECT\n";
  std::string text = ReadFile(GetParam());
  size_t mark = text.find(kMark);
  ASSERT_NE(mark, std::string::npos) << GetParam() << " has no line `// EXPECT`";
  Graph kernels = FuseForTest(ParseGraph(text.substr(0, mark)));
  VerifyGraph(kernels);
  std::string actual = PrintGraph(kernels);
  if (std::getenv("STATOR_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(GetParam()) << text.substr(0, mark) << kMark << actual;
    return;
  }
  EXPECT_EQ(actual, text.substr(mark + kMark.size())) << GetParam();
}

std::vector<fs::path> GoldenFiles() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(STATOR_GOLDEN_DIR) / "fuse")) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

INSTANTIATE_TEST_SUITE_P(Files, FuseGolden, ::testing::ValuesIn(GoldenFiles()),
                         [](const auto& info) { return info.param.stem().string(); });

// Every node lands in just one group, and the groups can run in some order (Fuse checks that).
TEST(Fuse, CoversRandomGraphs) {
  std::mt19937 rng(6);
  const char* kOps[] = {"add", "mul", "exp", "relu", "softmax", "sum", "matmul", "permute"};
  for (int round = 0; round < 500; ++round) {
    Graph graph;
    TensorType square{.dims = {4, 4}};
    std::vector<ValueId> values = {graph.AddInput("x", square), graph.AddInput("y", square),
                                   graph.AddWeight("w", square)};
    for (unsigned i = 0; i < 3 + rng() % 20; ++i) {
      const OpDef& op = GetOp(kOps[rng() % 8]);
      std::vector<ValueId> inputs = {values[rng() % values.size()]};
      if (op.min_inputs == 2) inputs.push_back(values[rng() % values.size()]);
      Attrs attrs;
      if (op.name == "softmax") attrs.Set("axis", Dim(1));
      if (op.name == "permute") attrs.Set("perm", Dims{1, 0});
      if (op.name == "sum") {
        attrs.Set("axes", Dims{1});
        attrs.Set("keepdim", true);
      }
      ValueId result = graph.node(graph.AddNode(op, inputs, attrs)).outputs[0];
      if (op.name == "sum") {
        NodeId expand = graph.AddNode(GetOp("expand"), {result}, {{"dims", Dims{4, 4}}});
        result = graph.node(expand).outputs[0];
      }
      values.push_back(result);
    }
    graph.SetOutputs({values.back(), values[values.size() / 2]});
    std::vector<int> count(graph.num_node_slots(), 0);
    std::vector<Group> groups =
        FindGroups(graph, {.can_run = [](std::string_view, const Graph&) { return true; }});
    for (const Group& group : groups) {
      for (NodeId id : group.nodes) ++count[id.index];
    }
    for (NodeId id : graph.nodes()) ASSERT_EQ(count[id.index], 1);
    VerifyGraph(FuseForTest(graph));
  }
}

}  // namespace
}  // namespace stator
