// The gemm step in each form against the reference evaluator: sizes, layouts, post-ops, refit.
#include <cmath>
#include <limits>
#include <thread>

#include <gtest/gtest.h>

#include "cpu/run/gemm.h"
#include "step_runner.h"

namespace stator {
namespace {

using testing::TestWithParam;
using testing::ValuesIn;

// Runs in one form; skips the comparison when oneDNN has none for these operands.
bool RunForm(StepRunner& runner, std::string_view form) {
  bool found = runner.Load([&](const StepSite& site) { return FindGemm(site, form); });
  if (found) runner.RunAndCompare();
  return found;
}

std::string Layer(int m, int k, int n, std::string_view dtype = "f32") {
  return fmt::format(
      "graph @gemm(%x: {3}[{0}, {1}], %w: {3}[{1}, {2}]) {{\n"
      "  %0 = matmul(%x, %w)\n  return %0\n}}",
      m, k, n, dtype);
}

// The reference rounds each node's result to the type, a kernel only the last: `num_nodes` ulps.
void SetTolerance(StepRunner& runner, std::string_view dtype, int num_nodes) {
  if (dtype == "f32") return;
  double ulp = dtype == "bf16" ? 0x1p-7 : 0x1p-10;
  runner.rtol = num_nodes * ulp;
  runner.atol = num_nodes > 1 ? 20 * ulp : 1e-5;  // what is summed up is as large as 20
}

// Forms that run sums of any length.
constexpr std::string_view kWholeForms[] = {"matmul", "inner_product", "conv_h", "conv_w"};

class GemmForm : public TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(All, GemmForm, ValuesIn(kWholeForms),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(GemmForm, RunsOddSizes) {
  for (auto [m, k, n] : {std::array{1, 1, 1},
                         {1, 17, 33},
                         {7, 5, 3},
                         {3, 64, 1},
                         {1, 128, 256},
                         {64, 31, 65},
                         {197, 96, 130},
                         {2, 1, 7},
                         {5, 1, 1},
                         {1, 1, 9}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", m, k, n));
    StepRunner runner(Layer(m, k, n));
    EXPECT_TRUE(RunForm(runner, GetParam()));
    runner.constants = {1};
    EXPECT_TRUE(RunForm(runner, GetParam()));
  }
}

TEST_P(GemmForm, RunsTransposedAndPaddedOperands) {
  for (bool constant : {false, true}) {
    StepRunner runner(Layer(13, 40, 24));
    if (constant) runner.constants = {1};
    runner.SetInputLayout(1, {1, 0});  // weights [N, K] seen as [K, N]
    EXPECT_TRUE(RunForm(runner, GetParam()));
    runner.SetInputLayout(0, {0, 1}, 5);
    runner.SetOutputLayout({0, 1}, 3);
    EXPECT_TRUE(RunForm(runner, GetParam()));
    runner.SetInputLayout(0, {1, 0});
    runner.SetOutputLayout({1, 0});
    EXPECT_TRUE(RunForm(runner, GetParam()));
  }
}

TEST_P(GemmForm, RunsBatchedRows) {
  StepRunner runner(
      "graph @gemm(%x: f32[2, 3, 5, 16], %w: f32[16, 8], %b: f32[8], %r: f32[2, 3, 5, 8]) {\n"
      "  %0 = matmul(%x, %w)\n  %1 = add(%0, %b)\n  %2 = gelu(%1)\n  %3 = add(%r, %2)\n"
      "  return %3\n}");
  runner.constants = {1, 2};
  EXPECT_TRUE(RunForm(runner, GetParam()));
}

TEST_P(GemmForm, RefitsPackedWeights) {
  StepRunner runner(Layer(9, 48, 32));
  runner.constants = {1};
  ASSERT_TRUE(RunForm(runner, GetParam()));
  runner.Randomize(1);
  runner.prepared().Pack();
  runner.RunAndCompare();
}

TEST_P(GemmForm, RunsInSeveralThreads) {
  StepRunner runner(Layer(33, 64, 48));
  runner.constants = {1};
  ASSERT_TRUE(RunForm(runner, GetParam()));
  std::vector<std::thread> threads;
  std::vector<std::vector<HostTensor>> outputs(4);
  for (auto& output : outputs) {
    output = runner.MakeOutputs();
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) runner.Run(output);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& output : outputs) runner.Compare(output);
}

constexpr const char* kPostOps[] = {
    "relu(%0)",
    "sigmoid(%0)",
    "silu(%0)",
    "gelu(%0)",
    "gelu_tanh(%0)",
    "tanh(%0)",
    "hardsigmoid(%0)",
    "hardswish(%0)",
    "abs(%0)",
    "square(%0)",
    "neg(%0)",
    "leaky_relu(%0) {slope = 0.1}",
    "elu(%0) {alpha = 0.5}",
    "hardtanh(%0) {max = 0.5, min = -0.25}",
    "add(%0, %bias)",
    "add(%bias, %0)",
    "sub(%0, %bias)",
    "mul(%0, %bias)",
    "div(%0, %bias)",
    "add(%0, %full)",
    "sub(%0, %full)",
    "mul(%full, %0)",
    "div(%0, %full)",
    "add(%0, %number)",
    "sub(%0, %number)",
    "sub(%number, %0)",
    "mul(%0, %number)",
    "div(%0, %number)",
};

std::string WithPostOp(const std::string& post_op, std::string_view dtype = "f32", int k = 24) {
  return fmt::format(
      "graph @gemm(%x: {0}[11, {2}], %w: {0}[{2}, 40], %bias: {0}[40], %full: {0}[11, 40]) {{\n"
      "  literal %number: {0}[] = [4.0]\n"
      "  %0 = matmul(%x, %w)\n  %1 = {1}\n  return %1\n}}",
      dtype, post_op, k);
}

TEST_P(GemmForm, RunsPostOps) {
  for (const char* post_op : kPostOps) {
    SCOPED_TRACE(post_op);
    StepRunner runner(WithPostOp(post_op));
    runner.constants = {1, 2};
    EXPECT_TRUE(RunForm(runner, GetParam()));
    runner.SetInputLayout(3, {1, 0});  // a residual that lies otherwise than the output
    EXPECT_TRUE(RunForm(runner, GetParam()));
  }
}

TEST_P(GemmForm, KeepsNonFiniteNumbers) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const char* post_op : kPostOps) {
    for (float value : {std::numeric_limits<float>::quiet_NaN(), kInf, -kInf}) {
      for (const char* dtype : {"f32", "bf16", "f16"}) {
        SCOPED_TRACE(fmt::format("{} of {} {}", post_op, dtype, value));
        StepRunner runner(WithPostOp(post_op, dtype));
        SetTolerance(runner, dtype, 2);
        runner.constants = {1, 2};
        runner.SetElement(0, 5, value);
        runner.SetInput(1, 0.25f);
        EXPECT_TRUE(RunForm(runner, GetParam()));
      }
    }
  }
}

TEST_P(GemmForm, RunsHalfPrecision) {
  for (std::string_view dtype : {"bf16", "f16"}) {
    for (auto [m, k, n] : {std::array{1, 1, 1}, {1, 17, 33}, {3, 40, 5}, {64, 31, 65}}) {
      for (std::set<int> constants : {std::set<int>{}, {1}}) {
        SCOPED_TRACE(fmt::format("{} {} {} {}, {} constant", dtype, m, k, n, constants.size()));
        StepRunner runner(Layer(m, k, n, dtype));
        SetTolerance(runner, dtype, 1);
        runner.constants = constants;
        EXPECT_TRUE(RunForm(runner, GetParam()));
        runner.SetInputLayout(1, {1, 0});
        EXPECT_TRUE(RunForm(runner, GetParam()));
        runner.SetInputLayout(0, {0, 1}, 5);
        runner.SetOutputLayout({0, 1}, 3);
        EXPECT_TRUE(RunForm(runner, GetParam()));
        runner.SetInputLayout(0, {1, 0});
        runner.SetOutputLayout({1, 0});
        EXPECT_TRUE(RunForm(runner, GetParam()));
      }
    }
  }
}

TEST_P(GemmForm, RunsPostOpsInHalfPrecision) {
  for (std::string_view dtype : {"bf16", "f16"}) {
    for (const char* post_op : kPostOps) {
      SCOPED_TRACE(fmt::format("{} of {}", post_op, dtype));
      StepRunner runner(WithPostOp(post_op, dtype));
      SetTolerance(runner, dtype, 2);
      runner.SetInput(3, 1.5f);  // no divisor near 0
      for (std::set<int> constants : {std::set<int>{}, {1}, {1, 2}}) {
        runner.constants = constants;
        EXPECT_TRUE(RunForm(runner, GetParam()));
      }
      runner.SetInputLayout(3, {1, 0});
      EXPECT_TRUE(RunForm(runner, GetParam()));
    }
  }
}

// The tolerance is what rounding does to a chain of 512, by far less than to one of 3072. Without
// fused multiplication and addition, the products are rounded, too.
TEST(GemmTest, AddsLongSumsInTerms) {
  for (auto [m, k, n] :
       {std::array{2, 1024, 24}, {11, 1536, 40}, {64, 3072, 17}, {130, 1280, 96}, {3, 1025, 8}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", m, k, n));
    StepRunner runner(Layer(m, k, n));
    runner.rtol = 2.5e-6;
    runner.atol = runner.rtol * std::sqrt(k);
    EXPECT_TRUE(RunForm(runner, "terms"));
    runner.constants = {1};
    EXPECT_TRUE(RunForm(runner, "terms"));
    runner.Randomize(1);
    runner.prepared().Pack();
    runner.RunAndCompare();
    runner.SetInputLayout(1, {1, 0});  // weights [N, K] seen as [K, N]
    runner.SetInputLayout(0, {0, 1}, 5);
    EXPECT_TRUE(RunForm(runner, "terms"));
    runner.SetInputLayout(0, {1, 0});
    EXPECT_TRUE(RunForm(runner, "terms"));
  }
}

TEST(GemmTest, AddsShortOrRoundedSumsAsAWhole) {
  for (auto [k, dtype] : {std::pair(1023, "f32"), {768, "f32"}, {3072, "bf16"}}) {
    StepRunner runner(Layer(8, k, 16, dtype));
    runner.constants = {1};
    EXPECT_FALSE(RunForm(runner, "terms")) << k << dtype;
  }
}

TEST(GemmTest, AppliesPostOpsToTheSumOfTerms) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const char* post_op : kPostOps) {
    SCOPED_TRACE(post_op);
    StepRunner runner(WithPostOp(post_op, "f32", 1024));
    runner.rtol = runner.atol = 1e-4;
    runner.constants = {1, 2};
    EXPECT_TRUE(RunForm(runner, "terms"));
    runner.SetInputLayout(3, {1, 0});
    EXPECT_TRUE(RunForm(runner, "terms"));
    for (float value : {std::numeric_limits<float>::quiet_NaN(), kInf, -kInf}) {
      runner.SetElement(0, 5, value);
      runner.SetInput(1, 0.25f);
      EXPECT_TRUE(RunForm(runner, "terms"));
    }
  }
}

TEST(GemmTest, RunsStacks) {
  for (const char* shapes :
       {"%a: f32[2, 3, 5, 7], %b: f32[2, 3, 7, 9]", "%a: f32[3, 5, 7], %b: f32[1, 7, 9]",
        "%a: f32[5, 7], %b: f32[4, 7, 9]", "%a: f32[2, 1, 5, 7], %b: f32[3, 7, 9]",
        "%a: f32[2, 12, 1, 64], %b: f32[2, 12, 64, 33]", "%a: f32[4, 6, 1], %b: f32[4, 1, 5]"}) {
    SCOPED_TRACE(shapes);
    std::string body = fmt::format(
        "graph @gemm({}) {{\n  literal %c: f32[] = [0.125]\n"
        "  %0 = matmul(%a, %b)\n  %1 = mul(%0, %c)\n  return %1\n}}",
        shapes);
    StepRunner runner(body);
    EXPECT_TRUE(RunForm(runner, "matmul"));
  }
}

TEST(GemmTest, RunsStacksOfPermutedHeads) {
  // Queries and keys as [B, S, H, D] seen as [B, H, S, D] and [B, H, D, S].
  StepRunner runner(
      "graph @gemm(%q: f32[2, 4, 9, 16], %k: f32[2, 4, 16, 9]) {\n"
      "  %0 = matmul(%q, %k)\n  return %0\n}");
  runner.SetInputLayout(0, {0, 2, 1, 3});
  runner.SetInputLayout(1, {0, 3, 1, 2});
  runner.SetOutputLayout({0, 2, 1, 3});
  EXPECT_TRUE(RunForm(runner, "matmul"));
}

TEST(GemmTest, RunsExpandedOperands) {
  for (auto [input, dim] :
       {std::pair(0, 0), {0, 1}, {0, 2}, {1, 0}, {1, 1}, {2, 0}, {3, 0}, {3, 1}, {3, 2}}) {
    for (std::string_view form : kGemmForms) {
      SCOPED_TRACE(fmt::format("input {}, dim {}, {}", input, dim, form));
      StepRunner runner(
          "graph @gemm(%a: f32[3, 5, 7], %b: f32[7, 9], %bias: f32[9], %r: f32[3, 5, 9]) {\n"
          "  %0 = matmul(%a, %b)\n  %1 = add(%0, %bias)\n  %2 = mul(%1, %r)\n  return %2\n}");
      runner.constants = {1};
      runner.ExpandInput(input, dim);
      runner.attrs = {{"form", std::string(form)}};
      ASSERT_TRUE(runner.Load(PrepareGemm));
      runner.RunAndCompare();
    }
  }
}

// One row of one number, as the zeros that a decoder starts from lie.
TEST_P(GemmForm, RunsARowThatRepeatsANumber) {
  for (bool constant : {false, true}) {
    StepRunner runner(Layer(1, 64, 96));
    if (constant) runner.constants = {0, 1};
    runner.ExpandInput(0, 1);
    runner.attrs = {{"form", std::string(GetParam())}};
    ASSERT_TRUE(runner.Load(PrepareGemm));
    runner.RunAndCompare();
  }
}

TEST(GemmTest, PreparesWhatOneDnnCannotRun) {
  for (const char* body : {
           "graph @gemm(%a: f64[3, 4], %b: f64[4, 5]) {\n  %0 = matmul(%a, %b)\n  return %0\n}",
           "graph @gemm(%a: i64[3, 4], %b: i64[4, 5]) {\n  %0 = matmul(%a, %b)\n  return %0\n}",
           "graph @gemm(%a: f32[3, 0], %b: f32[0, 5]) {\n  %0 = matmul(%a, %b)\n  return %0\n}",
           "graph @gemm(%a: f32[0, 4], %b: f32[4, 5]) {\n  %0 = matmul(%a, %b)\n  return %0\n}",
           "graph @gemm(%a: f32[3, 4], %b: f32[4, 5]) {\n  %0 = matmul(%a, %b)\n"
           "  %1 = exp(%0)\n  return %1\n}",
       }) {
    SCOPED_TRACE(body);
    StepRunner runner(body);
    ASSERT_TRUE(runner.Load(PrepareGemm));
    runner.RunAndCompare();
  }
}

TEST(GemmTest, RunsStacksInHalfPrecision) {
  for (std::string_view dtype : {"bf16", "f16"}) {
    SCOPED_TRACE(dtype);
    StepRunner runner(
        fmt::format("graph @gemm(%a: {0}[2, 4, 9, 16], %b: {0}[2, 4, 16, 9]) {{\n"
                    "  literal %c: {0}[] = [0.125]\n  %0 = matmul(%a, %b)\n  %1 = mul(%0, %c)\n"
                    "  return %1\n}}",
                    dtype));
    SetTolerance(runner, dtype, 1);
    EXPECT_TRUE(RunForm(runner, "matmul"));
    runner.SetInputLayout(0, {0, 2, 1, 3});
    runner.SetInputLayout(1, {0, 3, 1, 2});
    runner.SetOutputLayout({0, 2, 1, 3});
    EXPECT_TRUE(RunForm(runner, "matmul"));
    runner.ExpandInput(0, 1);
    EXPECT_TRUE(RunForm(runner, "matmul"));
  }
}

TEST(GemmTest, PassesWithFewerInstructions) { RunSelfAtEveryIsa(); }

}  // namespace
}  // namespace stator
