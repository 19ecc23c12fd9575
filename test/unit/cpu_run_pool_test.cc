// PreparePool against the reference kernels: the ops' samples and wider shapes, in every layout and
// at every SIMD level of the machine, with NaN and infinities.
#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ops/samples.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

void CheckBody(const Graph& body, Layout input_layout, Layout output_layout, bool special) {
  SCOPED_TRACE(body.type(body.inputs()[0]).ToString());
  std::mt19937 random(11);
  const TensorType& type = body.type(body.inputs()[0]);
  HostTensor x = MakeInLayout(type.dtype, EvalDims(type.dims, {}), input_layout);
  FillRandom(x.ref, random, special);
  CheckStep(PreparePool, body, {x.ref}, output_layout);
}

void CheckText(std::string_view x, std::string_view node) {
  Graph body =
      ParseGraph(fmt::format("graph @body(%x: {}) {{\n  %0 = {}\n  return %0\n}}\n", x, node));
  for (Layout layout : kLayouts) {
    CheckBody(body, layout, layout, false);
    CheckBody(body, layout, Layout::kDense, true);
  }
}

TEST(Pool, SamplesInEveryDTypeAndLayout) {
  ForEachSimdTarget([] {
    for (const char* op : {"max_pool", "max_pool_indices", "avg_pool", "adaptive_avg_pool"}) {
      for (const SampleCase& sample : ExpandSamples(GetOp(op))) {
        for (Layout layout : kLayouts) {
          SCOPED_TRACE(op);
          CheckBody(MakeSampleGraph(sample), layout, Layout::kDense, false);
          CheckBody(MakeSampleGraph(sample), layout, layout, true);
        }
      }
    }
  });
}

TEST(Pool, SlidingWindows) {
  ForEachSimdTarget([] {
    for (const char* dims : {"f32[2, 2, 9, 41]", "f32[1, 260, 6, 5]"}) {
      for (const char* window : {"kernel = [3, 3], stride = [2, 2], padding = [1, 1]",
                                 "kernel = [3, 2], stride = [1, 1], padding = [1, 0]",
                                 "kernel = [2, 4], stride = [3, 3], padding = [0, 2]",
                                 "kernel = [7, 7], stride = [2, 2], padding = [3, 3]"}) {
        for (bool ceil_mode : {false, true}) {
          CheckText(dims, fmt::format("max_pool(%x) {{{}, dilation = [1, 1], ceil_mode = {}}}",
                                      window, ceil_mode));
          for (bool include : {false, true}) {
            CheckText(dims, fmt::format("avg_pool(%x) {{{}, ceil_mode = {}, count_include_pad = "
                                        "{}, divisor_override = {}}}",
                                        window, ceil_mode, include, include ? 0 : 3));
          }
        }
      }
    }
  });
}

TEST(Pool, DilatedWindows) {
  ForEachSimdTarget([] {
    for (const char* window : {"kernel = [3, 3], stride = [1, 1], padding = [2, 2]",
                               "kernel = [2, 3], stride = [2, 2], padding = [0, 1]"}) {
      CheckText("f32[2, 20, 21, 38]",
                fmt::format("max_pool(%x) {{{}, dilation = [2, 2], ceil_mode = true}}", window));
    }
  });
}

TEST(Pool, OneAndThreeSpatialDims) {
  ForEachSimdTarget([] {
    CheckText("f32[2, 3, 50]",
              "max_pool(%x) {kernel = [3], stride = [2], padding = [1], dilation = [1], "
              "ceil_mode = false}");
    CheckText("f32[2, 3, 5, 6, 40]",
              "avg_pool(%x) {kernel = [2, 3, 3], stride = [1, 2, 2], padding = [1, 0, 1], "
              "ceil_mode = true, count_include_pad = true, divisor_override = 0}");
  });
}

TEST(Pool, AdaptiveAverage) {
  ForEachSimdTarget([] {
    for (const char* size : {"[1, 1]", "[3, 5]", "[7, 7]", "[20, 1]", "[0, 2]"}) {
      CheckText("f32[1, 260, 7, 7]",
                fmt::format("adaptive_avg_pool(%x) {{output_size = {}}}", size));
      CheckText("f32[1, 3, 13, 50]",
                fmt::format("adaptive_avg_pool(%x) {{output_size = {}}}", size));
    }
  });
}

}  // namespace
}  // namespace stator
