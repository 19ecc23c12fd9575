// Random graphs drawn from the op table.
//
// In:  a seed, which decides everything.
// Out: a graph that verifies. kAnyOp: every row of the table, on every dtype that it takes, with
//      broadcasting, sizes of 0 and 1, views, symbolic sizes, several outputs. kModel: float32
//      in the manner of models alone (products with weights, convolutions with batch norm, norms,
//      attention), of static sizes, which takes any inputs.
// Invariant: a graph of kAnyOp can be evaluated on ops/draw.h's content of the same seed, with
//            symbols of 2, and few of its values are out of the ordinary there: each node is
//            evaluated when it is drawn, and left out when it fails or makes too large numbers.
#pragma once

#include <cstdint>

#include "ir/graph.h"

namespace stator {

enum class GraphKind { kModel, kAnyOp };

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t seed, GraphKind kind = GraphKind::kModel)
      : seed_(seed), kind_(kind) {}
  Graph Make();

 private:
  uint64_t seed_;
  GraphKind kind_;
};

}  // namespace stator
