// Kernel texts as people read them: test/golden/codegen/*.cu.
//
// A golden file is a line "// KIND", a body in IR ("copy": a graph that returns its input), a line
// "// EXPECT", and the text of the first variant with its launch. STATOR_UPDATE_GOLDEN=1 rewrites
// what follows the line. Inputs named %w... are constants.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "codegen/cuda_kernel.h"
#include "ir/parse.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

std::string WriteKernel(const std::string& kind, const Graph& graph) {
  std::vector<KernelOperand> inputs, outputs;
  for (ValueId id : graph.inputs()) {
    const TensorType& type = graph.type(id);
    inputs.push_back({.dtype = type.dtype,
                      .dims = type.dims,
                      .strides = type.strides(),
                      .constant = graph.value(id).name.starts_with("w")});
  }
  for (ValueId id : graph.outputs()) {
    const TensorType& type = graph.type(id);
    outputs.push_back({.dtype = type.dtype, .dims = type.dims, .strides = type.strides()});
  }
  Graph empty;
  const Graph& body = kind == "copy" ? empty : graph;
  const Target target = *FindTarget("sm_90a");
  std::vector<Attrs> variants = FindCudaVariants(kind, body, inputs, outputs, target);
  if (variants.empty()) return "no variant\n";
  CudaKernel kernel = MakeCudaKernel(kind, body, inputs, outputs, target, variants[0]);
  std::string text =
      fmt::format("// variant {}\n// grid {}, {} threads, {} bytes\n", variants[0].ToString(),
                  DimsToString(kernel.grid), kernel.block, kernel.smem);
  return text + kernel.source;
}

class CodegenGolden : public ::testing::TestWithParam<fs::path> {};

TEST_P(CodegenGolden, Matches) {
  constexpr std::string_view kMark = "// EXPECT\n";
  std::ifstream file(GetParam());
  std::stringstream stream;
  stream << file.rdbuf();
  std::string text = stream.str();
  size_t mark = text.find(kMark), line = text.find('\n');
  ASSERT_NE(mark, std::string::npos) << GetParam() << " has no line `// EXPECT`";
  std::string kind = text.substr(3, line - 3);
  std::string actual = WriteKernel(kind, ParseGraph(text.substr(line, mark - line)));
  if (std::getenv("STATOR_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(GetParam()) << text.substr(0, mark) << kMark << actual;
    return;
  }
  EXPECT_EQ(text.substr(mark + kMark.size()), actual);
}

std::vector<fs::path> GoldenFiles() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(STATOR_GOLDEN_DIR) / "codegen")) {
    if (entry.path().extension() == ".cu") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

INSTANTIATE_TEST_SUITE_P(Files, CodegenGolden, ::testing::ValuesIn(GoldenFiles()),
                         [](const auto& info) { return info.param.stem().string(); });

}  // namespace
}  // namespace stator
