// Adds nodes to a graph for a decomposition: each takes the origin of the node it spells out.
#pragma once

#include "ir/graph.h"
#include "ir/op_def.h"

namespace stator {

class Builder {
 public:
  Builder(Graph& graph, const Node& node) : graph_(graph), origin_(node.origin) {}

  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    NodeId id = graph_.AddNode(GetOp(op), std::move(inputs), std::move(attrs), origin_);
    return graph_.node(id).outputs[0];
  }

  const TensorType& type(ValueId value) const { return graph_.type(value); }
  ValueId Scalar(DType dtype, double value) { return AddScalar(graph_, dtype, value); }

  ValueId Cast(ValueId value, DType dtype) {
    return type(value).dtype == dtype ? value : Add("cast", {value}, {{"dtype", dtype}});
  }
  ValueId Reshape(ValueId value, Dims dims) {
    return type(value).dims == dims ? value : Add("reshape", {value}, {{"dims", std::move(dims)}});
  }
  // A reduction that keeps the reduced dims.
  ValueId Reduce(std::string_view op, ValueId value, Dims axes) {
    return Add(op, {value}, {{"axes", std::move(axes)}, {"keepdim", true}});
  }

 private:
  Graph& graph_;
  Origin origin_;
};

// What statistics of `dtype` are kept in: f32 for f16 and bf16, else the dtype itself.
inline DType StatisticsDType(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16 ? DType::kFloat32 : dtype;
}

}  // namespace stator
