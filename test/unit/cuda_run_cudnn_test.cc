// cuDNN plans computations for an H100 that is not there (cuDNN documentation, "deviceless AoT"):
// what the convolutions of real models ask for has engines that need no compilation. Skipped where
// the library is not installed.
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "cuda/run/cudnn.h"
#include "cuda/run/shared_library.h"

namespace stator {
namespace {

std::vector<int64_t> ChannelsLast(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  int64_t next = dims[1];
  for (size_t i = dims.size() - 1; i >= 2; --i) {
    strides[i] = next;
    next *= dims[i];
  }
  strides[0] = next;
  return strides;
}

CudnnTensor MakeTensor(DType dtype, const std::vector<int64_t>& dims) {
  return {.dtype = dtype, .dims = dims, .strides = ChannelsLast(dims)};
}

// relu(conv(x, w) + residual + bias), 1x1, as every block of a ResNet ends.
CudnnGraph MakeResidual(DType dtype) {
  CudnnGraph graph{.anchor = CudnnGraph::kConv};
  graph.operands = {MakeTensor(dtype, {1, 64, 56, 56}), MakeTensor(dtype, {256, 64, 1, 1}),
                    MakeTensor(dtype, {1, 256, 56, 56}), MakeTensor(dtype, {1, 256, 1, 1})};
  graph.pointwise = {{.mode = CudnnPointwise::kAdd, .operand = 2},
                     {.mode = CudnnPointwise::kAdd, .operand = 3},
                     {.mode = CudnnPointwise::kRelu}};
  graph.output = MakeTensor(dtype, {1, 256, 56, 56});
  graph.padding = {0, 0};
  graph.stride = graph.dilation = {1, 1};
  return graph;
}

class CudnnOnH100 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    AddLibraryFolder(STATOR_CUDNN_FOLDER);
    std::ifstream file("test/data/h100.json");
    std::stringstream json;
    json << file.rdbuf();
    cudnn_ = Cudnn::FindForDevice(json.str(), &why_not_).release();
  }
  static void TearDownTestSuite() { delete cudnn_; }
  void SetUp() override {
    if (cudnn_ == nullptr) GTEST_SKIP() << why_not_;
  }

  static inline Cudnn* cudnn_ = nullptr;
  static inline std::string why_not_;
};

TEST_F(CudnnOnH100, HasEnginesForAResidualBlock) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32}) {
    EXPECT_FALSE(cudnn_->FindEngines(MakeResidual(dtype), 3).empty()) << DTypeName(dtype);
    EXPECT_NE(cudnn_->FindPlan(MakeResidual(dtype)), nullptr) << DTypeName(dtype);
  }
}

TEST_F(CudnnOnH100, FindsAnEngineAgainByItsText) {
  CudnnGraph graph = MakeResidual(DType::kFloat16);
  std::vector<std::string> engines = cudnn_->FindEngines(graph, 4);
  ASSERT_GE(engines.size(), 2u);
  EXPECT_NE(engines[0], engines[1]);
  for (const std::string& engine : engines) {
    EXPECT_NE(cudnn_->FindPlan(graph, engine), nullptr) << engine;
  }
}

TEST_F(CudnnOnH100, TakesAnotherEngineForOneThatIsNone) {
  CudnnGraph graph = MakeResidual(DType::kFloat16);
  for (const char* engine :
       {"nonsense", "7 ", "9999", "32 1", "32 1=", "32 2=99999999999999999999"}) {
    EXPECT_NE(cudnn_->FindPlan(graph, engine), nullptr) << engine;
  }
}

TEST_F(CudnnOnH100, RunsTransposedAndThreeDimensionalOnes) {
  CudnnGraph transposed{.anchor = CudnnGraph::kTransposedConv};
  transposed.operands = {MakeTensor(DType::kFloat16, {1, 64, 8, 8}),
                         MakeTensor(DType::kFloat16, {64, 32, 2, 2})};
  transposed.output = MakeTensor(DType::kFloat16, {1, 32, 16, 16});
  transposed.padding = {0, 0};
  transposed.stride = {2, 2};
  transposed.dilation = {1, 1};
  EXPECT_NE(cudnn_->FindPlan(transposed), nullptr);
  CudnnGraph volume{.anchor = CudnnGraph::kConv};
  volume.operands = {MakeTensor(DType::kFloat32, {1, 8, 9, 10, 11}),
                     MakeTensor(DType::kFloat32, {16, 8, 3, 3, 3})};
  volume.output = MakeTensor(DType::kFloat32, {1, 16, 9, 10, 11});
  volume.padding = volume.stride = volume.dilation = {1, 1, 1};
  EXPECT_NE(cudnn_->FindPlan(volume), nullptr);
}

TEST_F(CudnnOnH100, StaysWithinTheWorkspace) {
  CudnnGraph graph = MakeResidual(DType::kFloat32);
  int64_t most = 0;
  for (const std::string& engine : cudnn_->FindEngines(graph, 100)) {
    most = std::max(most, cudnn_->FindPlan(graph, engine)->ws_bytes());
  }
  graph.max_ws_bytes = most / 2;
  std::vector<std::string> engines = cudnn_->FindEngines(graph, 100);
  EXPECT_FALSE(engines.empty());
  for (const std::string& engine : engines) {
    EXPECT_LE(cudnn_->FindPlan(graph, engine)->ws_bytes(), graph.max_ws_bytes);
  }
  if (most == 0) GTEST_SKIP() << "no engine wants a workspace";
}

TEST_F(CudnnOnH100, RefusesWhatDoesNotFit) {
  CudnnGraph graph = MakeResidual(DType::kFloat16);
  graph.output.dims[2] = 57;
  EXPECT_TRUE(cudnn_->FindEngines(graph, 3).empty());
  EXPECT_EQ(cudnn_->FindPlan(graph), nullptr);
}

}  // namespace
}  // namespace stator
