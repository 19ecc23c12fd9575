// FoldBatchNorm: what scales and shifts the channels behind a convolution goes into its weights.
//
//                                               %0 = add(%var, 1e-05)
//   %0 = conv(%x, %w)                           %1 = rsqrt(%0)
//   %1 = batch_norm(%0, %g, %b,          ->     %2 = mul(%g, %1)             scale
//                   %mean, %var)                %3 = mul(%w, reshape(%2))    weight
//                                               %5 = sub(%b, mul(%mean, %2)) bias
//                                               %6 = conv(%x, %3, %5)
//
// The arithmetic on weights stays in the graph: it reads constants alone, so it runs in the plan's
// prologue, at load and at each refit. A batch norm behind anything else becomes a mul and an add.
// Decomposed batch norms come as sub, mul and add by one constant per channel and fold one by one.
#include "ops/builder.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

// A convolution by constants whose result has one reader, so that it may change; else null.
// Transposed ones keep output channels in another dim of w and are left alone.
const Node* FindConv(const Graph& graph, ValueId value) {
  const Node* conv = FindNode(graph, value, "conv");
  bool fits = conv != nullptr && !conv->attrs.GetBool("transposed") &&
              CountUses(graph, value) == 1 && IsConstantValue(graph, conv->inputs[1]) &&
              (conv->inputs.size() < 3 || !conv->inputs[2].valid() ||
               IsConstantValue(graph, conv->inputs[2]));
  return fits ? conv : nullptr;
}

ValueId FindBias(const Node& conv) { return conv.inputs.size() > 2 ? conv.inputs[2] : ValueId{}; }

// Whether `value` is a constant with one number per channel of `type`, dims [C, 1, 1] or
// [1, C, 1, 1], or with one number for all.
bool IsPerChannel(const Graph& graph, ValueId value, const TensorType& type) {
  if (!IsConstantValue(graph, value) || type.rank() < 3) return false;
  const Dims& dims = graph.type(value).dims;
  int lead = type.rank() - static_cast<int>(dims.size());
  if (lead < 0) return false;
  for (size_t i = 0; i < dims.size(); ++i) {
    bool is_channel = static_cast<int>(i) + lead == 1;
    if (dims[i] != Dim(1) && !(is_channel && dims[i] == type.dims[1])) return false;
  }
  return true;
}

// What IsPerChannel accepts, as a vector [C].
ValueId ToVector(Rewriter& rewriter, ValueId value, const Dim& channels) {
  const TensorType& type = rewriter.graph().type(value);
  if (type.dims == Dims{channels}) return value;
  Dim count = type.num_elements();
  ValueId vector = count == Dim(1) && type.dims == Dims{1}
                       ? value
                       : rewriter.Add("reshape", {value}, {{"dims", Dims{count}}});
  return count == channels ? vector : rewriter.Add("expand", {vector}, {{"dims", Dims{channels}}});
}

ValueId Cast(Rewriter& rewriter, ValueId value, DType dtype) {
  return rewriter.graph().type(value).dtype == dtype
             ? value
             : rewriter.Add("cast", {value}, {{"dtype", dtype}});
}

// conv(x, w * scale, bias * scale + shift): `scale` and `shift` are [C]; either may be absent.
// Computed in f32 for f16 and bf16.
ValueId MakeConv(Rewriter& rewriter, const Node& conv, ValueId scale, ValueId shift) {
  const Graph& graph = rewriter.graph();
  ValueId w = conv.inputs[1], bias = FindBias(conv);
  DType dtype = graph.type(w).dtype, exact = StatisticsDType(dtype);
  if (scale.valid()) {
    Dims dims(graph.type(w).rank(), Dim(1));
    dims[0] = graph.type(w).dims[0];
    ValueId factor = rewriter.Add("reshape", {scale}, {{"dims", dims}});
    w = Cast(rewriter, rewriter.Add("mul", {Cast(rewriter, w, exact), factor}), dtype);
    if (bias.valid()) bias = rewriter.Add("mul", {Cast(rewriter, bias, exact), scale});
  }
  if (shift.valid()) {
    bias = bias.valid() ? rewriter.Add("add", {Cast(rewriter, bias, exact), shift}) : shift;
  }
  std::vector<ValueId> inputs = {conv.inputs[0], w};
  if (bias.valid()) inputs.push_back(Cast(rewriter, bias, dtype));
  return rewriter.Add("conv", std::move(inputs), conv.attrs);
}

// batch_norm(x) = x * scale + shift, scale = weight / sqrt(var + eps), shift = bias - mean * scale
// (Ioffe & Szegedy 2015), into the convolution that makes x or as a mul and an add.
ValueId FoldBatchNormNode(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.inputs[i].valid() && !IsConstantValue(graph, node.inputs[i])) return {};
  }
  const TensorType type = graph.type(node.outputs[0]);
  const Node* conv = type.rank() >= 3 ? FindConv(graph, node.inputs[0]) : nullptr;
  // x * scale + shift would round to f16 or bf16 twice.
  bool rounds_twice = conv == nullptr && type.dtype != StatisticsDType(type.dtype);
  if (rounds_twice || !rewriter.Start()) return {};
  DType exact = StatisticsDType(type.dtype);
  auto input = [&](int i) { return Cast(rewriter, node.inputs[i], exact); };
  ValueId eps = AddScalar(rewriter.graph(), exact, node.attrs.GetFloat("eps"));
  ValueId scale = rewriter.Add("rsqrt", {rewriter.Add("add", {input(4), eps})});
  if (node.inputs[1].valid()) scale = rewriter.Add("mul", {input(1), scale});
  ValueId offset = rewriter.Add("mul", {input(3), scale});
  ValueId shift = node.inputs[2].valid() ? rewriter.Add("sub", {input(2), offset})
                                         : rewriter.Add("neg", {offset});
  if (conv != nullptr) return MakeConv(rewriter, *conv, scale, shift);
  Dims dims(type.rank() - 1, Dim(1));
  dims[0] = type.dims[1];
  auto spread = [&](ValueId v) { return rewriter.Add("reshape", {v}, {{"dims", dims}}); };
  return rewriter.Add("add", {rewriter.Add("mul", {node.inputs[0], spread(scale)}), spread(shift)});
}

// conv(x) * s, conv(x) + t and conv(x) - t for one constant per channel
ValueId FoldArithmetic(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const TensorType type = graph.type(node.outputs[0]);
  const Node* conv = FindConv(graph, node.inputs[0]);
  bool matches = conv != nullptr && graph.type(node.inputs[0]).dims == type.dims &&
                 IsPerChannel(graph, node.inputs[1], type);
  if (!matches || !rewriter.Start()) return {};
  ValueId operand =
      Cast(rewriter, ToVector(rewriter, node.inputs[1], type.dims[1]), StatisticsDType(type.dtype));
  if (node.op->name == "sub") operand = rewriter.Add("neg", {operand});
  return node.op->name == "mul" ? MakeConv(rewriter, *conv, operand, {})
                                : MakeConv(rewriter, *conv, {}, operand);
}

constexpr Rule kRules[] = {
    {"batch_norm", FoldBatchNormNode},
    {"mul", FoldArithmetic},
    {"add", FoldArithmetic},
    {"sub", FoldArithmetic},
};

}  // namespace

bool FoldBatchNorm(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
