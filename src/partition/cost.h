// Cost: what it takes to run nodes in an engine or in torch, estimated.
//
// In:  nodes, the sizes to estimate for, and which nodes the engine runs slowly.
// Out: nanoseconds per call on one core, good enough to compare: no choice hangs on a factor of
// two. The figures were measured on an AVX-512 Xeon, as the least of many calls of small tensors
// (calls and ops) and of 64 Ki elements (reference kernels): an engine's call 1.6 us and 0.2 us for
// each further input or output, a torch part's call 2.3 us and 2 us for each of its ops; a
// reference kernel 5 (cumsum), 7 (gather) or 9 ns (scatter) per element, and 0.4 ns per
// multiplication of a float64 product, more than torch's.
#pragma once

#include <functional>
#include <span>

#include "base/dim.h"
#include "ir/graph.h"

namespace stator {

struct CostModel {
  // Whether the engine has no more than an op's reference kernel for a node.
  std::function<bool(const Graph& graph, const Node& node)> is_reference;
  // By symbol; others count as 32.
  SymbolValues sizes;
};

// How much longer the engine takes for a node than torch.
double EstimateLoss(const CostModel& model, const Graph& graph, const Node& node);
// From this loss on a node is better left to torch, although that parts the engine in two and keeps
// what is around the node from being fused.
inline constexpr double kMinLoss = 20'000;

// Torch's time for a node, as part of a graph of others.
double EstimateTorch(const CostModel& model, const Graph& graph, const Node& node);
// The time for an engine of its own between torch's nodes: the call with its `num_ports` inputs and
// outputs, and, if it parts what torch would run in one, the call of another torch part.
double EstimateBoundary(int num_ports, bool parts_torch);

}  // namespace stator
