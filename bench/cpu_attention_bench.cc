// The attention step on heads of a merged QKV projection, fp32: GFLOP/s of its two products in the
// fastest run, and as a share of the measured FMA peak. A causal one counts half of the products.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "bench/fma_peak.h"
#include "cpu/run/step.h"
#include "cpu/simd/simd_target.h"
#include "ir/parse.h"
#include "ops/tensor.h"

// After simd_target.h, which says which targets there are.
#include <hwy/highway.h>

namespace stator {
namespace {

struct Shape {
  const char* name;
  int heads, queries, keys, width;
  bool causal = false;
};

constexpr Shape kShapes[] = {
    {"vit", 12, 197, 197, 64},          {"bert", 12, 128, 128, 64},
    {"gpt2", 12, 128, 128, 64, true},   {"long", 12, 1024, 1024, 64},
    {"long", 12, 1024, 1024, 64, true}, {"wide", 8, 512, 512, 128},
    {"narrow", 8, 1024, 1024, 40},      {"decode", 12, 1, 1024, 64},
};

// The step and its memory.
class Attention {
 public:
  explicit Attention(const Shape& shape)
      : queries_(MakeProjection(shape.queries, shape)), keys_(MakeProjection(shape.keys, shape)) {
    site_.step = &step_;
    site_.body =
        ParseGraph(fmt::format("graph @b(%q: f32[1, {0}, {1}, {3}], %k: f32[1, {0}, {2}, {3}], "
                               "%v: f32[1, {0}, {2}, {3}]) {{\n  %0 = attention(%q, %k, %v) "
                               "{{causal = {4}, scale = 0.125}}\n  return %0\n}}\n",
                               shape.heads, shape.queries, shape.keys, shape.width, shape.causal));
    site_.inputs = {Heads(queries_, 0), Heads(keys_, 1), Heads(keys_, 2)};
    output_ = MakeHostTensor(DType::kFloat32, {shape.queries, 1, shape.heads, shape.width});
    site_.outputs = {Heads(output_, 0)};
    prepared_ = PrepareAttention(site_);
    ws_.reset(static_cast<std::byte*>(std::aligned_alloc(64, prepared_->ws_bytes() + 64)));
    for (const TensorRef& input : site_.inputs) pointers_.push_back(input.data);
  }

  void Run() const {
    prepared_->Run(
        {.inputs = pointers_.data(), .outputs = &site_.outputs[0].data, .ws = ws_.get()});
  }

 private:
  // [length, 3, heads, width], filled with small numbers.
  static HostTensor MakeProjection(int length, const Shape& shape) {
    HostTensor tensor = MakeHostTensor(DType::kFloat32, {length, 3, shape.heads, shape.width});
    for (int64_t i = 0; i < tensor.ref.num_elements(); ++i) {
      Data<float>(tensor.ref)[i] = static_cast<float>(i * 7919 % 1000) / 500.0f - 1.0f;
    }
    return tensor;
  }

  // Part `part` of a projection as [1, heads, length, width].
  static TensorRef Heads(const HostTensor& projection, int part) {
    const Sizes &dims = projection.ref.dims, &strides = projection.ref.strides;
    return {.data = projection.ref.data + part * strides[1] * sizeof(float),
            .dims = {1, dims[2], dims[0], dims[3]},
            .strides = {0, strides[2], strides[0], 1}};
  }

  struct FreeWs {
    void operator()(std::byte* ws) const { std::free(ws); }
  };

  HostTensor queries_, keys_, output_;
  Step step_;
  StepSite site_;
  std::unique_ptr<PreparedStep> prepared_;
  std::unique_ptr<std::byte, FreeWs> ws_;
  std::vector<std::byte*> pointers_;
};

void RunShape(benchmark::State& state, const Shape& shape, int64_t target, double peak) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  Attention attention(shape);
  double best = 1e9;
  for (auto _ : state) {
    auto start = std::chrono::steady_clock::now();
    attention.Run();
    std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    state.SetIterationTime(elapsed.count());
    best = std::min(best, elapsed.count());
  }
  double flops = 4.0 * shape.heads * shape.queries * shape.keys * shape.width;
  if (shape.causal) flops /= 2;
  state.counters["GFLOP/s"] = flops / best * 1e-9;
  state.counters["peak%"] = flops / best * 1e-7 / peak;
}

void RegisterAll() {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (target == HWY_SCALAR) continue;
    double peak = MeasureFmaPeak(target == HWY_AVX3);
    benchmark::AddCustomContext(fmt::format("FMA peak {}", hwy::TargetName(target)),
                                fmt::format("{:.0f} GFLOP/s", peak));
    for (const Shape& shape : kShapes) {
      std::string name =
          fmt::format("{} {}x{}x{}x{}{} {}", shape.name, shape.heads, shape.queries, shape.keys,
                      shape.width, shape.causal ? " causal" : "", hwy::TargetName(target));
      benchmark::RegisterBenchmark(
          name.c_str(), [=](benchmark::State& state) { RunShape(state, shape, target, peak); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace
}  // namespace stator

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  stator::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
}
