// The reference evaluator: runs a graph by its ops' reference kernels, one node after the other.
//
// In:  a graph that verifies, tensors for its inputs (any strides), and values of its symbols.
// Out: the graph's outputs, laid out as their types say.
// Invariant: it is plain and slow, and right: constants are folded with it and engines are tested
// against it.
#pragma once

#include <span>
#include <vector>

#include "ir/graph.h"
#include "ops/tensor.h"

namespace stator {

// The values of the graph's symbols that the inputs' sizes give. Raises InvalidArgument when there
// are too few or too many inputs.
SymbolValues BindSymbols(const Graph& graph, std::span<const TensorRef> inputs);

// The attributes with every symbolic size replaced by its value.
Attrs ResolveAttrs(const Attrs& attrs, const SymbolValues& symbols);

// The graph with every symbol replaced by its value.
void ResolveSymbols(Graph& graph, const SymbolValues& symbols);

// Runs one node, its body if it has one. `inputs` are the node's, null data for an absent one.
// Raises Unsupported for a node that is left to torch.
std::vector<HostTensor> EvaluateNode(const Graph& graph, const Node& node,
                                     std::span<const TensorRef> inputs,
                                     const SymbolValues& symbols = {});

// Symbols without a value in `symbols` take theirs from the inputs. Raises InvalidArgument for
// inputs that do not fit, and for a weight without data.
std::vector<HostTensor> EvaluateGraph(const Graph& graph, std::span<const TensorRef> inputs,
                                      const SymbolValues& symbols = {});

}  // namespace stator
