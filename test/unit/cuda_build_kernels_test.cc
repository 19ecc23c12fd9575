// NVRTC compiles every family of kernels for every architecture; a plan's kernels are compiled once
// per text, and kept.
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "cuda/build/compile_kernels.h"
#include "cuda/build/nvrtc.h"
#include "cuda/run/shared_library.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ops/samples.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

const Nvrtc* FindNvrtc(std::string* why_not) {
  AddLibraryFolder(STATOR_NVRTC_FOLDER);
  return Nvrtc::Find(why_not);
}

#define SKIP_WITHOUT_NVRTC()                \
  std::string why_not;                      \
  const Nvrtc* nvrtc = FindNvrtc(&why_not); \
  if (nvrtc == nullptr) GTEST_SKIP() << why_not

// The first variant of a kernel whose operands lie as their types say.
CudaKernel WriteKernel(const std::string& kind, const Graph& body, const Target& target) {
  std::vector<KernelOperand> inputs, outputs;
  for (ValueId id : body.inputs()) {
    const TensorType& type = body.type(id);
    inputs.push_back({.dtype = type.dtype, .dims = type.dims, .strides = type.strides()});
  }
  for (ValueId id : body.outputs()) {
    const TensorType& type = body.type(id);
    outputs.push_back({.dtype = type.dtype, .dims = type.dims, .strides = type.strides()});
  }
  std::vector<Attrs> variants = FindCudaVariants(kind, body, inputs, outputs, target);
  STATOR_CHECK(!variants.empty(), "no kernel for {}", PrintGraph(body));
  return MakeCudaKernel(kind, body, inputs, outputs, target, variants[0]);
}

// One kernel per family and dtype: what families write besides scalar bodies.
constexpr std::pair<const char*, const char*> kBodies[] = {
    {"pointwise", "graph @g(%x: _[8, 64], %y: _[64]) {\n %0 = add(%x, %y)\n return %0\n}"},
    {"pointwise", "graph @g(%x: _[64, 64]@10) {\n %0 = maximum(%x, %x) : _[64, 64]\n return %0\n}"},
    {"rowwise", "graph @g(%x: _[8, 64]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}"},
    {"rowwise",
     "graph @g(%x: _[8, 2048], %w: _[2048]) {\n"
     " %0 = layer_norm(%x, %w) {eps = 1e-05, num_dims = 1}\n return %0\n}"},
    {"reduce",
     "graph @g(%x: _[8, 640]) {\n %0 = sum(%x) {axes = [1], keepdim = false}\n return %0\n}"},
    {"reduce",
     "graph @g(%x: _[8, 640]) {\n %0 = argmax(%x) {axes = [1], keepdim = false}\n return %0\n}"},
    {"pool",
     "graph @g(%x: _[2, 8, 6, 6]) {\n %0 = max_pool(%x) {ceil_mode = false, dilation = [1, 1], "
     "kernel = [3, 3], padding = [1, 1], stride = [2, 2]}\n return %0\n}"},
    {"conv",
     "graph @g(%x: _[2, 8, 6, 6], %w: _[8, 1, 3, 3]) {\n %0 = conv(%x, %w) {dilation = [1, 1], "
     "groups = 8, output_padding = [0, 0], padding = [1, 1], stride = [1, 1], transposed = false}\n"
     " return %0\n}"},
    {"conv",
     "graph @g(%x: _[2, 72, 6, 9]@0231, %w: _[72, 1, 5, 5], %b: _[72]) {\n %0 = conv(%x, %w, %b) "
     "{dilation = [1, 1], groups = 72, output_padding = [0, 0], padding = [2, 2], stride = [2, 2], "
     "transposed = false} : _[2, 72, 3, 5]@0231\n %1 = silu(%0) : _[2, 72, 3, 5]@0231\n"
     " return %1\n}"},
    {"gather", "graph @g(%w: _[7, 48], %i: i64[3, 5]) {\n %0 = embedding(%w, %i)\n return %0\n}"},
    {"gemm", "graph @g(%a: _[2, 64], %b: _[64, 32]@10) {\n %0 = matmul(%a, %b)\n return %0\n}"},
    {"gemm", "graph @g(%a: _[99, 64], %b: _[64, 32]) {\n %0 = matmul(%a, %b)\n return %0\n}"},
    {"gemm",
     "graph @g(%a: _[99, 1024], %b: _[1024, 64]@10) {\n %0 = matmul(%a, %b)\n return %0\n}"},
    {"conv",
     "graph @g(%x: _[2, 64, 6, 6]@0231, %w: _[72, 64, 3, 3]@0231) {\n"
     " %0 = conv(%x, %w) {dilation = [1, 1], groups = 1, output_padding = [0, 0], "
     "padding = [1, 1], stride = [1, 1], transposed = false} : _[2, 72, 6, 6]@0231\n"
     " return %0\n}"},
    {"attention",
     "graph @g(%q: _[2, 4, 40, 64], %k: _[2, 4, 50, 64], %v: _[2, 4, 50, 64]) {\n"
     " %0 = attention(%q, %k, %v) {causal = true, scale = 0.125}\n return %0\n}"},
};

TEST(Nvrtc, CompilesEveryFamily) {
  SKIP_WITHOUT_NVRTC();
  for (const Target& target : AllTargets()) {
    if (!nvrtc->Supports(target)) continue;
    // Every dtype for one architecture, one dtype for the others: texts differ by dtype.
    bool all = target.arch == "sm_90a";
    std::vector<std::string_view> dtypes = {"f16"};
    if (all) dtypes = {"f16", "bf16", "f32", "f64"};
    for (std::string_view dtype : dtypes) {
      for (const auto& [kind, body] : kBodies) {
        std::string text = body;
        for (size_t at; (at = text.find("_[")) != std::string::npos;) {
          text.replace(at, 1, dtype);
        }
        CudaKernel kernel = WriteKernel(kind, ParseGraph(text), target);
        EXPECT_FALSE(nvrtc->Compile(kernel, target.arch).empty());
      }
    }
  }
}

// Every scalar body, in one kernel per dtype.
TEST(Nvrtc, CompilesEveryScalarBody) {
  SKIP_WITHOUT_NVRTC();
  const Target target = *FindTarget("sm_90a");
  for (DType dtype :
       {DType::kFloat16, DType::kFloat64, DType::kInt32, DType::kUInt8, DType::kBool}) {
    Graph body;
    TensorType type{.dtype = dtype, .dims = {64}};
    std::vector<ValueId> results;
    for (const OpDef* op : AllOps()) {
      if (!op->Is(kPointwise)) continue;
      for (const SampleCase& sample : ExpandSamples(*op)) {
        if (sample.dtype != dtype) continue;
        std::vector<ValueId> inputs;
        for (const auto& input : sample.inputs) {
          inputs.push_back(body.AddInput(fmt::format("x{}", body.num_values()),
                                         {.dtype = input->dtype, .dims = {64}}));
        }
        NodeId node = body.AddNode(*op, std::move(inputs), sample.attrs);
        results.push_back(body.node(node).outputs[0]);
        break;  // one sample of each
      }
    }
    // Outputs in groups: a kernel takes some tens of parameters.
    constexpr size_t kPerKernel = 24;
    for (size_t first = 0; first < results.size(); first += kPerKernel) {
      size_t end = std::min(first + kPerKernel, results.size());
      Graph part = body;
      part.SetOutputs({results.begin() + first, results.begin() + end});
      Graph used;
      std::vector<ValueId> map(body.num_values()), outputs;
      for (size_t i = first; i < end; ++i) {
        const Node& node = *body.FindProducer(results[i]);
        std::vector<ValueId> inputs;
        for (ValueId input : node.inputs) {
          if (!map[input.index].valid()) {
            map[input.index] = used.AddInput(body.value(input).name, body.type(input));
          }
          inputs.push_back(map[input.index]);
        }
        NodeId copy = used.AddNode(*node.op, std::move(inputs), node.attrs);
        outputs.push_back(used.node(copy).outputs[0]);
      }
      used.SetOutputs(outputs);
      EXPECT_FALSE(nvrtc->Compile(WriteKernel("pointwise", used, target), target.arch).empty());
    }
  }
}

TEST(Nvrtc, KeepsATextThatItRejects) {
  SKIP_WITHOUT_NVRTC();
  CudaKernel kernel{.source = "this is no kernel", .entry = "wrong"};
  try {
    nvrtc->Compile(kernel, "sm_90a");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeviceError);
    std::string message = error.what();
    EXPECT_NE(message.find("error"), std::string::npos);
    size_t at = message.find("its text is in "), end = message.find(".cu", at);
    ASSERT_NE(at, std::string::npos);
    std::string path = message.substr(at + 15, end + 3 - at - 15);
    EXPECT_TRUE(fs::exists(path));
    fs::remove(path);
  }
}

// x + x into the arena, twice alike, then a copy out.
Plan MakePlan() {
  Plan plan;
  plan.target = "cuda sm_90a";
  Dims dims = {Dim(4), Dim(32)}, strides = {Dim(32), Dim(1)};
  plan.inputs = {{.name = "x", .dtype = DType::kFloat16, .dims = dims, .strides = strides}};
  plan.outputs = {{.name = "y", .dtype = DType::kFloat16, .dims = dims, .strides = strides}};
  plan.arena = {{.bytes = 256, .first_step = 0, .last_step = 1},
                {.bytes = 256, .first_step = 1, .last_step = 2}};
  auto add = [&](StorageKind storage, int index) {
    plan.tensors.push_back({.storage = storage,
                            .index = index,
                            .dtype = DType::kFloat16,
                            .dims = dims,
                            .strides = strides});
  };
  add(StorageKind::kInput, 0);
  add(StorageKind::kArena, 0);
  add(StorageKind::kArena, 1);
  add(StorageKind::kOutput, 0);
  std::string body = PrintGraph(
      ParseGraph("graph @pointwise(%x0: f16[4, 32]) {\n %0 = add(%x0, %x0)\n return %0\n}"));
  Attrs variant = {{"block", Dim(128)}, {"form", std::string("pointwise")}, {"vec", Dim(8)}};
  for (int i : {0, 1}) {
    plan.steps.push_back({.kind = StepKind::kPointwise,
                          .inputs = {i},
                          .outputs = {i + 1},
                          .attrs = variant,
                          .body = body});
  }
  plan.steps.push_back({.kind = StepKind::kCopy, .inputs = {2}, .outputs = {3}});
  return plan;
}

TEST(CompileKernels, CompilesEachTextOnceAndKeepsIt) {
  SKIP_WITHOUT_NVRTC();
  fs::path folder = fs::temp_directory_path() / fmt::format("stator_kernels_{}", getpid());
  fs::create_directory(folder);
  Plan plan = MakePlan();
  CompileKernels(plan, *FindTarget("sm_90a"), folder.string());
  EXPECT_EQ(plan.code.size(), 2u);
  CheckPlan(plan);
  for (int i : {0, 1, 2}) {
    std::optional<StepLaunch> launch = FindLaunch(plan.steps[i].attrs);
    ASSERT_TRUE(launch.has_value());
    EXPECT_EQ(launch->code, i == 2 ? 1 : 0);
    EXPECT_TRUE(launch->pdl);
  }
  std::vector<fs::path> files(fs::directory_iterator(folder), fs::directory_iterator{});
  EXPECT_EQ(files.size(), 2u);
  // From the folder: the same; a spoilt file counts as none.
  fs::resize_file(files[0], 20);
  Plan again = MakePlan();
  CompileKernels(again, *FindTarget("sm_90a"), folder.string());
  for (size_t i = 0; i < plan.code.size(); ++i) {
    ASSERT_EQ(again.code[i].binary.size, plan.code[i].binary.size);
    EXPECT_TRUE(std::equal(plan.code[i].binary.bytes,
                           plan.code[i].binary.bytes + plan.code[i].binary.size,
                           again.code[i].binary.bytes));
  }
  fs::remove_all(folder);
}

TEST(CompileKernels, WritesPtxForEveryGpu) {
  SKIP_WITHOUT_NVRTC();
  Plan plan = MakePlan();
  CompileKernels(plan, *FindTarget(kPortableArch), "");
  for (const PlanCode& code : plan.code) {
    EXPECT_EQ(code.arch, "compute_80");
    std::string_view text(reinterpret_cast<const char*>(code.binary.bytes), code.binary.size);
    EXPECT_NE(text.find(".target sm_80"), text.npos);
    EXPECT_NE(text.find(".entry " + code.entry), text.npos);
    EXPECT_EQ(text.find('\0'), text.size() - 1);
  }
  EXPECT_FALSE(FindLaunch(plan.steps[0].attrs)->pdl);  // an sm_80 has none
}

}  // namespace
}  // namespace stator
