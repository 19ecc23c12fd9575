#include "ir/epilogue.h"

#include <algorithm>

namespace stator {
namespace {

class Finder {
 public:
  explicit Finder(const Graph& body) : body_(body) {}

  std::optional<Epilogue> Run(std::string_view anchor) {
    std::vector<NodeId> nodes = body_.nodes();
    if (nodes.empty() || body_.outputs().size() != 1) return std::nullopt;
    Epilogue epilogue{.anchor = &body_.node(nodes[0])};
    if (epilogue.anchor->op->name != anchor) return std::nullopt;
    for (ValueId input : epilogue.anchor->inputs) {
      epilogue.operands.push_back(input.valid() ? FindInput(input) : -1);
      if (input.valid() && epilogue.operands.back() < 0) return std::nullopt;
    }
    chain_ = epilogue.anchor->outputs[0];
    out_ = &body_.type(chain_);
    channel_dim_ = anchor == "conv" ? 1 : out_->rank() - 1;
    epilogue.anchor_dtype = out_->dtype;
    for (size_t i = 1; i < nodes.size(); ++i) {
      std::optional<EpilogueOp> op = FindOp(body_.node(nodes[i]));
      if (!op) return std::nullopt;
      epilogue.ops.push_back(*op);
      chain_ = op->node->outputs[0];
    }
    epilogue.dtype = body_.type(chain_).dtype;
    return body_.outputs()[0] == chain_ ? std::optional(epilogue) : std::nullopt;
  }

 private:
  int FindInput(ValueId value) const {
    auto it = std::find(body_.inputs().begin(), body_.inputs().end(), value);
    return it == body_.inputs().end() ? -1 : static_cast<int>(it - body_.inputs().begin());
  }

  std::optional<EpilogueOp> FindOp(const Node& node) const {
    bool fits = node.op->Is(kPointwise) && node.outputs.size() == 1 &&
                body_.type(node.outputs[0]).dims == out_->dims;
    if (!fits || node.inputs.empty() || node.inputs.size() > 2) return std::nullopt;
    EpilogueOp op{.node = &node};
    if (node.inputs.size() == 1) {
      return node.inputs[0] == chain_ ? std::optional(op) : std::nullopt;
    }
    op.chain = node.inputs[0] == chain_ ? 0 : 1;
    ValueId other = node.inputs[1 - op.chain];
    if (node.inputs[op.chain] != chain_ || other == chain_ || !other.valid()) return std::nullopt;
    op.number = FindSplat(body_, other);
    if (op.number) return op;
    op.input = FindInput(other);
    op.per_channel = body_.type(other).dims != out_->dims;
    if (op.input < 0 || (op.per_channel && !IsPerChannel(body_.type(other)))) return std::nullopt;
    return op;
  }

  // Whether all of the operand's dims are 1 but the one that meets the output's channels.
  bool IsPerChannel(const TensorType& operand) const {
    int skipped = out_->rank() - operand.rank();
    if (channel_dim_ < skipped) return false;
    for (int i = 0; i < operand.rank(); ++i) {
      const Dim& expected = i + skipped == channel_dim_ ? out_->dims[channel_dim_] : Dim(1);
      if (!(operand.dims[i] == expected)) return false;
    }
    return true;
  }

  const Graph& body_;
  const TensorType* out_ = nullptr;
  int channel_dim_ = 0;
  ValueId chain_;
};

}  // namespace

std::optional<Epilogue> FindEpilogue(const Graph& body, std::string_view anchor) {
  return Finder(body).Run(anchor);
}

}  // namespace stator
