// Graph to text. Printing is canonical: equal graphs give equal text, and its hash is a cache key.
//
//   graph @mlp(%x: f16[s0, 768]) where s0 in [1, 64] {
//     weight %w0: f16[768, 3072] = "fc.weight"
//     literal %c0: f16[] = [0.5]
//     %0 = matmul(%x, %w0) : f16[s0, 3072]                    // addmm_3 · model.py:41
//     %1 = gelu(%0) : f16[s0, 3072]
//     return %1
//   }
//
// Weights are named %w0.. and literals %c0.. in order of first use, node outputs %0.. in node
// order; unused constants are not printed. Inputs keep their names. A literal of more than 16
// elements shows its content as hex bytes, or as "hash" of them when `literal_bytes` is off.
#pragma once

#include <string>

#include "ir/graph.h"

namespace stator {

struct PrintOptions {
  bool origins = true;        // trailing "// name · file:line"
  bool literal_bytes = true;  // all bytes of literals (readable back), else their hash
};

std::string PrintGraph(const Graph& graph, const PrintOptions& options = {});
// One node, as in PrintGraph but without its body: "%1 = gelu(%0) : f16[4]"; values by their
// position.
std::string DescribeNode(const Graph& graph, const Node& node);

}  // namespace stator
