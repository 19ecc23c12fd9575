// The graph: what every stage from import to fuse reads and writes.
//
// A Graph holds values, nodes and constants in vectors and names them by typed ids. It is SSA: each
// value is an input, a constant, or one output of one node; nodes are linked in an order in which
// every value is defined before it is used (Verify checks it). A Graph knows neither devices nor
// torch. Edits go through a Rewriter (ir/rewriter.h); the Add functions below only build.
//
// A node may carry bodies: a `kernel` node carries the Graph it computes, so the KernelGraph of the
// fuse stage is a Graph as well and shares its text form, parser and verifier.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "ir/attr.h"
#include "ir/type.h"

namespace stator {

using ValueId = Id<struct ValueTag>;
using NodeId = Id<struct NodeTag>;

struct OpDef;  // ir/op_def.h

// Where a node came from: its name in the user's FX graph and the line that made it.
struct Origin {
  std::string name;      // "addmm_3", or empty
  std::string location;  // "model.py:41", or empty
  std::string ToString() const;
};

// Bytes of a constant, kept alive by `owner` (a torch tensor, a file map, a vector).
struct ConstantData {
  static constexpr int kHost = -1;

  const std::byte* bytes = nullptr;
  size_t size = 0;
  std::shared_ptr<const void> owner;
  int device = kHost;  // the ordinal of the CUDA device where it lies; a literal is the host's
};

enum class ValueKind : uint8_t {
  kInput,
  kWeight,   // a constant that the user owns, by name; may be refitted
  kLiteral,  // a constant that the graph owns
  kNode,     // an output of a node
};

struct Value {
  TensorType type;
  ValueKind kind = ValueKind::kNode;
  NodeId producer;       // kNode only
  int output_index = 0;  // kNode only
  // The input's or weight's own name ("x", "layer1.0.conv1.weight"); for node outputs the FX name
  // under which torch parts refer to it, or empty.
  std::string name;
  ConstantData data;  // constants only; a weight parsed from text has none
};

struct Node {
  const OpDef* op = nullptr;
  std::vector<ValueId> inputs;  // an invalid id is an absent optional input
  std::vector<ValueId> outputs;
  Attrs attrs;
  std::shared_ptr<const class Graph> body;  // what a `kernel` node computes; else null
  Origin origin;
  NodeId previous, next;  // the graph's order
  bool erased = false;
};

struct SymbolRange {
  std::string name;
  int64_t min = 0;
  int64_t max = 0;
};

class Graph {
 public:
  std::string name = "main";
  std::vector<SymbolRange> symbols;  // sorted by name

  // ---- reading
  const Value& value(ValueId id) const { return values_[id.index]; }
  const Node& node(NodeId id) const { return nodes_[id.index]; }
  const TensorType& type(ValueId id) const { return values_[id.index].type; }
  const Node* FindProducer(ValueId id) const;  // null for inputs and constants
  bool IsConstant(ValueId id) const;

  std::span<const ValueId> inputs() const { return inputs_; }
  std::span<const ValueId> outputs() const { return outputs_; }
  std::span<const ValueId> constants() const { return constants_; }  // in order of creation
  int num_values() const { return static_cast<int>(values_.size()); }
  int num_node_slots() const { return static_cast<int>(nodes_.size()); }  // erased ones included
  NodeId first_node() const { return first_; }
  std::vector<NodeId> nodes() const;  // in order, erased ones excluded
  // For each value, the nodes that read it, once per read, in order.
  std::vector<std::vector<NodeId>> uses() const;

  // ---- building
  ValueId AddInput(std::string_view name, TensorType type);
  ValueId AddWeight(std::string_view name, TensorType type, ConstantData data = {});
  ValueId AddLiteral(TensorType type, ConstantData data);
  // Appends a node whose output types the op's rule infers; raises InvalidArgument, naming the
  // node, when the rule or the schema rejects it.
  NodeId AddNode(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs = {},
                 Origin origin = {});
  // Appends a node with given output types (opaque `torch` nodes, kernels, parsed text).
  NodeId AddNodeWithTypes(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                          std::vector<TensorType> types, Origin origin = {});
  void SetOutputs(std::vector<ValueId> outputs) { outputs_ = std::move(outputs); }

  Value& mutable_value(ValueId id) { return values_[id.index]; }
  Node& mutable_node(NodeId id) { return nodes_[id.index]; }

 private:
  friend class Rewriter;
  ValueId AddValue(Value value);
  void LinkBefore(NodeId id, NodeId next);  // invalid `next` appends
  void Unlink(NodeId id);

  std::deque<Value> values_;  // deques: references stay valid while a graph grows
  std::deque<Node> nodes_;
  std::vector<ValueId> inputs_, outputs_, constants_;
  NodeId first_, last_;
};

// Literal data owned by the graph. `values` are converted to `type.dtype`; one value fills the
// tensor. Needs static dims.
ValueId AddLiteral(Graph& graph, TensorType type, std::span<const double> values);
ValueId AddScalar(Graph& graph, DType dtype, double value);
ConstantData MakeConstantData(std::vector<std::byte> bytes);

// The single element of a constant whose elements are all equal (a scalar, or a splat of at most
// 4096 elements); empty otherwise, and for constants without data.
std::optional<double> FindSplat(const Graph& graph, ValueId id);

// The symbols in types and attributes, of bodies too. Graph::symbols may name more.
std::set<std::string> FindSymbols(const Graph& graph);

// Renumbers: copies live nodes in order, drops erased ones and unused constants.
Graph Compact(const Graph& graph);

}  // namespace stator
