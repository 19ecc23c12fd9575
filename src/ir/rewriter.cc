#include "ir/rewriter.h"

#include "base/error.h"
#include "ir/print.h"

namespace stator {

bool Rewriter::Start() {
  if (fuel_ != nullptr && fuel_->left >= 0) {
    if (fuel_->left == 0) return false;
    if (--fuel_->left == 0 && point_.valid()) {
      fuel_->last = DescribeNode(graph_, graph_.node(point_));
    }
  }
  ++num_rewrites_;
  return true;
}

void Rewriter::SetInsertionPoint(NodeId node) { point_ = node; }

ValueId Rewriter::Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
  NodeId id = graph_.AddNode(GetOp(op), std::move(inputs), std::move(attrs),
                             point_.valid() ? graph_.node(point_).origin : Origin{});
  MoveBefore(id, point_);
  STATOR_CHECK(graph_.node(id).outputs.size() == 1, "op {} has several outputs", op);
  return graph_.node(id).outputs[0];
}

NodeId Rewriter::AddNode(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                         std::vector<TensorType> types) {
  NodeId id = graph_.AddNodeWithTypes(op, std::move(inputs), std::move(attrs), std::move(types),
                                      point_.valid() ? graph_.node(point_).origin : Origin{});
  MoveBefore(id, point_);
  return id;
}

void Rewriter::ReplaceUses(ValueId from, ValueId to) {
  const TensorType& old_type = graph_.type(from);
  const TensorType& new_type = graph_.type(to);
  STATOR_CHECK(old_type.dtype == new_type.dtype && old_type.dims == new_type.dims,
               "a use of {} cannot become a use of {}", old_type.ToString(), new_type.ToString());
  for (NodeId id = graph_.first_; id.valid(); id = graph_.node(id).next) {
    for (ValueId& input : graph_.nodes_[id.index].inputs) {
      if (input == from) input = to;
    }
  }
  for (ValueId& output : graph_.outputs_) {
    if (output == from) output = to;
  }
  Value& replacement = graph_.values_[to.index];
  if (replacement.kind == ValueKind::kNode && replacement.name.empty()) {
    replacement.name = graph_.value(from).name;
  }
}

void Rewriter::SetInput(NodeId node, int index, ValueId value) {
  graph_.nodes_[node.index].inputs[index] = value;
}

void Rewriter::SetAttr(NodeId node, std::string_view name, Attr attr) {
  graph_.nodes_[node.index].attrs.Set(name, std::move(attr));
}

void Rewriter::SetOrder(ValueId value, DimOrder order) {
  graph_.values_[value.index].type.order = CanonicalOrder(std::move(order));
}

void Rewriter::MoveBefore(NodeId node, NodeId next) {
  graph_.Unlink(node);
  graph_.LinkBefore(node, next);
}

void Rewriter::Erase(NodeId node) {
  graph_.Unlink(node);
  graph_.nodes_[node.index].erased = true;
}

}  // namespace stator
