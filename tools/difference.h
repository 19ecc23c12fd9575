// Whether what we make of a graph computes what its reference kernels compute.
//
// In:  a graph, a seed that decides the content of its inputs and of weights without data
//      (ops/draw.h), the layout of the inputs, and which tactics the engine takes.
// Out: the first difference, in words; empty when there is none.
// Invariant: a difference is one by the bounds of tools/judge.h; a graph with symbols is compared
//            at several of their values, those at which the reference kernels fail left out.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ops/tensor.h"

namespace stator {

enum class Comparison {
  kPasses,  // all passes against none, both by the reference kernels
  kEngine,  // the whole line from passes to the CPU engine against the reference kernels
};

struct DifferenceStats {
  int64_t num_elements = 0;
  int64_t num_unbounded = 0;  // of them, those that nothing could be said of
  int64_t num_runs = 0;       // of the graph, at different sizes
};

// Computes outputs from inputs at some values of the graph's symbols.
using ComputeFn = std::function<std::vector<HostTensor>(std::span<const TensorRef> inputs,
                                                        const SymbolValues& symbols)>;

// Compares `compute` with the reference kernels. Errors that it raises are differences.
std::string FindDifferenceOf(const Graph& graph, uint64_t seed, const ComputeFn& compute,
                             DifferenceStats* stats = nullptr);

std::string FindDifference(const Graph& graph, Comparison comparison, uint64_t seed,
                           DifferenceStats* stats = nullptr);

// Values of the graph's symbols to compare at, the typical ones first.
std::vector<SymbolValues> SymbolCases(const Graph& graph, uint64_t seed);

}  // namespace stator
