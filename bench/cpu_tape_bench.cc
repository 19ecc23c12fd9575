// Steps of the CPU engine's own kernels at the sizes the demo models have, beside a memcpy.
//
// Each case reports the bytes of its operands per second; `Memcpy` moves as many bytes as a case
// with one input and one output of its size, and bounds what a step that computes little can reach.
//
// Found on one Zen 4 core (AVX-512), OMP_NUM_THREADS=1: memcpy 80 GB/s from cache, add+relu 69,
// layer_norm with its residual 48, NCHW to NHWC 56; those are bound by memory. gelu with its
// residual takes 7.9 ns per vector of 16, gelu_tanh 6.8 and softmax with scale and mask 9.0: bound
// by arithmetic.
#include <cstring>
#include <random>

#include <benchmark/benchmark.h>

#include "cpu/run/step.h"
#include "ir/parse.h"
#include "ops/tensor.h"

namespace stator {
namespace {

using PrepareFn = std::unique_ptr<PreparedStep> (*)(const StepSite& site);

// A step with its operands, dense in the orders that the body's types say.
class BoundStep {
 public:
  BoundStep(PrepareFn prepare, std::string_view text) {
    StepSite site{.step = &step_, .body = ParseGraph(text)};
    for (ValueId id : site.body.inputs()) AddTensor(site.body.type(id), site.inputs);
    for (ValueId id : site.body.outputs()) AddTensor(site.body.type(id), site.outputs);
    Finish(prepare, std::move(site));
  }

  // A copy from one type to another of the same dims.
  BoundStep(std::string_view from, std::string_view to) {
    StepSite site{.step = &step_};
    AddTensor(ParseType(from), site.inputs);
    AddTensor(ParseType(to), site.outputs);
    Finish(PrepareCopy, std::move(site));
  }

  void Measure(benchmark::State& state) {
    size_t num_inputs = pointers_.size() - num_outputs_;
    uintptr_t address = reinterpret_cast<uintptr_t>(ws_.data());
    StepArgs args{.inputs = pointers_.data(),
                  .outputs = pointers_.data() + num_inputs,
                  .ws = ws_.data() + (64 - address % 64) % 64};
    for (auto _ : state) prepared_->Run(args);
    state.SetBytesProcessed(state.iterations() * num_bytes_);
  }

 private:
  void AddTensor(const TensorType& type, std::vector<TensorRef>& refs) {
    HostTensor& tensor = tensors_.emplace_back(MakeHostTensor(type));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < tensor.ref.num_elements(); ++i) {
      Data<float>(tensor.ref)[i] = normal(random);
    }
    refs.push_back(tensor.ref);
    pointers_.push_back(tensor.ref.data);
    num_bytes_ += static_cast<int64_t>(tensor.storage.size());
  }

  void Finish(PrepareFn prepare, StepSite site) {
    num_outputs_ = site.outputs.size();
    for (auto* refs : {&site.inputs, &site.outputs}) {
      for (TensorRef& ref : *refs) ref.data = nullptr;
    }
    prepared_ = prepare(site);
    ws_.resize(prepared_->ws_bytes() + 64);
  }

  Step step_;
  std::vector<HostTensor> tensors_;
  std::vector<std::byte*> pointers_;
  size_t num_outputs_ = 0;
  int64_t num_bytes_ = 0;
  std::unique_ptr<PreparedStep> prepared_;
  std::vector<std::byte> ws_;
};

void Memcpy(benchmark::State& state) {
  std::vector<std::byte> from(state.range(0)), to(state.range(0));
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 2 * state.range(0));
}
BENCHMARK(Memcpy)->Arg(64 * 56 * 56 * 4)->Arg(128 * 3072 * 4)->UseRealTime();

void Run(benchmark::State& state, PrepareFn prepare, std::string_view text) {
  BoundStep(prepare, text).Measure(state);
}
void Copy(benchmark::State& state, std::string_view from, std::string_view to) {
  BoundStep(from, to).Measure(state);
}
#define STATOR_BENCH(name, prepare, text) \
  BENCHMARK_CAPTURE(Run, name, prepare, text)->UseRealTime();
#define STATOR_COPY_BENCH(name, from, to) BENCHMARK_CAPTURE(Copy, name, from, to)->UseRealTime();

STATOR_BENCH(gelu_residual_128x3072, PreparePointwise, R"(
graph @g(%x: f32[128, 3072], %r: f32[128, 3072]) {
  %0 = gelu(%x)
  %1 = add(%0, %r)
  return %1
})")
STATOR_BENCH(gelu_tanh_128x3072, PreparePointwise, R"(
graph @g(%x: f32[128, 3072]) {
  %0 = gelu_tanh(%x)
  return %0
})")
STATOR_BENCH(add_relu_1x64x56x56, PreparePointwise, R"(
graph @g(%x: f32[1, 64, 56, 56]@0231, %y: f32[1, 64, 56, 56]@0231) {
  %0 = add(%x, %y) : f32[1, 64, 56, 56]@0231
  %1 = relu(%0) : f32[1, 64, 56, 56]@0231
  return %1
})")
STATOR_BENCH(hardswish_1x16x112x112, PreparePointwise, R"(
graph @g(%x: f32[1, 16, 112, 112]@0231) {
  %0 = hardswish(%x) : f32[1, 16, 112, 112]@0231
  return %0
})")
STATOR_BENCH(scale_channels_nhwc_1x72x28x28, PreparePointwise, R"(
graph @g(%x: f32[1, 72, 28, 28]@0231, %s: f32[1, 72, 1, 1]) {
  %0 = hardsigmoid(%s)
  %1 = mul(%x, %0) : f32[1, 72, 28, 28]@0231
  return %1
})")
STATOR_BENCH(scale_channels_nchw_1x72x28x28, PreparePointwise, R"(
graph @g(%x: f32[1, 72, 28, 28], %s: f32[1, 72, 1, 1]) {
  %0 = mul(%x, %s)
  return %0
})")
STATOR_BENCH(softmax_12x128x128, PrepareRowwise, R"(
graph @g(%x: f32[1, 12, 128, 128], %mask: f32[1, 1, 1, 128]) {
  literal %c0: f32[] = [0.125]
  %0 = mul(%x, %c0)
  %1 = add(%0, %mask)
  %2 = softmax(%1) {axis = 3}
  return %2
})")
STATOR_BENCH(layer_norm_128x768, PrepareRowwise, R"(
graph @g(%x: f32[1, 128, 768], %r: f32[1, 128, 768], %w: f32[768], %b: f32[768]) {
  %0 = add(%x, %r)
  %1 = layer_norm(%0, %w, %b) {eps = 1e-12, num_dims = 1}
  return %0, %1
})")
STATOR_BENCH(mean_nhwc_1x960x7x7, PrepareReduce, R"(
graph @g(%x: f32[1, 960, 7, 7]@0231) {
  %0 = mean(%x) {axes = [2, 3], keepdim = true}
  return %0
})")
STATOR_BENCH(mean_nchw_1x960x7x7, PrepareReduce, R"(
graph @g(%x: f32[1, 960, 7, 7]) {
  %0 = mean(%x) {axes = [2, 3], keepdim = true}
  return %0
})")
STATOR_BENCH(mean_nhwc_1x120x28x28, PrepareReduce, R"(
graph @g(%x: f32[1, 120, 28, 28]@0231) {
  %0 = mean(%x) {axes = [2, 3], keepdim = true}
  return %0
})")
STATOR_BENCH(sum_all_1x64x56x56, PrepareReduce, R"(
graph @g(%x: f32[1, 64, 56, 56]) {
  %0 = sum(%x) {axes = [0, 1, 2, 3], keepdim = false}
  return %0
})")
STATOR_BENCH(add_transposed_512x512, PreparePointwise, R"(
graph @g(%x: f32[512, 512], %y: f32[512, 512]@10) {
  %0 = add(%x, %y)
  return %0
})")
STATOR_COPY_BENCH(nchw_to_nhwc_1x64x56x56, "f32[1, 64, 56, 56]", "f32[1, 64, 56, 56]@0231")
STATOR_COPY_BENCH(nhwc_to_nchw_1x64x56x56, "f32[1, 64, 56, 56]@0231", "f32[1, 64, 56, 56]")
STATOR_COPY_BENCH(nchw_to_nhwc_1x3x224x224, "f32[1, 3, 224, 224]", "f32[1, 3, 224, 224]@0231")
STATOR_COPY_BENCH(heads_1x12x128x64, "f32[1, 12, 128, 64]@0213", "f32[1, 12, 128, 64]")
STATOR_COPY_BENCH(transpose_12x128x64, "f32[12, 128, 64]", "f32[12, 128, 64]@021")

}  // namespace
}  // namespace stator
