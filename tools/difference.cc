#include "tools/difference.h"

#include <algorithm>
#include <memory>
#include <random>
#include <set>

#include "base/error.h"
#include "compile/compile.h"
#include "ops/draw.h"
#include "ops/evaluate.h"
#include "passes/pipeline.h"
#include "tools/judge.h"
#include "tools/session.h"

namespace stator {
namespace {

// The same content with dims in another order in memory and gaps between the elements.
HostTensor MakeStrided(const TensorRef& tensor) {
  Sizes dims(tensor.dims.rbegin(), tensor.dims.rend());
  dims.push_back(2);
  HostTensor strided = MakeHostTensor(tensor.dtype, dims);
  Sizes strides(strided.ref.strides.rbegin() + 1, strided.ref.strides.rend());
  strided.ref.dims = tensor.dims;
  strided.ref.strides = strides;
  CopyTensor(tensor, strided.ref);
  return strided;
}

// Whether no input has a negative size, such as s0 - 1, there.
bool HasSizes(const Graph& graph, const SymbolValues& symbols) {
  return std::all_of(graph.inputs().begin(), graph.inputs().end(), [&](ValueId id) {
    std::vector<int64_t> dims = EvalDims(graph.type(id).dims, symbols);
    return std::all_of(dims.begin(), dims.end(), [](int64_t size) { return size >= 0; });
  });
}

ComputeFn MakePassed(const Graph& graph) {
  auto passed = std::make_shared<Graph>(graph);
  RunPasses(*passed, AllPasses());
  return [passed](std::span<const TensorRef> inputs, const SymbolValues& symbols) {
    return EvaluateGraph(*passed, inputs, symbols);
  };
}

ComputeFn MakeEngine(const Graph& graph, uint64_t seed) {
  CompileOptions options{.optimization_level = 0, .tactic_seed = seed + 1};
  auto session = std::make_shared<Session>(*CompileGraph(graph, options));
  return [session, seed](std::span<const TensorRef> inputs, const SymbolValues&) {
    std::vector<TensorRef> given(inputs.begin(), inputs.end());
    std::vector<HostTensor> strided;
    for (size_t i = 0; i < given.size(); ++i) {
      if ((seed >> (i % 8)) % 4 != 1) continue;
      strided.push_back(MakeStrided(given[i]));
      given[i] = strided.back().ref;
    }
    std::vector<HostTensor> outputs = session->MakeOutputs(given);
    session->Call(given, outputs);
    return outputs;
  };
}

}  // namespace

std::vector<SymbolValues> SymbolCases(const Graph& graph, uint64_t seed) {
  std::vector<SymbolValues> cases = {ChooseSymbols(graph.symbols)};
  if (graph.symbols.empty()) return cases;
  std::mt19937_64 random(seed);
  cases.emplace_back();
  for (const SymbolRange& symbol : graph.symbols) cases.back()[symbol.name] = symbol.min;
  for (int64_t limit : {9, 70}) {
    cases.emplace_back();
    for (const SymbolRange& symbol : graph.symbols) {
      auto span = static_cast<uint64_t>(std::min(symbol.max, limit) - symbol.min + 1);
      cases.back()[symbol.name] = symbol.min + static_cast<int64_t>(random() % span);
    }
  }
  return cases;
}

std::string FindDifferenceOf(const Graph& graph, uint64_t seed, const ComputeFn& compute,
                             DifferenceStats* stats) {
  for (const SymbolValues& symbols : SymbolCases(graph, seed)) {
    if (!HasSizes(graph, symbols)) continue;
    std::vector<HostTensor> inputs = DrawInputs(graph, symbols, seed);
    std::vector<TensorRef> refs = Refs(inputs);
    std::unique_ptr<Judge> judge;
    try {
      judge = std::make_unique<Judge>(graph, refs, symbols);
    } catch (const Error&) {
      continue;  // an index out of range, sizes that do not fit: nothing to compare
    }
    std::string difference;
    try {
      std::vector<HostTensor> found = compute(refs, symbols);
      difference = judge->FindDifference(Refs(found));
    } catch (const std::exception& error) {
      difference = error.what();
    }
    if (stats != nullptr) {
      stats->num_elements += judge->num_elements();
      stats->num_unbounded += judge->num_unbounded();
      ++stats->num_runs;
    }
    if (difference.empty()) continue;
    for (const auto& [name, value] : symbols) difference += fmt::format(", {} = {}", name, value);
    return difference;
  }
  return "";
}

std::string FindDifference(const Graph& given, Comparison comparison, uint64_t seed,
                           DifferenceStats* stats) {
  Graph graph = given;
  DrawWeights(graph, seed);
  ComputeFn compute;
  try {
    compute = comparison == Comparison::kPasses ? MakePassed(graph) : MakeEngine(graph, seed);
  } catch (const std::exception& error) {
    return error.what();
  }
  return FindDifferenceOf(graph, seed, compute, stats);
}

}  // namespace stator
