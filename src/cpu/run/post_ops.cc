#include "cpu/run/post_ops.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "cpu/run/exact_step.h"
#include "ir/epilogue.h"
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

std::optional<PostOp> FindPostOp(const Graph& body, const EpilogueOp& op, DType dtype) {
  const Node& node = *op.node;
  if (node.inputs.size() == 1) return FindUnary(node);
  if (op.number) return FindLinear(node.op->name, op.chain, static_cast<float>(*op.number));
  std::optional<Algorithm> binary = FindBinary(node.op->name, op.chain);
  DType operand = body.type(body.inputs()[op.input]).dtype;
  if (!binary || operand != dtype) return std::nullopt;
  return PostOp{.algorithm = *binary, .input = op.input, .per_channel = op.per_channel};
}

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
    int arg = DNNL_ARG_ATTR_MULTIPLE_POST_OP(fusion.post_ops.len()) | DNNL_ARG_SRC_1;
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

std::optional<FusedBody> FindFusedBody(const Graph& body) {
  std::optional<Epilogue> epilogue = FindEpilogue(body, "matmul");
  if (!epilogue) epilogue = FindEpilogue(body, "conv");
  if (!epilogue) return std::nullopt;
  FusedBody fused{.anchor = epilogue->anchor, .operands = epilogue->operands};
  DType dtype = epilogue->anchor_dtype;
  for (const EpilogueOp& op : epilogue->ops) {
    bool fits = OneDnnType(dtype) != dnnl::memory::data_type::undef &&
                body.type(op.node->outputs[0]).dtype == dtype;
    std::optional<PostOp> post_op = fits ? FindPostOp(body, op, dtype) : std::nullopt;
    if (!post_op) return std::nullopt;
    fused.post_ops.push_back(*post_op);
  }
  return fused;
}

}  // namespace stator
