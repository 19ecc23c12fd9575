// What a gemm or conv kernel computes, as a library can be asked for it: an anchor, then a chain of
// pointwise nodes.
//
// In:  a kernel's body.
// Out: its matmul or conv node, and each node behind it with its second operand.
// Invariant: the chain starts at the anchor's result, each node reads the one before it, and the
// last one's result is the body's only output.
#pragma once

#include <optional>
#include <vector>

#include "ir/graph.h"
#include "ir/op_def.h"

namespace stator {

struct EpilogueOp {
  const Node* node = nullptr;
  int chain = 0;                 // which of the node's inputs is the chain
  int input = -1;                // the other one, among the body's inputs; -1: none or a number
  std::optional<double> number;  // the other one, when it is a number
  bool per_channel = false;      // whether `input` holds one element per channel of the output

  bool Is(std::string_view op) const { return node->op->name == op; }
};

struct Epilogue {
  const Node* anchor = nullptr;
  std::vector<int> operands;  // of the anchor, among the body's inputs; -1: absent
  std::vector<EpilogueOp> ops;
  DType anchor_dtype = DType::kFloat32;  // of the anchor's result
  DType dtype = DType::kFloat32;         // of the body's output
};

// Empty when the body is no anchor (an op named `anchor`) and chain of this form. Second operands
// are numbers, or have the output's dims, or one element per channel (dim 1 of a conv, the last of
// a matmul).
std::optional<Epilogue> FindEpilogue(const Graph& body, std::string_view anchor);

}  // namespace stator
