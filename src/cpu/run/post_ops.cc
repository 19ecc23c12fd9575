#include "cpu/run/post_ops.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "cpu/run/exact_step.h"
#include "ir/op_def.h"
#include "ops/tensor.h"

namespace stator {
namespace {

using Algorithm = dnnl::algorithm;

struct EltwiseRow {
  std::string_view op;
  dnnl::algorithm algorithm;
  float alpha, beta;
  bool is_exact;
};

// Ops without attributes. Formulas of the algorithms: oneDNN's documentation, "Eltwise".
constexpr EltwiseRow kEltwise[] = {
    {"relu", Algorithm::eltwise_relu, 0, 0, false},  // relu(NaN) = 0
    {"sigmoid", Algorithm::eltwise_logistic, 0, 0, true},
    {"silu", Algorithm::eltwise_swish, 1, 0, true},
    {"gelu", Algorithm::eltwise_gelu_erf, 0, 0, false},  // gelu(inf) = NaN
    {"gelu_tanh", Algorithm::eltwise_gelu_tanh, 0, 0, true},
    {"tanh", Algorithm::eltwise_tanh, 0, 0, true},
    {"hardsigmoid", Algorithm::eltwise_hardsigmoid, 1.0f / 6, 0.5f, false},  // of NaN: 1
    {"hardswish", Algorithm::eltwise_hardswish, 1.0f / 6, 0.5f, true},
    {"abs", Algorithm::eltwise_abs, 0, 0, true},
    {"square", Algorithm::eltwise_square, 0, 0, true},
    {"sqrt", Algorithm::eltwise_sqrt, 0, 0, true},
    {"neg", Algorithm::eltwise_linear, -1, 0, true},
};

std::optional<PostOp> FindEltwise(const Node& node) {
  for (const EltwiseRow& row : kEltwise) {
    if (row.op == node.op->name) {
      return PostOp{.algorithm = row.algorithm,
                    .alpha = row.alpha,
                    .beta = row.beta,
                    .is_exact = row.is_exact};
    }
  }
  auto attr = [&](std::string_view name) { return static_cast<float>(node.attrs.GetFloat(name)); };
  if (node.op->name == "leaky_relu" && attr("slope") != 0) {
    return PostOp{.algorithm = Algorithm::eltwise_relu, .alpha = attr("slope")};
  }
  if (node.op->name == "elu") {
    return PostOp{.algorithm = Algorithm::eltwise_elu, .alpha = attr("alpha")};
  }
  if (node.op->name == "hardtanh" && attr("min") <= attr("max")) {
    return PostOp{.algorithm = Algorithm::eltwise_clip,
                  .alpha = attr("min"),
                  .beta = attr("max"),
                  .is_exact = false};
  }
  return std::nullopt;
}

// An eltwise post-op that is not exact needs a processor that tells when it mattered.
std::optional<PostOp> FindUnary(const Node& node) {
  std::optional<PostOp> post_op = FindEltwise(node);
  return post_op && (post_op->is_exact || HasInvalidFlag()) ? post_op : std::nullopt;
}

// y = alpha * a + beta for a node with one operand a number; `chain` is the other's position.
std::optional<PostOp> FindLinear(std::string_view op, int chain, float number) {
  auto linear = [](float alpha, float beta) {
    return PostOp{.algorithm = Algorithm::eltwise_linear, .alpha = alpha, .beta = beta};
  };
  if (op == "add") return linear(1, number);
  if (op == "mul") return linear(number, 0);
  if (op == "sub") return chain == 0 ? linear(1, -number) : linear(-1, number);
  // A power of two has an exact reciprocal; others would be one rounding off.
  int exponent;
  bool exact = std::fabs(std::frexp(number, &exponent)) == 0.5f && std::isnormal(1 / number);
  if (op == "div" && chain == 0 && exact) return linear(1 / number, 0);
  return std::nullopt;
}

std::optional<Algorithm> FindBinary(std::string_view op, int chain) {
  if (op == "add") return Algorithm::binary_add;
  if (op == "mul") return Algorithm::binary_mul;
  if (op == "sub" && chain == 0) return Algorithm::binary_sub;
  if (op == "div" && chain == 0) return Algorithm::binary_div;
  return std::nullopt;
}

// The same dims in f32, dense and row-major.
dnnl::memory::desc DenseDesc(const dnnl::memory::desc& desc) {
  dnnl::memory::dims dims = desc.get_dims();
  return MakeDesc(DType::kFloat32, dims, DenseStrides(dims));
}

class Finder {
 public:
  explicit Finder(const Graph& body) : body_(body) {}

  std::optional<FusedBody> Run() {
    std::vector<NodeId> nodes = body_.nodes();
    if (nodes.empty() || body_.outputs().size() != 1) return std::nullopt;
    FusedBody fused{.anchor = &body_.node(nodes[0])};
    std::string_view op = fused.anchor->op->name;
    if (op != "matmul" && op != "conv") return std::nullopt;
    for (ValueId input : fused.anchor->inputs) {
      fused.operands.push_back(input.valid() ? FindInput(input) : -1);
      if (input.valid() && fused.operands.back() < 0) return std::nullopt;
    }
    out_ = &body_.type(fused.anchor->outputs[0]);
    channel_dim_ = ChannelDim(*fused.anchor, out_->rank());
    chain_ = fused.anchor->outputs[0];
    for (size_t i = 1; i < nodes.size(); ++i) {
      std::optional<PostOp> post_op = FindPostOp(body_.node(nodes[i]));
      if (!post_op) return std::nullopt;
      fused.post_ops.push_back(*post_op);
      chain_ = body_.node(nodes[i]).outputs[0];
    }
    return body_.outputs()[0] == chain_ ? std::optional(fused) : std::nullopt;
  }

 private:
  int FindInput(ValueId value) const {
    auto it = std::find(body_.inputs().begin(), body_.inputs().end(), value);
    return it == body_.inputs().end() ? -1 : static_cast<int>(it - body_.inputs().begin());
  }

  std::optional<PostOp> FindPostOp(const Node& node) const {
    const TensorType& type = body_.type(node.outputs[0]);
    bool fits = type.dims == out_->dims && type.dtype == DType::kFloat32 &&
                out_->dtype == DType::kFloat32 && node.inputs.size() <= 2;
    if (!fits) return std::nullopt;
    if (node.inputs.size() == 1) {
      return node.inputs[0] == chain_ ? FindUnary(node) : std::nullopt;
    }
    int chain = node.inputs[0] == chain_ ? 0 : 1;
    ValueId other = node.inputs[1 - chain];
    if (node.inputs[chain] != chain_ || other == chain_) return std::nullopt;
    if (std::optional<double> number = FindSplat(body_, other)) {
      return FindLinear(node.op->name, chain, static_cast<float>(*number));
    }
    std::optional<Algorithm> binary = FindBinary(node.op->name, chain);
    PostOp post_op{.input = FindInput(other)};
    const TensorType& operand = body_.type(other);
    bool full = operand.dims == out_->dims;
    post_op.per_channel = !full;
    if (!binary || post_op.input < 0 || operand.dtype != DType::kFloat32) return std::nullopt;
    if (!full && !IsPerChannel(operand)) return std::nullopt;
    post_op.algorithm = *binary;
    return post_op;
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

int ChannelDim(const Node& anchor, int rank) { return anchor.op->name == "conv" ? 1 : rank - 1; }

void AddPostOps(const StepSite& site, const FusedBody& fused, size_t first,
                std::span<const dnnl::memory::desc> given, const dnnl::memory::desc& out,
                Fusion& fusion) {
  for (size_t i = first; i < fused.post_ops.size(); ++i) {
    const PostOp& post_op = fused.post_ops[i];
    if (!post_op.is_binary()) {
      fusion.post_ops.append_eltwise(post_op.algorithm, post_op.alpha, post_op.beta);
      continue;
    }
    int arg = DNNL_ARG_ATTR_MULTIPLE_POST_OP(static_cast<int>(i - first)) | DNNL_ARG_SRC_1;
    fusion.post_ops.append_binary(post_op.algorithm,
                                  post_op.per_channel ? DenseDesc(given[i]) : out);
    fusion.post_op_arguments.push_back(
        {.arg = arg, .operand = MakeInput(site, post_op.input, given[i])});
  }
}

std::unique_ptr<PreparedStep> FindFusedStep(const StepSite& site, const FusedBody& fused,
                                            size_t first, Fusion fusion) {
  fusion.copies = static_cast<OneDnnCopies*>(site.copies);
  std::unique_ptr<OneDnnStep> step = OneDnnStep::Find(fusion);
  bool is_exact = std::all_of(fused.post_ops.begin(), fused.post_ops.end(),
                              [](const PostOp& post_op) { return post_op.is_exact; });
  if (!step || is_exact) return step;
  return MakeExact(std::move(step), std::move(fusion), site, first + 1);
}

std::optional<FusedBody> FindFusedBody(const Graph& body) { return Finder(body).Run(); }

}  // namespace stator
