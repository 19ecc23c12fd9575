// Bodies of one node, which most structured kernels have.
//
// In:  a kernel's body. Out: its node, and which of the step's inputs is which operand (a value
// that is read twice is one input).
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/op_def.h"

namespace stator {

struct OneNode {
  const Node* node = nullptr;  // of the body
  std::vector<int> operands;   // the node's inputs, as positions among the body's; -1: absent
};

// Empty unless the body is one node of an op in `ops` that reads the body's inputs alone and whose
// only output is the body's.
std::optional<OneNode> FindOneNode(const Graph& body, std::initializer_list<std::string_view> ops);

}  // namespace stator
