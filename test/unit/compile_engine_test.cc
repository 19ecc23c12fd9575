// The whole line against the reference evaluator: random graphs, every sample of every op, and
// graphs at the edges, each compiled and run on the reference device and on the CPU engine.
#include <gtest/gtest.h>

#include "base/error.h"
#include "engine_check.h"
#include "ir/parse.h"
#include "ops/samples.h"
#include "reference_device.h"

namespace stator {
namespace {

ReferenceDevice reference_device;

class CompiledEngine : public ::testing::TestWithParam<Device*> {
 protected:
  Device& device() { return *GetParam(); }

  void Expect(std::string_view text) {
    Graph graph = ParseGraph(text);
    FillWeights(graph, 3);
    ExpectEngineComputes(graph, device());
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, CompiledEngine,
                         ::testing::Values(&reference_device, &CpuDevice()),
                         [](const auto& info) { return std::string(info.param->name()); });

TEST_P(CompiledEngine, ComputesRandomGraphs) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    ExpectEngineComputes(MakeModelGraph(seed), device(), seed, {.rtol = 1e-3, .atol = 1e-3});
    if (HasFatalFailure()) return;
  }
}

// Changes every weight of a graph: in place, or by new data at another address.
void ChangeWeights(Graph& graph, Engine& engine, bool in_place) {
  for (ValueId id : graph.constants()) {
    Value& value = graph.mutable_value(id);
    if (value.kind != ValueKind::kWeight) continue;
    if (!in_place) {
      value.data = MakeConstantData({value.data.bytes, value.data.bytes + value.data.size});
      const std::vector<PlanWeight>& used = engine.plan().weights;
      bool is_used = std::any_of(used.begin(), used.end(), [&](const PlanWeight& weight) {
        return weight.name == value.name;
      });
      if (is_used) engine.SetWeight(value.name, value.data);
    }
    auto* elements = reinterpret_cast<float*>(const_cast<std::byte*>(value.data.bytes));
    for (size_t i = 0; i < value.data.size / sizeof(float); ++i) elements[i] *= 1.25f;
  }
}

TEST_P(CompiledEngine, FollowsItsWeights) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    Graph graph = MakeModelGraph(seed);
    std::vector<HostTensor> inputs = RandomInputs(graph, seed);
    Bounds bounds{.rtol = 1e-3, .atol = 1e-3};
    std::shared_ptr<const Plan> plan = CompileGraph(graph, {.optimization_level = 0});
    std::shared_ptr<Engine> engine = Engine::Load(plan, device());
    ExpectComputes(engine, graph, Refs(inputs), bounds);
    for (bool in_place : {true, false, true}) {
      ChangeWeights(graph, *engine, in_place);
      EXPECT_EQ(engine->RefitIfChanged(), !plan->weights.empty());
      ExpectComputes(engine, graph, Refs(inputs), bounds);
      if (HasFatalFailure()) return;
    }
  }
}

// Integer operands in the range that the sample gives; floats as RandomTensor.
HostTensor SampleInput(const SampleCase& sample, const TensorType& type, std::mt19937& rng) {
  HostTensor tensor = RandomTensor(type, {}, rng);
  if (!IsInteger(type.dtype) || sample.low == sample.high) return tensor;
  DispatchDType(type.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      for (int64_t i = 0; i < tensor.ref.num_elements(); ++i) {
        int64_t range = sample.high - sample.low;
        Data<T>(tensor.ref)[i] =
            static_cast<T>(sample.low + static_cast<int64_t>(rng() % static_cast<uint64_t>(range)));
      }
    }
  });
  return tensor;
}

Bounds BoundsFor(const SampleCase& sample) {
  // Half types round once per kernel: one unit in the last place, as torch.testing allows.
  Bounds bounds{.rtol = sample.op->tolerance.rtol * 4, .atol = sample.op->tolerance.atol * 4};
  for (const TensorType& type : sample.outputs) {
    if (type.dtype == DType::kFloat16) bounds.rtol = std::max(bounds.rtol, 1e-3);
    if (type.dtype == DType::kBFloat16) bounds.rtol = std::max(bounds.rtol, 1.6e-2);
  }
  return bounds;
}

TEST_P(CompiledEngine, ComputesEverySampleOfEveryOp) {
  std::mt19937 rng(2);
  for (const OpDef* op : AllOps()) {
    if (op->reference == nullptr || op->Is(kKernel) || op->Is(kOpaque)) continue;
    for (const SampleCase& sample : ExpandSamples(*op)) {
      Graph graph = MakeSampleGraph(sample);
      SCOPED_TRACE(PrintGraph(graph));
      std::vector<HostTensor> inputs;
      std::vector<TensorRef> refs;
      for (ValueId id : graph.inputs()) {
        inputs.push_back(SampleInput(sample, graph.type(id), rng));
        refs.push_back(inputs.back().ref);
      }
      ExpectEngineComputes(graph, device(), refs, BoundsFor(sample));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(CompiledEngine, PassesInputsThrough) {
  Expect(R"(graph @g(%x: f32[2, 3], %y: i64[4]) {
    return %x, %y, %x
  })");
}

TEST_P(CompiledEngine, ReturnsViewsOfInputs) {
  Expect(R"(graph @g(%x: f32[2, 3]) {
    %0 = permute(%x) {perm = [1, 0]}
    %1 = reshape(%0) {dims = [6]}
    %2 = expand(%x) {dims = [4, 2, 3]}
    %3 = slice(%x) {dim = 1, start = 1, end = 3, step = 2}
    return %0, %1, %2, %3, %0
  })");
}

TEST_P(CompiledEngine, ReturnsConstants) {
  Expect(R"(graph @g(%x: f32[2, 3]) {
    weight %w: f32[3, 2] = "w"
    literal %c: f32[4] = [1, 2, 3, 4]
    %0 = permute(%w) {perm = [1, 0]}
    %1 = exp(%w)
    return %w, %c, %0, %1, %w
  })");
}

TEST_P(CompiledEngine, RepeatsOutputs) {
  Expect(R"(graph @g(%x: f32[2, 3]) {
    %0 = exp(%x)
    %1 = reshape(%0) {dims = [6]}
    %2 = permute(%0) {perm = [1, 0]}
    %3 = neg(%0)
    return %0, %0, %1, %2, %3
  })");
}

TEST_P(CompiledEngine, ComputesNothing) {
  Expect(R"(graph @g() {
    return
  })");
  Expect(R"(graph @g(%x: f32[2, 3]) {
    return
  })");
  Expect(R"(graph @g(%x: f32[2, 3]) {
    %0 = exp(%x)
    return
  })");
}

TEST_P(CompiledEngine, ComputesWithoutInputs) {
  Expect(R"(graph @g() {
    weight %w: f32[3, 2] = "w"
    %0 = exp(%w)
    return %0
  })");
}

TEST_P(CompiledEngine, ComputesTensorsWithoutElements) {
  Expect(R"(graph @g(%x: f32[0, 3], %y: f32[2, 3]) {
    weight %w: f32[0] = "w"
    %0 = exp(%x)
    %1 = concat(%0, %y) {dim = 0}
    %2 = sum(%0) {axes = [0], keepdim = false}
    %3 = permute(%0) {perm = [1, 0]}
    %4 = matmul(%3, %0)
    return %0, %1, %2, %4, %w
  })");
}

TEST_P(CompiledEngine, ComputesScalars) {
  Expect(R"(graph @g(%x: f32[], %y: f32[1, 1]) {
    %0 = exp(%x)
    %1 = add(%0, %y)
    %2 = sum(%1) {axes = [0, 1], keepdim = false}
    return %0, %1, %2
  })");
}

// A buffer that the program updates: its old content comes in, its new content goes out.
TEST_P(CompiledEngine, UpdatesStateThatItReturnsAsWell) {
  Expect(R"(graph @g(%count: i64[], %mean: f32[3], %x: f32[2, 3]) {
    literal %one: i64[] = [1]
    %0 = add(%count, %one)
    %1 = mean(%x) {axes = [0], keepdim = false}
    %2 = add(%mean, %1)
    %3 = sub(%x, %mean)
    return %0, %2, %3, %2
  })");
}

TEST_P(CompiledEngine, ComputesSymbolicGraphs) {
  Graph graph =
      ParseGraph(R"(graph @g(%x: f32[s0, 4], %y: f32[s0, s1]) where s0 in [1, 9], s1 in [2, 5] {
    weight %w: f32[4, 3] = "w"
    %0 = matmul(%x, %w)
    %1 = softmax(%0) {axis = 1}
    %2 = concat(%1, %y) {dim = 1}
    %3 = reshape(%2) {dims = [s0*s1 + 3*s0]}
    %4 = exp(%3)
    return %4, %2
  })");
  FillWeights(graph, 3);
  ExpectEngineComputes(graph, device());
}

TEST(CompileGraph, CompilesItsOwnTextAtEachStage) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    Graph graph = MakeModelGraph(seed);
    CompileOptions options{.optimization_level = 0};
    std::string whole = CompileGraphUntil(graph, options, "emit");
    Graph passed = ParseGraph(CompileGraphUntil(graph, options, "passes"));
    options.start_at = "fuse";
    std::string fused = CompileGraphUntil(passed, options, "fuse");
    Graph kernels = ParseGraph(fused);
    options.start_at = "emit";
    std::string late = CompileGraphUntil(kernels, options, "emit");
    // Weights that came from text have no data, which the plan's text shows; all else is equal.
    Plan expected = PlanFromText(whole);
    for (PlanWeight& weight : expected.weights) weight.data = {};
    EXPECT_EQ(late, PlanToText(expected)) << "seed " << seed;
    if (HasFailure()) return;
  }
}

TEST(CompileGraph, TimesEachStage) {
  std::vector<StageTime> stages;
  CompileGraph(MakeModelGraph(1), {.optimization_level = 0}, &stages);
  std::vector<std::string> names;
  for (const StageTime& stage : stages) {
    names.push_back(stage.name);
    EXPECT_GT(stage.ms, 0);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"passes", "fuse", "place", "select", "emit"}));
}

TEST(CompileGraph, RejectsStagesThatAreNone) {
  EXPECT_THROW(CompileGraphUntil(MakeModelGraph(1), {}, "fusion"), Error);
  EXPECT_THROW(CompileGraph(MakeModelGraph(1), {.start_at = "fusion"}), Error);
  EXPECT_THROW(CompileGraphUntil(MakeModelGraph(1), {.start_at = "fuse"}, "passes"), Error);
}

}  // namespace
}  // namespace stator
