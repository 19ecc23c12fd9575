// What NVIDIA's libraries are asked for, kernel by kernel (test/golden/cuda/*.txt).
//
// A golden file is a list of kernel bodies, each a graph, a line "// EXPECT", and what follows from
// it: the calls of cuBLASLt for a matmul, cuDNN's graph for a convolution or attention, or "(not
// this library)". Names of inputs that begin with w or b are constants; input i lies at address
// (i + 1) * 2^20, output at 2^28. STATOR_UPDATE_GOLDEN=1 rewrites the files.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "cuda/run/cudnn_step.h"
#include "cuda/run/gemm.h"
#include "fake_cublaslt.h"
#include "ir/parse.h"
#include "ir/print.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

class SiteOwner {
 public:
  explicit SiteOwner(const std::string& text) {
    site_.body = ParseGraph(text);
    const Graph& body = site_.body;
    std::string_view op = body.node(body.first_node()).op->name;
    step_.kind = op == "matmul"      ? StepKind::kGemm
                 : op == "attention" ? StepKind::kAttention
                                     : StepKind::kConv;
    step_.attrs.Set("alignment", Dim(16));
    site_.step = &step_;
    intptr_t address = 0;
    for (ValueId id : body.inputs()) {
      TensorRef ref = MakeRef(body.type(id));
      address += 1 << 20;
      addresses_.push_back(reinterpret_cast<std::byte*>(address));
      char first = body.value(id).name[0];
      if (first == 'w' || first == 'b') ref.data = addresses_.back();
      site_.inputs.push_back(ref);
    }
    site_.outputs.push_back(MakeRef(body.type(body.outputs()[0])));
  }

  Step& step() { return step_; }
  CudaStepSite& site() { return site_; }
  void Launch(const CudaStep& step) {
    std::byte* output = reinterpret_cast<std::byte*>(intptr_t{1} << 28);
    step.Launch({.inputs = addresses_.data(), .outputs = &output});
  }

 private:
  static TensorRef MakeRef(const TensorType& type) {
    return {.data = nullptr,
            .dtype = type.dtype,
            .dims = EvalDims(type.dims, {}),
            .strides = EvalDims(type.strides(), {})};
  }

  Step step_;
  CudaStepSite site_;
  std::vector<std::byte*> addresses_;
};

CudaLibraries MakeLibraries() {
  return CudaLibraries(std::make_unique<CublasLt>(FakeCublasLt::MakeApi()), nullptr);
}

std::string Describe(const std::string& text) {
  SiteOwner owner(text);
  if (owner.step().kind != StepKind::kGemm) {
    std::optional<CudnnProblem> problem = FindCudnnProblem(owner.site());
    return problem ? CudnnGraphToText(problem->graph) : "(not this library)\n";
  }
  CudaLibraries libraries = MakeLibraries();
  FakeCublasLt::calls.clear();
  std::unique_ptr<CudaStep> step = PrepareCublasLt(owner.site(), libraries);
  if (step == nullptr) return "(not this library)\n";
  owner.Launch(*step);
  return FakeCublasLt::calls;
}

std::vector<fs::path> GoldenFiles() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(STATOR_GOLDEN_DIR) / "cuda")) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(CudnnProblem, TakesTheStepsWorkspace) {
  for (const char* text :
       {"graph @conv(%x: f16[1, 8, 4, 4]@0231, %w: f16[8, 8, 1, 1]@0231) {\n  %0 = conv(%x, %w) "
        "{dilation = [1, 1], groups = 1, output_padding = [0, 0], padding = [0, 0], stride = [1, "
        "1], transposed = false} : f16[1, 8, 4, 4]@0231\n  return %0\n}",
        "graph @attention(%q: f16[1, 2, 8, 16], %k: f16[1, 2, 8, 16], %v: f16[1, 2, 8, 16]) {\n"
        "  %0 = attention(%q, %k, %v) {causal = false, scale = 0.25}\n  return %0\n}"}) {
    SiteOwner owner(text);
    EXPECT_EQ(FindCudnnProblem(owner.site())->graph.max_ws_bytes, kMaxCudnnWsBytes);
    owner.step().attrs.Set("workspace", Dim(4096));
    EXPECT_EQ(FindCudnnProblem(owner.site())->graph.max_ws_bytes, 4096);
  }
}

class CudaGolden : public ::testing::TestWithParam<fs::path> {};

TEST_P(CudaGolden, Matches) {
  std::ifstream file(GetParam());
  std::stringstream content;
  content << file.rdbuf();
  std::string text = content.str(), expected, made;
  for (size_t at = text.find("graph @"); at != std::string::npos;) {
    size_t end = text.find("\n}\n", at) + 3, next = text.find("graph @", end);
    made += PrintGraph(ParseGraph(text.substr(at, end - at))) + "// EXPECT\n" +
            Describe(text.substr(at, end - at)) + "\n";
    at = next;
  }
  if (std::getenv("STATOR_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(GetParam()) << made;
    return;
  }
  EXPECT_EQ(made, text);
}

INSTANTIATE_TEST_SUITE_P(Files, CudaGolden, ::testing::ValuesIn(GoldenFiles()),
                         [](const auto& info) { return info.param.stem().string(); });

// ---- which candidate
constexpr const char* kGemm =
    "graph @gemm(%x: f16[8, 16], %w: f16[16, 32]) {\n  %0 = matmul(%x, %w)\n  return %0\n}\n";

std::string ChosenAlgo(const Attrs& attrs) {
  SiteOwner owner(kGemm);
  for (const auto& [name, attr] : attrs) owner.step().attrs.Set(name, attr);
  CudaLibraries libraries = MakeLibraries();
  std::unique_ptr<CudaStep> step = PrepareCublasLt(owner.site(), libraries);
  FakeCublasLt::calls.clear();
  owner.Launch(*step);
  size_t at = FakeCublasLt::calls.find("algo");
  return FakeCublasLt::calls.substr(at, FakeCublasLt::calls.size() - at - 1);
}

TEST(CublasLtCandidate, IsTheOneMeasured) {
  EXPECT_EQ(ChosenAlgo({}), "algo 0 ws 0");
  EXPECT_EQ(ChosenAlgo({{"candidate", Dim(2)}, {"version", Dim(130401)}}), "algo 2 ws 2048");
  // Another version's list is another list; a number outside of it is none.
  EXPECT_EQ(ChosenAlgo({{"candidate", Dim(2)}, {"version", Dim(120000)}}), "algo 0 ws 0");
  EXPECT_EQ(ChosenAlgo({{"candidate", Dim(9)}, {"version", Dim(130401)}}), "algo 0 ws 0");
  EXPECT_EQ(ChosenAlgo({{"candidate", Dim(-1)}, {"version", Dim(130401)}}), "algo 0 ws 0");
}

TEST(CublasLtCandidate, FitsIntoTheWorkspace) {
  SiteOwner owner(kGemm);
  CublasLt cublaslt(FakeCublasLt::MakeApi());
  EXPECT_EQ(CountGemmCandidates(owner.site(), cublaslt), 3);
  EXPECT_EQ(FakeCublasLt::max_ws_bytes, 32 << 20);
  owner.step().attrs.Set("workspace", Dim(1024));
  EXPECT_EQ(CountGemmCandidates(owner.site(), cublaslt), 2);
  EXPECT_EQ(FakeCublasLt::max_ws_bytes, 1024u);
}

TEST(CublasLtCandidate, IsMissingWithTheLibrary) {
  SiteOwner owner(kGemm);
  CudaLibraries none(nullptr, nullptr);
  EXPECT_EQ(PrepareCublasLt(owner.site(), none), nullptr);
  FakeCublasLt::num_candidates = 0;
  CudaLibraries libraries = MakeLibraries();
  EXPECT_EQ(PrepareCublasLt(owner.site(), libraries), nullptr);
  FakeCublasLt::num_candidates = 3;
}

}  // namespace
}  // namespace stator
