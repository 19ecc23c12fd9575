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

// Runs `plan` on `inputs`; outputs have the layout that the plan asks for.
inline std::vector<HostTensor> RunPlan(std::shared_ptr<const Plan> plan, Device& device,
                                       std::span<const TensorRef> inputs) {
  Context context(Engine::Load(std::move(plan), device));
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

// Compiles `graph` without measuring and compares the engine's outputs with the evaluator's.
inline void ExpectEngineComputes(const Graph& graph, Device& device,
                                 std::span<const TensorRef> inputs, const Bounds& bounds = {}) {
  SymbolValues symbols = SmallSymbols(graph);
  std::vector<HostTensor> expected = EvaluateGraph(graph, inputs, symbols);
  std::shared_ptr<const Plan> plan = CompileGraph(graph, {.optimization_level = 0});
  std::vector<HostTensor> found = RunPlan(plan, device, inputs);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_TRUE(IsClose(found[i].ref, expected[i].ref, bounds))
        << "output " << i << " on " << device.name() << " of\n"
        << PrintGraph(graph) << PlanToText(*plan);
  }
}

// The same on random inputs.
inline void ExpectEngineComputes(const Graph& graph, Device& device, unsigned seed = 1,
                                 const Bounds& bounds = {}) {
  std::mt19937 rng(seed);
  std::vector<HostTensor> inputs;
  std::vector<TensorRef> refs;
  for (ValueId id : graph.inputs()) {
    inputs.push_back(RandomTensor(graph.type(id), SmallSymbols(graph), rng));
    refs.push_back(inputs.back().ref);
  }
  ExpectEngineComputes(graph, device, refs, bounds);
}

}  // namespace stator
