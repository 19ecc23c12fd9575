// CpuDevice: plans run through the engine, refits, fallbacks, errors, threads, memory.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "runtime/engine.h"
#include "sample_plan.h"

namespace {

std::atomic<int64_t> num_allocations = 0;

void* Count(void* data) {
  ++num_allocations;
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

}  // namespace

// Not inlined: GCC 12 would warn that malloc is paired with delete.
[[gnu::noinline]] void* operator new(size_t size) { return Count(std::malloc(size)); }
[[gnu::noinline]] void operator delete(void* data) noexcept { std::free(data); }
[[gnu::noinline]] void operator delete(void* data, size_t) noexcept { std::free(data); }

namespace stator {
namespace {

using ::testing::Each;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// A program of a plan's steps with memory to run it in; no constants.
class Runner {
 public:
  explicit Runner(std::string_view text) : plan_(PlanFromText(text)) {
    bound_.plan = &plan_;
    std::vector<int64_t> bytes;
    for (const PlanBuffer& buffer : plan_.arena) bytes.push_back(buffer.bytes.value());
    bound_.arena_offsets = PlanMemory(plan_.arena, bytes);
    bound_.arena_bytes = bound_.arena_offsets.back();
    for (const PlanTensor& tensor : plan_.tensors) {
      bound_.tensors.push_back({.dtype = tensor.dtype,
                                .dims = EvalDims(tensor.dims, {}),
                                .strides = EvalDims(tensor.strides, {})});
      bound_.tensor_offsets.push_back(tensor.offset.value() *
                                      static_cast<int64_t>(DTypeSize(tensor.dtype)));
    }
    program_ = CpuDevice().Load(bound_, plan_.steps);
    arena_ = CpuDevice().Allocate(bound_.arena_bytes);
    ws_ = CpuDevice().Allocate(program_->ws_bytes());
  }
  ~Runner() {
    CpuDevice().Free(arena_);
    CpuDevice().Free(ws_);
  }

  const Program& program() const { return *program_; }

  void Set(std::vector<std::byte*> inputs, std::vector<std::byte*> outputs) {
    inputs_ = std::move(inputs);
    outputs_ = std::move(outputs);
  }
  RunArgs args() const {
    return {.inputs = inputs_, .outputs = outputs_, .arena = arena_, .ws = ws_};
  }

 private:
  Plan plan_;
  BoundPlan bound_;
  std::unique_ptr<Program> program_;
  std::byte *arena_ = nullptr, *ws_ = nullptr;
  std::vector<std::byte*> inputs_, outputs_;
};

template <typename T>
std::byte* Bytes(std::vector<T>& values) {
  return reinterpret_cast<std::byte*>(values.data());
}

// ---- the sample plan through the engine
struct Sample {
  std::vector<float> w = {0.0f, 0.0f, -2.0f};
  std::shared_ptr<Engine> engine;

  Sample() {
    auto plan = std::make_shared<Plan>(MakeSamplePlan());
    plan->weights[0].data = {.bytes = Bytes(w), .size = w.size() * sizeof(float)};
    engine = Engine::Load(plan, CpuDevice());
  }

  // Runs on `rows` rows and compares with relu(x) * exp(w) + {1, 2, 3}.
  void Check(Context& context, int64_t rows, float shift) const {
    std::vector<float> x(rows * 3), y(rows * 3, NAN), expected;
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - shift;
    TensorRef input{.data = Bytes(x), .dims = {rows, 3}, .strides = {3, 1}};
    context.Prepare({&input, 1});
    std::byte* output = Bytes(y);
    context.Run({&input, 1}, {&output, 1});
    for (size_t i = 0; i < x.size(); ++i) {
      expected.push_back(std::max(x[i], 0.0f) * std::exp(w[i % 3]) + static_cast<float>(1 + i % 3));
    }
    EXPECT_THAT(y, ::testing::Pointwise(::testing::FloatNear(1e-5f), expected));
  }
};

TEST(CpuDevice, RunsManyShapes) {
  Sample sample;
  Context context(sample.engine);
  for (int64_t rows : {1, 2, 64, 7, 1}) sample.Check(context, rows, 4.0f);
}

TEST(CpuDevice, RefitsInPlace) {
  Sample sample;
  Context context(sample.engine);
  sample.Check(context, 5, 3.0f);
  sample.w = {1.0f, 0.5f, 0.0f};
  sample.engine->Refit();
  sample.Check(context, 5, 3.0f);
}

TEST(CpuDevice, RunsOnSeveralThreadsAtOnce) {
  Sample sample;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&sample, t] {
      Context context(sample.engine);
      for (int i = 0; i < 50; ++i) sample.Check(context, 1 + (t + i) % 64, static_cast<float>(t));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// ---- programs
// y = [a; b]: two copies into windows.
constexpr std::string_view kConcatPlan = R"(plan "concat" version 1 target "cpu"
input 0 = "a" f32[2, 3] strides [3, 1]
input 1 = "b" f32[2, 2] strides [2, 1]
output 0 = "y" f32[2, 5] strides [5, 1]
tensor 0 = input 0 + 0 : f32[2, 3] strides [3, 1]
tensor 1 = input 1 + 0 : f32[2, 2] strides [2, 1]
tensor 2 = output 0 + 0 : f32[2, 3] strides [5, 1]
tensor 3 = output 0 + 3 : f32[2, 2] strides [5, 1]
step 0 = copy(0) -> (2) from "cat" {}
step 1 = copy(1) -> (3) from "cat" {}
)";

TEST(CpuDevice, CopiesIntoWindows) {
  Runner runner(kConcatPlan);
  std::vector<float> a = {1, 2, 3, 4, 5, 6}, b = {7, 8, 9, 10}, y(10);
  runner.Set({Bytes(a), Bytes(b)}, {Bytes(y)});
  runner.program().Run(runner.args());
  EXPECT_THAT(y, ::testing::ElementsAre(1, 2, 3, 7, 8, 4, 5, 6, 9, 10));
}

// Attention of x with itself, then the largest of each pair.
constexpr std::string_view kAttentionPlan = R"(plan "attention" version 1 target "cpu"
input 0 = "x" f32[2, 40, 16] strides [640, 16, 1]
output 0 = "y" f32[2, 40, 8] strides [320, 8, 1]
arena 0 = 5120 bytes, steps 0 to 1
tensor 0 = input 0 + 0 : f32[2, 40, 16] strides [640, 16, 1]
tensor 1 = arena 0 + 0 : f32[2, 40, 16] strides [640, 16, 1]
tensor 2 = output 0 + 0 : f32[2, 40, 8] strides [320, 8, 1]
step 0 = attention(0) -> (1) from "sdpa · model.py:3" {}
  graph @body(%x: f32[2, 40, 16]) {
    %0 = attention(%x, %x, %x) {causal = true, scale = 0.25} : f32[2, 40, 16]
    return %0
  }
step 1 = pool(1) -> (2) from "pool" {}
  graph @body(%x: f32[2, 40, 16]) {
    %0 = max_pool(%x) {ceil_mode = false, dilation = [1], kernel = [2], padding = [0], stride = [2]} : f32[2, 40, 8]
    return %0
  }
)";

TEST(CpuDevice, ARunAllocatesNothing) {
  Runner runner(kAttentionPlan);
  std::vector<float> x(2 * 40 * 16, 1.0f), y(2 * 40 * 8);
  runner.Set({Bytes(x)}, {Bytes(y)});
  runner.program().Run(runner.args());
  int64_t before = num_allocations;
  runner.program().Run(runner.args());
  EXPECT_EQ(num_allocations, before);
  EXPECT_THAT(y, Each(1.0f));
}

TEST(CpuDevice, ProfilesEachStep) {
  Runner runner(kAttentionPlan);
  std::vector<float> x(2 * 40 * 16, 1.0f), y(2 * 40 * 8);
  runner.Set({Bytes(x)}, {Bytes(y)});
  EXPECT_THAT(runner.program().Profile(runner.args()), SizeIs(2));
  EXPECT_THAT(runner.program().Profile(runner.args()), Each(Ge(0.0)));
  EXPECT_THAT(y, Each(1.0f));
}

// An attention step whose body is a sum: no way of its own runs it.
TEST(CpuDevice, WhatAStepCannotRunTheReferenceKernelsDo) {
  Runner runner(R"(plan "sum" version 1 target "cpu"
input 0 = "x" i64[3] strides [1]
output 0 = "y" i64[3] strides [1]
tensor 0 = input 0 + 0 : i64[3] strides [1]
tensor 1 = output 0 + 0 : i64[3] strides [1]
step 0 = attention(0) -> (1) from "add" {}
  graph @body(%x: i64[3]) {
    %0 = add(%x, %x) : i64[3]
    return %0
  }
)");
  std::vector<int64_t> x = {1, 2, 3}, y(3);
  runner.Set({Bytes(x)}, {Bytes(y)});
  runner.program().Run(runner.args());
  EXPECT_THAT(y, ::testing::ElementsAre(2, 4, 6));
}

TEST(CpuDevice, AnErrorNamesItsStep) {
  Runner runner(R"(plan "lookup" version 1 target "cpu"
input 0 = "table" f32[4, 2] strides [2, 1]
input 1 = "index" i64[1] strides [1]
output 0 = "y" f32[1, 2] strides [2, 1]
tensor 0 = input 0 + 0 : f32[4, 2] strides [2, 1]
tensor 1 = input 1 + 0 : i64[1] strides [1]
tensor 2 = output 0 + 0 : f32[1, 2] strides [2, 1]
step 0 = gather(0, 1) -> (2) from "embedding_1 · model.py:7" {}
  graph @body(%t: f32[4, 2], %i: i64[1]) {
    %0 = embedding(%t, %i) : f32[1, 2]
    return %0
  }
)");
  std::vector<float> table(8), y(2);
  std::vector<int64_t> index = {4};
  runner.Set({Bytes(table), Bytes(index)}, {Bytes(y)});
  try {
    runner.program().Run(runner.args());
    FAIL() << "an index outside the table";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.node(), HasSubstr("model.py:7"));
  }
}

// ---- memory
TEST(CpuDevice, AllocatesAligned) {
  for (int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{5} << 20}) {
    std::byte* data = CpuDevice().Allocate(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
    if (bytes > 0) data[bytes - 1] = std::byte{1};
    CpuDevice().Discard(data, bytes);
    if (bytes > 0) data[bytes - 1] = std::byte{1};
    CpuDevice().Free(data);
  }
  EXPECT_THROW(CpuDevice().Allocate(int64_t{1} << 60), Error);
}

TEST(CpuDevice, CopiesAnyStrides) {
  std::vector<float> from = {1, 2, 3, 4, 5, 6}, to(6);
  CpuDevice().Copy({.data = Bytes(from), .dims = {2, 3}, .strides = {3, 1}},
                   {.data = Bytes(to), .dims = {2, 3}, .strides = {1, 2}}, nullptr);
  EXPECT_THAT(to, ::testing::ElementsAre(1, 4, 2, 5, 3, 6));
}

}  // namespace
}  // namespace stator
