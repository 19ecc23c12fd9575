// Checks an engine against the reference evaluator: a graph is compiled, loaded on a given device,
// run, and compared element by element.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "compile/compile.h"
#include "ir/print.h"
#include "passes_random_graph.h"
#include "runtime/engine.h"

namespace stator {

struct Bounds {
  double rtol = 1e-4, atol = 1e-5;
};

// Runs an engine; outputs have the layout that the plan asks for.
inline std::vector<HostTensor> RunEngine(std::shared_ptr<Engine> engine,
                                         std::span<const TensorRef> inputs) {
  Context context(std::move(engine));
  std::vector<HostTensor> outputs;
  std::vector<std::byte*> data;
  for (const TensorRef& ref : context.Prepare(inputs)) {
    int64_t extent = 1;
    for (int d = 0; d < ref.rank(); ++d) extent += (ref.dims[d] - 1) * ref.strides[d];
    outputs.push_back(MakeHostTensor(ref.dtype, {std::max<int64_t>(extent, 0)}));
    outputs.back().ref.dims = ref.dims;
    outputs.back().ref.strides = ref.strides;
    data.push_back(outputs.back().ref.data);
  }
  context.Run(inputs, data);
  return outputs;
}

inline std::vector<HostTensor> RunPlan(std::shared_ptr<const Plan> plan, Device& device,
                                       std::span<const TensorRef> inputs) {
  return RunEngine(Engine::Load(std::move(plan), device), inputs);
}

// Tensors of the graph's inputs' types with random content.
inline std::vector<HostTensor> RandomInputs(const Graph& graph, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<HostTensor> inputs;
  for (ValueId id : graph.inputs()) {
    inputs.push_back(RandomTensor(graph.type(id), SmallSymbols(graph), rng));
  }
  return inputs;
}

inline std::vector<TensorRef> Refs(const std::vector<HostTensor>& tensors) {
  std::vector<TensorRef> refs;
  for (const HostTensor& tensor : tensors) refs.push_back(tensor.ref);
  return refs;
}

inline ::testing::AssertionResult IsClose(const TensorRef& found, const TensorRef& expected,
                                          const Bounds& bounds) {
  if (found.dtype != expected.dtype || found.dims != expected.dims) {
    return ::testing::AssertionFailure() << "another dtype or other dims";
  }
  int64_t position = 0;
  std::string wrong;
  ForEachOffset<2>(found.dims, {found.strides, expected.strides}, [&](const auto& at) {
    double x = ElementAt(found, at[0]), y = ElementAt(expected, at[1]);
    bool close = x == y || (std::isnan(x) && std::isnan(y)) ||
                 std::abs(x - y) <= bounds.atol + bounds.rtol * std::abs(y);
    if (!close && wrong.empty()) {
      wrong = fmt::format("element {} is {}, expected {}", position, x, y);
    }
    ++position;
  });
  if (wrong.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << wrong;
}

// Runs an engine of `graph` and compares its outputs with the evaluator's.
inline void ExpectComputes(const std::shared_ptr<Engine>& engine, const Graph& graph,
                           std::span<const TensorRef> inputs, const Bounds& bounds) {
  std::vector<HostTensor> expected = EvaluateGraph(graph, inputs, SmallSymbols(graph));
  std::vector<HostTensor> found = RunEngine(engine, inputs);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_TRUE(IsClose(found[i].ref, expected[i].ref, bounds))
        << "output " << i << " on " << engine->device().name() << " of\n"
        << PrintGraph(graph) << PlanToText(engine->plan());
  }
}

// Compiles `graph` without measuring and compares the engine's outputs with the evaluator's.
inline void ExpectEngineComputes(const Graph& graph, Device& device,
                                 std::span<const TensorRef> inputs, const Bounds& bounds = {}) {
  std::shared_ptr<const Plan> plan = CompileGraph(graph, {.optimization_level = 0});
  ExpectComputes(Engine::Load(plan, device), graph, inputs, bounds);
}

// The same on random inputs.
inline void ExpectEngineComputes(const Graph& graph, Device& device, unsigned seed = 1,
                                 const Bounds& bounds = {}) {
  std::vector<HostTensor> inputs = RandomInputs(graph, seed);
  ExpectEngineComputes(graph, device, Refs(inputs), bounds);
}

}  // namespace stator
