// Every tactic on the gemm and conv kernels of the five models, batch 1, fp32: GFLOP/s, and as a
// share of the measured FMA peak. ONEDNN_MAX_CPU_ISA=AVX2 shows what a machine without AVX-512
// would do.
#include <functional>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "bench/fma_peak.h"
#include "cpu/build/cpu_tactics.h"
#include "test/unit/kernel_site.h"

namespace stator {
namespace {

struct Site {
  std::string name, kind, body;
  double flops;
};

// x[m, k] times w[k, n], a bias, and a chain of nodes on %1 that ends in %y.
Site Layer(const char* model, int m, int k, int n, const char* tail = "") {
  bool plain = *tail == '\0';
  return {.name = fmt::format("{} {}x{}x{}", model, m, k, n),
          .kind = "gemm",
          .body = fmt::format("graph @gemm(%x: f32[{0}, {1}], %w: f32[{1}, {2}], %b: f32[{2}]{3}) "
                              "{{\n  %0 = matmul(%x, %w)\n  %1 = add(%0, %b)\n{4}  return %{5}\n}}",
                              m, k, n,
                              std::string_view(tail).find("%r") != std::string_view::npos
                                  ? fmt::format(", %r: f32[{}, {}]", m, n)
                                  : "",
                              tail, plain ? "1" : "y"),
          .flops = 2.0 * m * k * n};
}

struct ConvShape {
  const char* model;
  int channels, size, out_channels, kernel, stride = 1, groups = 1;
  const char* op = "relu";
};

Site Conv(const ConvShape& s) {
  int padding = s.kernel / 2, out = (s.size + 2 * padding - s.kernel) / s.stride + 1;
  std::string type = fmt::format("f32[1, {0}, {1}, {1}]@0231", s.out_channels, out);
  return {.name = fmt::format("{} {}x{}x{} -> {} k{} s{} g{}", s.model, s.channels, s.size, s.size,
                              s.out_channels, s.kernel, s.stride, s.groups),
          .kind = "conv",
          .body = fmt::format(
              "graph @conv(%x: f32[1, {0}, {1}, {1}]@0231, %w: f32[{2}, {3}, {4}, {4}], "
              "%b: f32[{2}]) {{\n  %0 = conv(%x, %w, %b) {{stride = [{5}, {5}], padding = "
              "[{6}, {6}], dilation = [1, 1], groups = {7}, transposed = false, output_padding = "
              "[0, 0]}} : {8}\n  %1 = {9}(%0) : {8}\n  return %1\n}}",
              s.channels, s.size, s.out_channels, s.channels / s.groups, s.kernel, s.stride,
              padding, s.groups, type, s.op),
          .flops = 2.0 * out * out * s.out_channels * s.channels / s.groups * s.kernel * s.kernel};
}

const char* const kGelu = "  %y = gelu(%1)\n";
const char* const kGeluTanh = "  %y = gelu_tanh(%1)\n";
const char* const kResidual = "  %y = add(%1, %r)\n";

std::vector<Site> AllSites() {
  std::vector<Site> sites = {
      Layer("bert", 128, 768, 2304),
      Layer("bert", 128, 768, 768, kResidual),
      Layer("bert", 128, 768, 3072, kGelu),
      Layer("bert", 128, 3072, 768, kResidual),
      Layer("bert", 1, 768, 768),
      Layer("vit", 197, 768, 2304),
      Layer("vit", 197, 768, 768, kResidual),
      Layer("vit", 197, 768, 3072, kGelu),
      Layer("vit", 197, 3072, 768, kResidual),
      Layer("vit", 1, 768, 1000),
      Layer("gpt2", 64, 768, 2304),
      Layer("gpt2", 64, 768, 3072, kGeluTanh),
      Layer("gpt2", 64, 3072, 768, kResidual),
      Layer("gpt2", 64, 768, 50257),
      Layer("resnet", 1, 2048, 1000),
      Layer("mobilenet", 1, 960, 1280),
      Layer("mobilenet", 1, 1280, 1000),
      Layer("large", 1024, 1024, 1024),
  };
  for (const ConvShape& shape : std::initializer_list<ConvShape>{
           {"resnet", 3, 224, 64, 7, 2},
           {"resnet", 64, 56, 64, 1},
           {"resnet", 64, 56, 64, 3},
           {"resnet", 64, 56, 256, 1},
           {"resnet", 256, 56, 64, 1},
           {"resnet", 256, 56, 128, 1},
           {"resnet", 128, 56, 128, 3, 2},
           {"resnet", 128, 28, 512, 1},
           {"resnet", 256, 56, 512, 1, 2},
           {"resnet", 512, 28, 128, 1},
           {"resnet", 128, 28, 128, 3},
           {"resnet", 256, 28, 256, 3, 2},
           {"resnet", 256, 14, 1024, 1},
           {"resnet", 512, 28, 1024, 1, 2},
           {"resnet", 1024, 14, 256, 1},
           {"resnet", 256, 14, 256, 3},
           {"resnet", 512, 14, 512, 3, 2},
           {"resnet", 512, 7, 2048, 1},
           {"resnet", 1024, 14, 2048, 1, 2},
           {"resnet", 2048, 7, 512, 1},
           {"resnet", 512, 7, 512, 3},
           {"vit", 3, 224, 768, 16, 16},
           {"mobilenet", 3, 224, 16, 3, 2, 1, "hardswish"},
           {"mobilenet", 16, 112, 16, 3, 1, 16},
           {"mobilenet", 16, 112, 64, 1},
           {"mobilenet", 64, 112, 64, 3, 2, 64},
           {"mobilenet", 64, 56, 24, 1},
           {"mobilenet", 24, 56, 72, 1},
           {"mobilenet", 72, 56, 72, 5, 2, 72},
           {"mobilenet", 40, 28, 120, 1},
           {"mobilenet", 120, 28, 120, 5, 1, 120},
           {"mobilenet", 80, 14, 200, 1, 1, 1, "hardswish"},
           {"mobilenet", 672, 14, 672, 3, 1, 672, "hardswish"},
           {"mobilenet", 112, 14, 672, 1, 1, 1, "hardswish"},
           {"mobilenet", 960, 7, 960, 5, 1, 960, "hardswish"},
           {"mobilenet", 160, 7, 960, 1, 1, 1, "hardswish"},
           {"mobilenet", 120, 1, 32, 1},
       }) {
    sites.push_back(Conv(shape));
  }
  return sites;
}

void RunTactic(benchmark::State& state, const Site& site, const KernelSiteOwner& owner,
               const Tactic& tactic, double peak) {
  double best = 1e9;
  for (auto _ : state) {
    double seconds = GetCpuTactics().Measure(owner.site(), tactic);
    if (seconds > 1) {
      state.SkipWithError("cannot run");
      return;
    }
    best = std::min(best, seconds);
    state.SetIterationTime(seconds);
  }
  state.counters["GFLOP/s"] = site.flops / best * 1e-9;
  state.counters["peak%"] = site.flops / best * 1e-7 / peak;
}

void RegisterAll() {
  bool avx512 = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  double peak = MeasureFmaPeak(avx512);
  benchmark::AddCustomContext("FMA peak", fmt::format("{:.0f} GFLOP/s", peak));
  benchmark::AddCustomContext("tactics", GetCpuTactics().key());
  for (const Site& site : AllSites()) {
    std::set<int> weights = {1, 2};
    auto owner = std::make_shared<KernelSiteOwner>(site.kind, site.body, weights);
    for (const Tactic& tactic : GetCpuTactics().FindTactics(owner->site())) {
      std::string name = site.name + tactic.attrs.ToString();
      benchmark::RegisterBenchmark(
          name.c_str(),
          [=](benchmark::State& state) { RunTactic(state, site, *owner, tactic, peak); })
          ->UseManualTime()
          ->Iterations(3)
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
