// The CUDA engine against a fake driver: launches, graphs, pointers, streams, memory, errors.
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/context_pool.h"
#include "base/error.h"
#include "cuda/run/cuda_device.h"
#include "fake_cuda.h"
#include "ops/tensor.h"
#include "runtime/engine.h"

namespace stator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// y = relu(x) * exp(w) + c over any number of rows; the prologue makes exp(w).
constexpr std::string_view kRows = R"(plan "rows" version 1 target "cuda sm_90a"
symbol s0 in [0, 64]
input 0 = "x" f32[s0, 4] strides [4, 1]
output 0 = "y" f32[s0, 4] strides [4, 1]
weight 0 = "w" f32[4] hex "00000000000000000000000000000000"
literal 0 = hex "0000803f000000400000404000008040"
code 0 = "sm_90a" "exp_0" hex "00"
code 1 = "sm_90a" "relu_1" hex "01"
code 2 = "sm_90a" "fma_2" hex "02"
derived 0 = 16 bytes, steps 0 to 0
arena 0 = 16*s0 bytes, steps 0 to 1
tensor 0 = input 0 + 0 : f32[s0, 4] strides [4, 1]
tensor 1 = weight 0 + 0 : f32[4] strides [1]
tensor 2 = derived 0 + 0 : f32[4] strides [1]
tensor 3 = arena 0 + 0 : f32[s0, 4] strides [4, 1]
tensor 4 = literal 0 + 0 : f32[4] strides [1]
tensor 5 = output 0 + 0 : f32[s0, 4] strides [4, 1]
prologue 0 = pointwise(1) -> (2) from "exp" {block = 32, code = 0, grid = [1, 1, 1], pdl = false, smem = 0, symbols = ""}
  graph @body(%a: f32[4]) {
    %0 = exp(%a) : f32[4]
    return %0
  }
step 0 = pointwise(0) -> (3) from "relu" {block = 4, code = 1, grid = [s0, 1, 1], pdl = false, smem = 0, symbols = "s0"}
  graph @body(%a: f32[s0, 4]) where s0 in [0, 64] {
    %0 = relu(%a) : f32[s0, 4]
    return %0
  }
step 1 = pointwise(3, 2, 4) -> (5) from "mul · model.py:7" {block = 4, code = 2, grid = [s0, 1, 1], pdl = true, smem = 65536, symbols = "s0"}
  graph @body(%a: f32[s0, 4], %b: f32[4], %c: f32[4]) where s0 in [0, 64] {
    %0 = mul(%a, %b) : f32[s0, 4]
    %1 = add(%0, %c) : f32[s0, 4]
    return %1
  }
)";

// The input's halves swapped by copies of windows, without a kernel of the plan's own.
constexpr std::string_view kSwap = R"(plan "swap" version 1 target "cuda sm_90a"
input 0 = "x" f32[3, 4] strides [4, 1]
output 0 = "y" f32[3, 4] strides [4, 1]
tensor 0 = input 0 + 0 : f32[3, 2] strides [4, 1]
tensor 1 = input 0 + 2 : f32[3, 2] strides [4, 1]
tensor 2 = output 0 + 0 : f32[3, 2] strides [4, 1]
tensor 3 = output 0 + 2 : f32[3, 2] strides [4, 1]
step 0 = copy(0) -> (3) from "cat" {}
step 1 = copy(1) -> (2) from "cat" {}
)";

class CudaRunTest : public ::testing::Test {
 protected:
  CudaRunTest() {
    fake.kernels["exp_0"] = {{8, 8}, [](const FakeLaunch& launch) {
                               for (int i = 0; i < 4; ++i) {
                                 launch.Get<float*>(1)[i] = std::exp(launch.Get<float*>(0)[i]);
                               }
                             }};
    fake.kernels["relu_1"] = {{8, 8, 8}, [](const FakeLaunch& launch) {
                                EXPECT_EQ(launch.grid[0], launch.Get<int64_t>(2));
                                for (int64_t i = 0; i < 4 * launch.Get<int64_t>(2); ++i) {
                                  launch.Get<float*>(1)[i] =
                                      std::max(launch.Get<float*>(0)[i], 0.0f);
                                }
                              }};
    fake.kernels["fma_2"] = {{8, 8, 8, 8, 8}, [](const FakeLaunch& launch) {
                               EXPECT_TRUE(launch.pdl);
                               EXPECT_EQ(launch.smem, 65536u);
                               for (int64_t i = 0; i < 4 * launch.Get<int64_t>(4); ++i) {
                                 launch.Get<float*>(3)[i] =
                                     launch.Get<float*>(0)[i] * launch.Get<float*>(1)[i % 4] +
                                     launch.Get<float*>(2)[i % 4];
                               }
                             }};
  }

  static std::vector<float> Rows(const std::vector<float>& x, float w = 0) {
    std::vector<float> y;
    for (size_t i = 0; i < x.size(); ++i) {
      y.push_back(std::max(x[i], 0.0f) * std::exp(w) + static_cast<float>(i % 4 + 1));
    }
    return y;
  }

  static std::shared_ptr<const Plan> MakePlan(std::string_view text) {
    return std::make_shared<const Plan>(PlanFromText(text));
  }

  FakeCuda fake;
};

// A tensor of rows of four in memory that is aligned as a device's is.
struct Tensor {
  explicit Tensor(std::vector<float> values)
      : size(values.size()),
        data(static_cast<float*>(::operator new (values.size() * 4 + 64, std::align_val_t{64}))) {
    std::ranges::copy(values, data);
  }
  ~Tensor() { ::operator delete (data, std::align_val_t{64}); }
  Tensor(const Tensor&) = delete;

  TensorRef ref() const {
    return {.data = bytes(),
            .dtype = DType::kFloat32,
            .dims = {static_cast<int64_t>(size) / 4, 4},
            .strides = {4, 1}};
  }
  std::byte* bytes() const { return reinterpret_cast<std::byte*>(data); }
  std::vector<float> values() const { return {data, data + size}; }

  size_t size;
  float* data;
};

std::vector<float> Iota(int rows, float start) {
  std::vector<float> values(4 * rows);
  std::iota(values.begin(), values.end(), start);
  return values;
}

std::vector<float> Call(Context& context, const Tensor& x, const Tensor& y) {
  TensorRef inputs[] = {x.ref()};
  std::byte* outputs[] = {y.bytes()};
  std::fill_n(y.data, y.size, -1.0f);
  context.Prepare(inputs);
  context.Run(inputs, outputs);
  return y.values();
}

std::string ErrorOf(const std::function<void()>& fn, ErrorKind kind) {
  try {
    fn();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

TEST_F(CudaRunTest, TheTableIsWhole) {
#define STATOR_CUDA_PRESENT(name, version) EXPECT_NE(fake.driver().name, nullptr) << #name;
  STATOR_CUDA_DRIVER(STATOR_CUDA_PRESENT)
#undef STATOR_CUDA_PRESENT
}

TEST_F(CudaRunTest, RunsStepByStepThenAsAGraph) {
  CudaDevice device(fake.driver(), 0);
  std::shared_ptr<Engine> engine = Engine::Load(MakePlan(kRows), device);
  Context context(engine, fake.MakeStream());
  Tensor x(Iota(3, -5)), y(Iota(3, 0));
  EXPECT_EQ(Call(context, x, y), Rows(x.values()));
  EXPECT_EQ(fake.calls["cuGraphLaunch"], 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Call(context, x, y), Rows(x.values()));
  EXPECT_EQ(fake.calls["cuGraphLaunch"], 3);
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 1);
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 0);
}

TEST_F(CudaRunTest, PatchesOnlyTheNodesWhosePointersChanged) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor x(Iota(2, -3)), other_x(Iota(2, -7)), y(Iota(2, 0)), other_y(Iota(2, 0));
  for (int i = 0; i < 2; ++i) Call(context, x, y);
  EXPECT_EQ(Call(context, other_x, y), Rows(other_x.values()));
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 1);
  EXPECT_EQ(Call(context, other_x, other_y), Rows(other_x.values()));
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 2);
  EXPECT_EQ(Call(context, x, y), Rows(x.values()));
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 4);
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 1);
}

TEST_F(CudaRunTest, KeepsAGraphForEachShape) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor large(Iota(8, -9)), small(Iota(1, 2)), y(Iota(8, 0)), z(Iota(1, 0));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Call(context, large, y), Rows(large.values()));
    EXPECT_EQ(Call(context, small, z), Rows(small.values()));
  }
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 2);
  EXPECT_EQ(fake.calls["cuGraphLaunch"], 4);
}

TEST_F(CudaRunTest, CapturesAnewWhenTheArenaMoved) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor large(Iota(60, -9)), small(Iota(1, 2)), y(Iota(60, 0)), z(Iota(1, 0));
  for (int i = 0; i < 2; ++i) Call(context, small, z);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Call(context, large, y), Rows(large.values()));
  EXPECT_EQ(Call(context, small, z), Rows(small.values()));
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 3);
}

TEST_F(CudaRunTest, LaunchesNothingForNoRows) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor x({}), y({});
  Call(context, x, y);  // the prologue, too
  fake.launched.clear();
  for (int i = 0; i < 3; ++i) Call(context, x, y);
  EXPECT_TRUE(fake.launched.empty());
}

TEST_F(CudaRunTest, CopiesInputsOfOtherStridesAndAlignments) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor wide(Iota(6, -10)), odd(Iota(4, -3)), y(Iota(3, 0));
  TensorRef every_second = wide.ref();
  every_second.dims = {3, 4};
  every_second.strides = {8, 1};
  TensorRef transposed = wide.ref();
  transposed.dims = {3, 4};
  transposed.strides = {1, 3};
  TensorRef shifted = odd.ref();
  shifted.dims = {3, 4};
  shifted.data += 4;
  for (const TensorRef& ref : {every_second, transposed, shifted}) {
    std::vector<float> x;
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = 0; j < 4; ++j) {
        x.push_back(reinterpret_cast<float*>(ref.data)[i * ref.strides[0] + j * ref.strides[1]]);
      }
    }
    std::byte* outputs[] = {y.bytes()};
    for (int i = 0; i < 2; ++i) {
      context.Prepare({&ref, 1});
      context.Run({&ref, 1}, outputs);
      EXPECT_EQ(y.values(), Rows(x));
    }
  }
}

TEST_F(CudaRunTest, CopiesWindowsInTheGraph) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kSwap), device), fake.MakeStream());
  Tensor x(Iota(3, 0)), other(Iota(3, 50)), y(Iota(3, 0));
  auto swapped = [](std::vector<float> rows) {
    for (size_t i = 0; i < rows.size(); i += 4) {
      std::swap_ranges(&rows[i], &rows[i] + 2, &rows[i] + 2);
    }
    return rows;
  };
  for (const Tensor* tensor : {&x, &x, &x, &other}) {
    EXPECT_EQ(Call(context, *tensor, y), swapped(tensor->values()));
  }
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 2);
  EXPECT_EQ(fake.launched.back(), "stator_copy_8");  // two floats at a time
}

// A step that hides its pointers (a copy that takes several launches) works on callers' tensors as
// long as they stay, then on buffers of the program's own; the plan's other steps see them, too.
TEST_F(CudaRunTest, StagesWhatAStepHides) {
  std::string dims = "2", x_strides = "1", y_strides = "512";
  for (int d = 1; d < 10; ++d) {
    dims += ", 2";
    x_strides += fmt::format(", {}", 1 << d);
    y_strides += fmt::format(", {}", 512 >> d);
  }
  std::string ten = fmt::format("f32[{}] strides ", dims);
  std::string text = "plan \"permute\" version 1 target \"cuda sm_90a\"\n";
  text += fmt::format("input 0 = \"x\" {}[{}]\n", ten, x_strides);
  text += fmt::format("output 0 = \"y\" {}[{}]\n", ten, y_strides);
  text += "output 1 = \"z\" f32[1024] strides [1]\n";
  text += fmt::format("tensor 0 = input 0 + 0 : {}[{}]\n", ten, x_strides);
  text += fmt::format("tensor 1 = output 0 + 0 : {}[{}]\n", ten, y_strides);
  text += "tensor 2 = output 0 + 0 : f32[1024] strides [1]\n";
  text += "tensor 3 = output 1 + 0 : f32[1024] strides [1]\n";
  text += "step 0 = copy(0) -> (1) from \"permute\" {}\nstep 1 = copy(2) -> (3) from \"\" {}\n";
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(text), device), fake.MakeStream());
  Tensor x(Iota(256, 0)), other(Iota(256, 5000)), y(Iota(256, 0)), z(Iota(256, 0));
  Tensor other_y(Iota(256, 0)), other_z(Iota(256, 0));
  auto call = [&](const Tensor& from, const Tensor& to, const Tensor& copy) {
    TensorRef input = from.ref();
    input.dims.assign(10, 2);
    input.strides.clear();
    for (int d = 0; d < 10; ++d) input.strides.push_back(1 << d);
    std::byte* outputs[] = {to.bytes(), copy.bytes()};
    context.Prepare({&input, 1});
    context.Run({&input, 1}, outputs);
    for (int i = 0; i < 1024; ++i) {
      int reversed = 0;
      for (int d = 0; d < 10; ++d) reversed |= (i >> d & 1) << (9 - d);
      EXPECT_EQ(to.data[i], from.data[reversed]) << i;
      EXPECT_EQ(copy.data[i], to.data[i]) << i;
    }
  };
  for (int i = 0; i < 3; ++i) call(x, y, z);
  int num_launched = static_cast<int>(fake.launched.size());
  call(x, y, z);
  int direct = static_cast<int>(fake.launched.size()) - num_launched;
  call(other, y, z);
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 2);
  num_launched = static_cast<int>(fake.launched.size());
  call(x, y, z);
  EXPECT_EQ(static_cast<int>(fake.launched.size()) - num_launched, direct + 1);  // that of x
  call(other, other_y, other_z);
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 3);
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 1);  // of x, when it came back
  call(other, y, z);
  call(x, y, z);
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 3);
  EXPECT_EQ(fake.calls["cuGraphExecKernelNodeSetParams"], 1 + 2 + 1);  // of y and z, then of x
  EXPECT_EQ(fake.calls["cuGraphLaunch"], 8);
}

TEST_F(CudaRunTest, RefitsInPlaceAndKeepsTheGraph) {
  CudaDevice device(fake.driver(), 0);
  std::shared_ptr<Engine> engine = Engine::Load(MakePlan(kRows), device);
  Context context(engine, fake.MakeStream());
  Tensor x(Iota(2, 0)), y(Iota(2, 0)), w({1, 1, 1, 1}), on_device({2, 2, 2, 2});
  for (int i = 0; i < 2; ++i) Call(context, x, y);
  engine->SetWeight("w", {.bytes = w.bytes(), .size = 16, .owner = nullptr});
  EXPECT_EQ(Call(context, x, y), Rows(x.values()));  // not before Refit
  EXPECT_TRUE(engine->RefitIfChanged());
  EXPECT_EQ(Call(context, x, y), Rows(x.values(), 1));
  // A weight that lies on the device is used where it lies.
  engine->SetWeight("w", {.bytes = on_device.bytes(), .size = 16, .owner = nullptr, .device = 0});
  engine->Refit();
  EXPECT_EQ(Call(context, x, y), Rows(x.values(), 2));
  for (int i = 0; i < 2; ++i) Call(context, x, y);
  int graphs = fake.calls["cuGraphInstantiateWithFlags"];
  std::fill_n(on_device.data, 4, 3.0f);
  engine->Refit();
  EXPECT_EQ(Call(context, x, y), Rows(x.values(), 3));
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], graphs);
  EXPECT_EQ(engine->MakePlan().weights[0].data.device, ConstantData::kHost);
  EXPECT_FALSE(engine->RefitIfChanged());
}

TEST_F(CudaRunTest, LaunchesIntoACallersCapture) {
  CudaDevice device(fake.driver(), 0);
  CUstream stream = fake.MakeStream();
  Context context(Engine::Load(MakePlan(kRows), device), stream);
  Tensor x(Iota(2, -3)), y(Iota(2, 0));
  for (int i = 0; i < 2; ++i) Call(context, x, y);
  StreamKey plain = device.FindKey(stream);
  fake.BeginCapture(stream);
  EXPECT_NE(device.FindKey(stream), plain);
  EXPECT_EQ(Call(context, x, y), std::vector<float>(8, -1.0f));  // recorded, not run
  fake.EndCaptureAndReplay(stream, 1);
  EXPECT_EQ(y.values(), Rows(x.values()));
  EXPECT_EQ(device.FindKey(stream), plain);
}

// Two chains from x by copies of its halves and a third, which meet in y.
std::string Branches(int aux_streams) {
  std::string text =
      fmt::format("plan \"b\" version 1 target \"cuda sm_90a\" aux_streams {}\n", aux_streams);
  text +=
      "input 0 = \"x\" f32[3, 4] strides [4, 1]\n"
      "output 0 = \"y\" f32[3, 4] strides [4, 1]\n"
      "arena 0 = 48 bytes, steps 0 to 2\narena 1 = 48 bytes, steps 1 to 3\n"
      "arena 2 = 48 bytes, steps 3 to 4\n"
      "tensor 0 = input 0 + 0 : f32[3, 2] strides [4, 1]\n"
      "tensor 1 = input 0 + 2 : f32[3, 2] strides [4, 1]\n"
      "tensor 2 = arena 0 + 0 : f32[3, 2] strides [4, 1]\n"
      "tensor 3 = arena 1 + 0 : f32[3, 2] strides [4, 1]\n"
      "tensor 4 = arena 2 + 0 : f32[3, 2] strides [4, 1]\n"
      "tensor 5 = output 0 + 0 : f32[3, 2] strides [4, 1]\n"
      "tensor 6 = output 0 + 2 : f32[3, 2] strides [4, 1]\n";
  int step = 0;
  for (const char* copy : {"(0) -> (2)", "(1) -> (3)", "(2) -> (6)", "(3) -> (4)", "(4) -> (5)"}) {
    text += fmt::format("step {} = copy{} from \"\" {{}}\n", step++, copy);
  }
  return text;
}

TEST_F(CudaRunTest, RunsBranchesInAnyOrderThatTheirDependenciesAllow) {
  CudaDevice device(fake.driver(), 0);
  auto swapped = [](std::vector<float> rows) {
    for (size_t i = 0; i < rows.size(); i += 4) {
      std::swap_ranges(&rows[i], &rows[i] + 2, &rows[i] + 2);
    }
    return rows;
  };
  for (int aux_streams : {0, 1, 3}) {
    for (bool last_first : {false, true}) {
      fake.last_first = last_first;
      fake.calls.clear();
      Context context(Engine::Load(MakePlan(Branches(aux_streams)), device), fake.MakeStream());
      Tensor x(Iota(3, 0)), other(Iota(3, 50)), y(Iota(3, 0)), z(Iota(3, 0));
      for (const Tensor* input : {&x, &x, &other, &x}) {
        EXPECT_EQ(Call(context, *input, y), swapped(input->values()));
      }
      EXPECT_EQ(Call(context, other, z), swapped(other.values()));
      EXPECT_EQ(fake.calls["cuGraphLaunch"], 4);
      EXPECT_EQ(fake.calls["cuStreamWaitEvent"] > 0, aux_streams > 0);
    }
  }
  EXPECT_EQ(fake.num_graphs(), 0u);
}

TEST_F(CudaRunTest, ForksAndJoinsACallersCapture) {
  CudaDevice device(fake.driver(), 0);
  CUstream stream = fake.MakeStream();
  Context context(Engine::Load(MakePlan(Branches(2)), device), stream);
  Tensor x(Iota(3, 0)), y(Iota(3, 0));
  std::vector<float> expected = Call(context, x, y);
  fake.BeginCapture(stream);
  Call(context, x, y);
  CUgraph graph = nullptr;
  ASSERT_EQ(fake.driver().StreamEndCapture(stream, &graph), CUDA_SUCCESS);
  fake.driver().GraphDestroy(graph);
  EXPECT_EQ(Call(context, x, y), expected);
}

TEST_F(CudaRunTest, LeavesNothingOfBranchesWhereALaunchFails) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(Branches(2)), device), fake.MakeStream());
  Tensor x(Iota(3, 0)), y(Iota(3, 0));
  std::vector<float> expected = Call(context, x, y);
  fake.failures["cuLaunchKernelEx"] = CUDA_ERROR_LAUNCH_FAILED;
  ErrorOf([&] { Call(context, x, y); }, ErrorKind::kDeviceError);
  fake.failures.clear();
  EXPECT_EQ(Call(context, x, y), expected);
  EXPECT_EQ(fake.num_graphs(), 0u);
}

TEST_F(CudaRunTest, LaunchesStepByStepWhereCaptureFails) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor x(Iota(2, -3)), y(Iota(2, 0));
  fake.failures["cuGraphInstantiateWithFlags"] = CUDA_ERROR_INVALID_VALUE;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Call(context, x, y), Rows(x.values()));
  EXPECT_EQ(fake.calls["cuGraphInstantiateWithFlags"], 1);
  EXPECT_EQ(fake.calls["cuGraphLaunch"], 0);
  EXPECT_EQ(fake.num_graphs(), 0u);
}

TEST_F(CudaRunTest, GivesEachStreamItsOwnKey) {
  CudaDevice device(fake.driver(), 0);
  CUstream one = fake.MakeStream(), other = fake.MakeStream();
  EXPECT_EQ(device.FindKey(one), device.FindKey(one));
  EXPECT_NE(device.FindKey(one), device.FindKey(other));
  EXPECT_NE(device.FindKey(one), device.FindKey(nullptr));
}

TEST_F(CudaRunTest, ProfilesEachStep) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor x(Iota(2, -3)), y(Iota(2, 0));
  TensorRef inputs[] = {x.ref()};
  std::byte* outputs[] = {y.bytes()};
  context.Prepare(inputs);
  EXPECT_THAT(context.Profile(inputs, outputs), ElementsAre(0.002, 0.002));
  EXPECT_EQ(y.values(), Rows(x.values()));
}

TEST_F(CudaRunTest, FreesAllItAllocated) {
  {
    CudaDevice device(fake.driver(), 0);
    Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
    Tensor x(Iota(2, -3)), y(Iota(2, 0));
    for (int i = 0; i < 2; ++i) Call(context, x, y);
    EXPECT_GT(fake.num_allocations(), 0u);
  }
  EXPECT_EQ(fake.num_allocations(), 0u);
  EXPECT_EQ(fake.num_graphs(), 0u);
  EXPECT_EQ(fake.calls["cuModuleLoadData"], fake.calls["cuModuleUnload"]);
}

TEST_F(CudaRunTest, AsksForMemoryTwiceThenSaysHowMuch) {
  CudaDevice device(fake.driver(), 0);
  fake.memory = 100;
  int released = 0;
  SetReleaseMemory([&] { ++released; });
  std::string message = ErrorOf([&] { device.Allocate(1000); }, ErrorKind::kOutOfMemory);
  EXPECT_THAT(message, HasSubstr("cannot allocate 1000 bytes on cuda:0"));
  EXPECT_EQ(released, 1);
  SetReleaseMemory([&] { fake.memory = 2000; });
  device.Free(device.Allocate(1000));
  SetReleaseMemory(nullptr);
}

TEST_F(CudaRunTest, FreesContextsThatNoCallUsesForOneThatLacksMemory) {
  CudaDevice device(fake.driver(), 0);
  ContextPool pool(Engine::Load(MakePlan(kRows), device));
  Tensor large(Iota(60, -9)), y(Iota(60, 0)), small(Iota(1, 0)), z(Iota(1, 0));
  auto call = [&](CUstream stream, const Tensor& from, const Tensor& to) {
    return ContextPool::RetryWithLess([&] {
      ContextPool::Lease context(pool, stream);
      TensorRef inputs[] = {from.ref()};
      std::byte* outputs[] = {to.bytes()};
      context->Prepare(inputs);
      context->Run(inputs, outputs);
      return to.values();
    });
  };
  CUstream one = fake.MakeStream(), other = fake.MakeStream();
  size_t before = fake.used();
  EXPECT_EQ(call(one, large, y), Rows(large.values()));
  fake.memory = fake.used() + 600;  // the arena is of 960 bytes
  size_t kept = fake.used();
  EXPECT_EQ(call(other, large, y), Rows(large.values()));
  EXPECT_LE(fake.used(), kept);
  EXPECT_EQ(call(one, small, z), Rows(small.values()));
  fake.memory = before;
  std::string message = ErrorOf([&] { call(one, large, y); }, ErrorKind::kOutOfMemory);
  EXPECT_THAT(message, HasSubstr("cannot allocate 960 bytes on cuda:0"));
  fake.memory = 1 << 20;
  EXPECT_EQ(call(one, large, y), Rows(large.values()));
}

TEST_F(CudaRunTest, NamesTheCallThatFailedAndTheStep) {
  CudaDevice device(fake.driver(), 0);
  Context context(Engine::Load(MakePlan(kRows), device), fake.MakeStream());
  Tensor x(Iota(2, -3)), y(Iota(2, 0));
  Call(context, x, y);
  fake.failures["cuLaunchKernelEx"] = CUDA_ERROR_ILLEGAL_ADDRESS;
  std::string message = ErrorOf([&] { Call(context, x, y); }, ErrorKind::kDeviceError);
  EXPECT_THAT(message, HasSubstr("cuLaunchKernelEx failed with CUDA_ERROR_FAKE: as the test"));
  EXPECT_THAT(message, HasSubstr("relu"));
}

TEST_F(CudaRunTest, RejectsWhatTheDeviceCannotRun) {
  fake.major = 8;
  CudaDevice ampere(fake.driver(), 0);
  Tensor x(Iota(1, 0));
  TensorRef inputs[] = {x.ref()};
  std::string message =
      ErrorOf([&] { Context(Engine::Load(MakePlan(kRows), ampere)).Prepare(inputs); },
              ErrorKind::kUnsupported);
  EXPECT_THAT(message, HasSubstr("compiled for sm_90a, and cuda:0 (Fake GPU) is sm_80"));
  fake.major = 7;
  EXPECT_THAT(ErrorOf([&] { CudaDevice(fake.driver(), 0); }, ErrorKind::kUnsupported),
              HasSubstr("compute capability 7.0"));
  EXPECT_THAT(ErrorOf([&] { CudaDevice(fake.driver(), 1); }, ErrorKind::kDeviceError),
              HasSubstr("there is no cuda:1: the driver has 1"));
}

TEST_F(CudaRunTest, RunsCodeOfAnEarlierMinorVersionOnly) {
  fake.major = 8;
  fake.minor = 6;
  CudaDevice device(fake.driver(), 0);
  auto loads = [&](const char* arch) {
    PlanCode code{.arch = arch, .entry = "exp_0", .binary = MakeConstantData({std::byte{0}})};
    try {
      return device.LoadModule(code) != nullptr;
    } catch (const Error&) {
      return false;
    }
  };
  EXPECT_TRUE(loads("sm_80"));
  EXPECT_TRUE(loads("sm_86"));
  EXPECT_TRUE(loads("compute_80"));
  EXPECT_FALSE(loads("sm_89"));
  EXPECT_FALSE(loads("sm_75"));
  EXPECT_FALSE(loads("sm_80a"));
  EXPECT_FALSE(loads("sm_90"));
  EXPECT_FALSE(loads("gfx90a"));
}

TEST_F(CudaRunTest, WantsConstantsOnItsOwnDevice) {
  fake.num_devices = 2;
  CudaDevice device(fake.driver(), 1);
  Tensor w({1, 2, 3, 4});
  ConstantData elsewhere{.bytes = w.bytes(), .size = 16, .owner = nullptr, .device = 0};
  EXPECT_THAT(ErrorOf([&] { device.BringConstant(elsewhere); }, ErrorKind::kInvalidArgument),
              HasSubstr("lies on cuda:0, and its engine's device is cuda:1"));
  ConstantData odd{.bytes = w.bytes() + 4, .size = 8, .owner = nullptr, .device = 1};
  EXPECT_THAT(ErrorOf([&] { device.BringConstant(odd); }, ErrorKind::kInvalidArgument),
              HasSubstr("no multiple of 16"));
}

TEST_F(CudaRunTest, LoadsADriverThatIsNotThereWithAReason) {
  try {
    GetDriver();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeviceError);
    EXPECT_THAT(error.what(), HasSubstr("NVIDIA driver"));
  }
  SetDriver(&fake.driver());
  EXPECT_EQ(&GetDriver(), &fake.driver());
  SetDriver(nullptr);
}

TEST(CudaCopier, HasNoWorkForNoElementsAndOneLaunchForAnyLayout) {
  FakeCuda fake;
  CudaDevice device(fake.driver(), 0);
  TensorRef from{.dtype = DType::kFloat16, .dims = {2, 3, 4, 5}, .strides = {60, 1, 15, 3}};
  TensorRef to = from;
  to.strides = {60, 20, 5, 1};
  EXPECT_EQ(device.copier().Make(from, to, 16).size(), 1u);
  std::vector<int16_t> source(120), target(120);
  std::iota(source.begin(), source.end(), 0);
  from.data = reinterpret_cast<std::byte*>(source.data());
  to.data = reinterpret_cast<std::byte*>(target.data());
  device.Copy(from, to, nullptr);
  for (int i = 0; i < 120; ++i) {
    int at = i / 60 * 60 + i / 20 % 3 + i / 5 % 4 * 15 + i % 5 * 3;
    EXPECT_EQ(target[i], at) << i;
  }
  from.dims = to.dims = {2, 0, 4, 5};
  EXPECT_TRUE(device.copier().Make(from, to, 16).empty());
}

TEST(CudaCopier, SplitsWhatOneLaunchCannotHold) {
  FakeCuda fake;
  CudaDevice device(fake.driver(), 0);
  // 5 GiB of odd bytes: three launches, which meet without a gap.
  int64_t bytes = (int64_t{5} << 30) + 1, end = 0;
  for (const CudaCopier::Copy& copy : device.copier().MakeDense(bytes, 16)) {
    EXPECT_EQ(copy.from_offset, end);
    EXPECT_EQ(copy.to_offset, end);
    end += static_cast<int64_t>(copy.count) * copy.from_strides[0];
  }
  EXPECT_EQ(end, bytes);
  // Ten dims that no two of can be one.
  TensorRef from{.dtype = DType::kUInt8, .dims = Sizes(10, 2), .strides = {}};
  TensorRef to = from;
  for (int d = 0; d < 10; ++d) {
    from.strides.push_back(int64_t{1} << (2 * d));
    to.strides.push_back(int64_t{1} << (9 - d));
  }
  std::vector<std::byte> source(1 << 19), target(1 << 10);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7);
  from.data = source.data();
  to.data = target.data();
  device.Copy(from, to, nullptr);
  EXPECT_EQ(device.copier().Make(from, to, 16).size(), 4u);
  for (int i = 0; i < 1024; ++i) {
    int64_t from_at = 0, to_at = 0;
    for (int d = 0; d < 10; ++d) {
      from_at += (i >> d & 1) * from.strides[d];
      to_at += (i >> d & 1) * to.strides[d];
    }
    EXPECT_EQ(target[to_at], source[from_at]);
  }
}

}  // namespace
}  // namespace stator
