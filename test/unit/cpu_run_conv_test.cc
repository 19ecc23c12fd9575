// The conv step in each layout against the reference evaluator: windows, groups, layouts, post-ops.
#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/run/conv.h"
#include "ir/print.h"
#include "ops/samples.h"
#include "step_runner.h"

namespace stator {
namespace {

using testing::TestWithParam;
using testing::ValuesIn;

bool RunLayout(StepRunner& runner, std::string_view layout) {
  bool found = runner.Load([&](const StepSite& site) { return FindConv(site, layout); });
  if (found) runner.RunAndCompare();
  return found;
}

struct ConvCase {
  std::string x, w;
  std::string stride = "[1, 1]", padding = "[0, 0]", dilation = "[1, 1]";
  int groups = 1;
  int bias = 0;      // channels, 0: none
  std::string tail;  // post-ops from %0 to %y
};

std::string Conv(const ConvCase& c) {
  return fmt::format(
      "graph @conv(%x: f32{}, %w: f32{}{}) {{\n  %0 = conv(%x, %w{}) {{stride = {}, padding = {}, "
      "dilation = {}, groups = {}, transposed = false, output_padding = {}}}\n{}  return %{}\n}}",
      c.x, c.w, c.bias > 0 ? fmt::format(", %b: f32[{}]", c.bias) : "", c.bias > 0 ? ", %b" : "",
      c.stride, c.padding, c.dilation, c.groups,
      c.stride.size() > 6 ? "[0, 0, 0]" : (c.stride.size() > 3 ? "[0, 0]" : "[0]"), c.tail,
      c.tail.empty() ? "0" : "y");
}

const ConvCase kCases[] = {
    {.x = "[1, 3, 17, 15]",
     .w = "[20, 3, 7, 7]",
     .stride = "[2, 2]",
     .padding = "[3, 3]",
     .bias = 20},
    {.x = "[2, 16, 9, 9]", .w = "[32, 16, 3, 3]", .padding = "[1, 1]"},
    {.x = "[1, 24, 7, 7]", .w = "[40, 24, 1, 1]", .bias = 40},
    {.x = "[1, 24, 8, 8]", .w = "[17, 24, 1, 1]", .stride = "[2, 2]"},
    {.x = "[1, 32, 9, 9]",
     .w = "[32, 1, 3, 3]",
     .stride = "[2, 2]",
     .padding = "[1, 1]",
     .groups = 32,
     .bias = 32},
    {.x = "[1, 19, 6, 7]", .w = "[19, 1, 5, 5]", .padding = "[2, 2]", .groups = 19},
    {.x = "[2, 12, 6, 5]",
     .w = "[8, 3, 3, 3]",
     .padding = "[2, 1]",
     .dilation = "[2, 1]",
     .groups = 4},
    {.x = "[1, 4, 5, 5]", .w = "[8, 1, 3, 3]", .groups = 4},
    {.x = "[1, 40, 1, 1]", .w = "[10, 40, 1, 1]", .bias = 10},
    {.x = "[1, 1, 5, 5]", .w = "[1, 1, 5, 5]"},
};

class ConvLayout : public TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(All, ConvLayout, ValuesIn(kConvLayouts),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(ConvLayout, RunsWindowsAndGroups) {
  for (const ConvCase& c : kCases) {
    SCOPED_TRACE(Conv(c));
    for (bool channels_last : {true, false}) {
      StepRunner runner(Conv(c));
      runner.rtol = runner.atol = 2e-5;
      if (channels_last) {
        runner.SetInputLayout(0, {0, 2, 3, 1});
        runner.SetOutputLayout({0, 2, 3, 1});
      }
      RunLayout(runner, GetParam());
      runner.constants = {1, 2};
      EXPECT_TRUE(RunLayout(runner, GetParam()) || GetParam() != "channels_last");
    }
  }
}

TEST_P(ConvLayout, RunsMixedLayouts) {
  StepRunner runner(Conv(kCases[1]));
  runner.rtol = runner.atol = 2e-5;
  runner.constants = {1};
  runner.SetInputLayout(0, {0, 2, 3, 1}, 8);  // a window of wider channels
  RunLayout(runner, GetParam());
  runner.SetInputLayout(1, {0, 2, 3, 1});
  RunLayout(runner, GetParam());
  runner.SetOutputLayout({0, 1, 3, 2});
  if (!RunLayout(runner, GetParam())) return;
  runner.Randomize(3);
  runner.prepared().Pack();
  runner.RunAndCompare();
}

constexpr const char* kTails[] = {
    "  %y = relu(%0)\n",
    "  %y = hardswish(%0)\n",
    "  %y = silu(%0)\n",
    "  %1 = add(%0, %r)\n  %y = relu(%1)\n",
    "  %1 = hardsigmoid(%0)\n  %y = mul(%r, %1)\n",
    "  %1 = mul(%0, %s)\n  %2 = add(%1, %t)\n  %y = hardtanh(%2) {max = 6.0, min = 0.0}\n",
};

std::string WithTail(const char* tail) {
  return fmt::format(
      "graph @conv(%x: f32[1, 16, 6, 7], %w: f32[24, 16, 3, 3], %b: f32[24], "
      "%r: f32[1, 24, 6, 7], %s: f32[24, 1, 1], %t: f32[1, 24, 1, 1]) {{\n"
      "  %0 = conv(%x, %w, %b) {{stride = [1, 1], padding = [1, 1], dilation = [1, 1], groups = 1, "
      "transposed = false, output_padding = [0, 0]}}\n{}  return %y\n}}",
      tail);
}

TEST_P(ConvLayout, RunsPostOps) {
  for (const char* tail : kTails) {
    SCOPED_TRACE(tail);
    StepRunner runner(WithTail(tail));
    runner.rtol = runner.atol = 2e-5;
    runner.constants = {1, 2, 4, 5};
    for (bool channels_last : {true, false}) {
      if (channels_last) {
        for (int i : {0, 3}) runner.SetInputLayout(i, {0, 2, 3, 1});
        runner.SetOutputLayout({0, 2, 3, 1});
      } else {
        runner.SetInputLayout(3, {0, 1, 2, 3});  // a residual that lies otherwise
      }
      RunLayout(runner, GetParam());
    }
  }
}

std::string InType(std::string body, std::string_view dtype) {
  for (size_t at = 0; (at = body.find("f32", at)) != std::string::npos; ++at) {
    body.replace(at, 3, dtype);
  }
  return body;
}

TEST_P(ConvLayout, KeepsNonFiniteNumbers) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const char* tail : kTails) {
    for (float value : {std::numeric_limits<float>::quiet_NaN(), kInf, -kInf}) {
      for (std::string_view dtype : {"f32", "bf16"}) {
        SCOPED_TRACE(fmt::format("{} of {} {}", tail, dtype, value));
        StepRunner runner(InType(WithTail(tail), dtype));
        runner.rtol = runner.atol = dtype == "f32" ? 2e-5 : 0.1;
        runner.constants = {1, 2, 4, 5};
        runner.SetInput(1, 0.125f);
        runner.SetElement(0, 5, value);
        RunLayout(runner, GetParam());
      }
    }
  }
}

// The reference rounds each node's result to the type, a kernel only the last.
TEST_P(ConvLayout, RunsHalfPrecision) {
  std::vector<std::string> bodies;
  for (const ConvCase& c : kCases) bodies.push_back(Conv(c));
  for (const char* tail : kTails) bodies.push_back(WithTail(tail));
  for (std::string_view dtype : {"bf16", "f16"}) {
    double ulp = dtype == "bf16" ? 0x1p-7 : 0x1p-10;
    for (const std::string& f32_body : bodies) {
      std::string body = InType(f32_body, dtype);
      SCOPED_TRACE(body);
      StepRunner runner(body);
      bool has_tail = body.find("%y") != std::string::npos;
      runner.rtol = has_tail ? 4 * ulp : ulp;
      runner.atol = has_tail ? 40 * ulp : 2e-5;  // what is summed up is as large as 40
      for (bool channels_last : {false, true}) {
        if (channels_last) {
          runner.SetInputLayout(0, {0, 2, 3, 1});
          if (has_tail) runner.SetInputLayout(3, {0, 2, 3, 1});
          runner.SetOutputLayout({0, 2, 3, 1});
        }
        runner.constants = {};
        RunLayout(runner, GetParam());
        runner.constants = {1, 2, 4, 5};
        EXPECT_TRUE(RunLayout(runner, GetParam()) || GetParam() != "channels_last");
      }
    }
  }
}

TEST(ConvTest, RunsChannelsLastAsItLies) {
  StepRunner runner(Conv(kCases[1]));
  runner.rtol = runner.atol = 2e-5;
  runner.constants = {1};
  runner.SetInputLayout(0, {0, 2, 3, 1});
  runner.SetOutputLayout({0, 2, 3, 1});
  EXPECT_TRUE(RunLayout(runner, "given"));
}

// One chain of 2304 products is off by up to 4e-6 of the sums' root mean square.
TEST(ConvTest, RoundsLongSumsBlockByBlock) {
  StepRunner runner(Conv({.x = "[1, 256, 9, 9]", .w = "[32, 256, 3, 3]"}));
  runner.constants = {1};
  runner.SetInputLayout(0, {0, 2, 3, 1});
  runner.SetOutputLayout({0, 2, 3, 1});
  runner.rtol = 2e-6;
  runner.atol = runner.rtol * std::sqrt(2304);
  RunLayout(runner, "blocked");
}

// Without fused multiplication and addition, the products are rounded, too.
TEST(ConvTest, AddsLongSumsInTerms) {
  for (ConvCase c : {ConvCase{.x = "[1, 256, 9, 9]", .w = "[32, 256, 3, 3]"},
                     {.x = "[2, 256, 9, 10]", .w = "[17, 256, 3, 3]", .stride = "[2, 1]"},
                     {.x = "[1, 200, 9, 9]", .w = "[32, 200, 3, 3]"},
                     {.x = "[1, 1024, 1, 1]", .w = "[32, 1024, 1, 1]", .bias = 32},
                     {.x = "[3, 256, 9]", .w = "[32, 256, 5]", .stride = "[1]"},
                     {.x = "[1, 64, 4, 5, 6]", .w = "[32, 64, 3, 3, 3]", .stride = "[1, 1, 1]"}}) {
    if (c.stride.size() != 6) {
      c.padding = c.stride.size() > 6 ? "[1, 0, 1]" : "[2]";
      c.dilation = c.stride.size() > 6 ? "[1, 1, 1]" : "[1]";
    }
    for (const char* tail : {"", "  %y = relu(%0)\n", "  %y = silu(%0)\n"}) {
      c.tail = tail;
      SCOPED_TRACE(Conv(c));
      StepRunner runner(Conv(c));
      DimOrder last =
          ChannelsLastOrder(static_cast<int>(std::count(c.x.begin(), c.x.end(), ',')) + 1);
      runner.constants = {1};
      runner.rtol = 2.5e-6;
      runner.atol = runner.rtol * std::sqrt(2304);
      runner.SetOutputLayout(last);
      EXPECT_TRUE(RunLayout(runner, "terms"));
      runner.SetInputLayout(0, last);
      EXPECT_TRUE(RunLayout(runner, "terms"));
      runner.constants = {};
      EXPECT_TRUE(RunLayout(runner, "terms"));
      runner.constants = {1};
      runner.SetElement(0, 7, std::numeric_limits<float>::quiet_NaN());
      EXPECT_TRUE(RunLayout(runner, "terms"));
    }
  }
}

TEST(ConvTest, AddsShortSumsAsAWhole) {
  for (const ConvCase& c : {ConvCase{.x = "[1, 64, 9, 9]", .w = "[32, 64, 3, 3]"},
                            {.x = "[1, 16, 9, 9]", .w = "[32, 16, 6, 6]"},
                            {.x = "[1, 512, 9, 9]", .w = "[32, 256, 3, 3]", .groups = 2}}) {
    StepRunner runner(Conv(c));
    runner.constants = {1};
    runner.SetOutputLayout({0, 2, 3, 1});
    EXPECT_FALSE(RunLayout(runner, "terms"));
  }
}

TEST_P(ConvLayout, RunsDepthwiseSignals) {
  for (const char* dims : {"stride = [1], padding = [1], dilation = [1]",
                           "stride = [2], padding = [3], dilation = [2]"}) {
    for (bool transposed : {false, true}) {
      std::string size = dims[10] == '1' ? "19" : (transposed ? "35" : "11");
      std::string body = fmt::format(
          "graph @conv(%x: f32[2, 24, 19], %w: f32[24, 1, 3], %b: f32[24], %r: f32[2, 24, {0}]) "
          "{{\n  %0 = conv(%x, %w, %b) {{{1}, groups = 24, transposed = {2}, output_padding = "
          "[0]}} : f32[2, 24, {0}]\n  %1 = add(%0, %r)\n  %2 = silu(%1)\n  return %2\n}}",
          size, dims, transposed);
      SCOPED_TRACE(body);
      for (bool channels_last : {true, false}) {
        StepRunner runner(body);
        runner.rtol = runner.atol = 2e-5;
        if (channels_last) {
          for (int i : {0, 3}) runner.SetInputLayout(i, {0, 2, 1});
          runner.SetOutputLayout({0, 2, 1});
        }
        RunLayout(runner, GetParam());
        runner.constants = {1, 2};
        EXPECT_TRUE(RunLayout(runner, GetParam()) || GetParam() != "channels_last" || transposed);
      }
    }
  }
}

TEST(ConvTest, RunsExpandedOperands) {
  for (auto [input, dim] : {std::pair(0, 1), {0, 3}, {1, 0}, {1, 1}, {2, 0}, {3, 1}, {3, 2}}) {
    for (std::string_view layout : kConvLayouts) {
      SCOPED_TRACE(fmt::format("input {}, dim {}, {}", input, dim, layout));
      StepRunner runner(WithTail(kTails[3]));
      runner.rtol = runner.atol = 2e-5;
      runner.constants = {1, 2};
      runner.ExpandInput(input, dim);
      runner.attrs = {{"layout", std::string(layout)}};
      ASSERT_TRUE(runner.Load(PrepareConv));
      runner.RunAndCompare();
    }
  }
}

TEST(ConvTest, RunsEverySampleOfTheRow) {
  for (const SampleCase& sample : ExpandSamples(GetOp("conv"))) {
    Graph graph = MakeSampleGraph(sample);
    SCOPED_TRACE(PrintGraph(graph));
    StepRunner runner(PrintGraph(graph));
    if (sample.dtype == DType::kBFloat16) runner.rtol = 1e-2;
    if (sample.dtype == DType::kFloat16) runner.rtol = 2e-3;
    ASSERT_TRUE(runner.Load(PrepareConv));
    runner.RunAndCompare();
  }
}

TEST(ConvTest, PassesWithFewerInstructions) { RunSelfAtEveryIsa(); }

}  // namespace
}  // namespace stator
