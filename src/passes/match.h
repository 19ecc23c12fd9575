// Questions that the left sides of rules ask about a graph, and the loop that applies rules.
//
// Invariant: a weight is never looked into; only literals have elements here.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "ir/rewriter.h"

namespace stator {

// ---- questions
// The node that makes `value` if its op has this name, else null.
const Node* FindNode(const Graph& graph, ValueId value, std::string_view op);
// The one element of a literal whose elements are all equal, seen through views; else empty.
std::optional<double> FindScalar(const Graph& graph, ValueId value);
bool IsScalar(const Graph& graph, ValueId value, double number);
// How often nodes and the graph's outputs read the value.
int CountUses(const Graph& graph, ValueId value);
// Whether the value is a constant or a view of one, or computed from such alone.
bool IsConstantValue(const Graph& graph, ValueId value);
// The order of the value's dims in memory, seen through views that leave no gaps: empty for
// row-major. None where views tell no order.
std::optional<DimOrder> FindMemoryOrder(const Graph& graph, ValueId value);
// One operand of a binary node is the literal `number`: the other operand; else invalid.
ValueId FindOther(const Graph& graph, const Node& node, double number);

// ---- rules
// Tries to rewrite `node`, which is the insertion point and has one output. Answers the value that
// takes the place of that output, or an invalid id when the left side does not match or the fuel is
// spent. A rule calls Rewriter::Start itself, after it matched and before it edits.
using RuleFn = ValueId (*)(Rewriter& rewriter, const Node& node);

struct Rule {
  std::string_view op;  // the op whose nodes it rewrites; empty: any
  RuleFn fn;
};

// Applies the rules to every node in order until none matches, and erases what nobody reads any
// more. Answers whether anything changed.
bool ApplyRules(Rewriter& rewriter, std::span<const Rule> rules);

// Erases the node if nobody reads its outputs, then its producers likewise. Part of the rewrite
// that took the last use away: asks for no fuel.
void EraseIfDead(Rewriter& rewriter, NodeId node);

}  // namespace stator
