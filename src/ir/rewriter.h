// The only way to edit a Graph.
//
// In:  a graph, and optionally a fuel counter that bounds the number of edits (bisection of a bad
//      rewrite: STATOR_FUEL, see docs/debugging.md).
// Out: the edited graph, and how many edits were made.
// Invariant: after each call the graph verifies, except that dead nodes may remain (DCE removes
// them). New nodes are placed before the node at the insertion point and inherit its origin.
#pragma once

#include <string>

#include "ir/graph.h"
#include "ir/op_def.h"

namespace stator {

// How many more rewrites may be made; negative means no bound.
struct Fuel {
  int64_t left = -1;
  std::string last;  // once none is left: the node at which the last rewrite was made
};

class Rewriter {
 public:
  explicit Rewriter(Graph& graph, Fuel* fuel = nullptr) : graph_(graph), fuel_(fuel) {}

  Graph& graph() { return graph_; }
  int64_t num_rewrites() const { return num_rewrites_; }
  bool changed() const { return num_rewrites_ > 0; }

  // Asks for one rewrite; false when the fuel is spent. Call it once per logical rewrite, before
  // the first edit, and edit nothing when it answers false.
  bool Start();

  // New nodes go before `node` (an invalid id: to the end) and take its origin.
  void SetInsertionPoint(NodeId node);

  // Adds a single-output node at the insertion point, its type inferred.
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {});
  NodeId AddNode(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                 std::vector<TensorType> types);

  // Every use of `from`, graph outputs included, becomes a use of `to`; the types must agree in
  // dtype and dims. The name of `from` moves to `to` when `to` has none.
  void ReplaceUses(ValueId from, ValueId to);
  void SetInput(NodeId node, int index, ValueId value);
  void SetAttr(NodeId node, std::string_view name, Attr attr);
  void SetOrder(ValueId value, DimOrder order);
  // Moves `node` before `next`.
  void MoveBefore(NodeId node, NodeId next);
  // Removes a node whose outputs have no uses.
  void Erase(NodeId node);

 private:
  Graph& graph_;
  Fuel* fuel_;
  NodeId point_;
  int64_t num_rewrites_ = 0;
};

}  // namespace stator
