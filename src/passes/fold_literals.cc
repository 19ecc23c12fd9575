// FoldLiterals: nodes that read literals alone become literals.
//
//   literal %c0: f32[2] = [1.0, 2.0]           literal %c0: f32[2] = [-1.0, -2.0]
//   %0 = neg(%c0)                         ->   %0 = add(%x, %c0)
//   %1 = add(%x, %0)
//
// Invariants: weights are left alone, since a refit may change them (arithmetic on weights runs in
// the plan's prologue); no literal of more than kMaxBytes is made, and a large constant tensor is
// an expanded single element.
#include <optional>

#include "base/error.h"
#include "ops/evaluate.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;

// A literal, or one seen through an expand: repeated by strides of 0, not copied.
std::optional<TensorRef> FindRef(const Graph& graph, ValueId value) {
  const Dims& dims = graph.type(value).dims;
  if (const Node* expand = FindNode(graph, value, "expand")) value = expand->inputs[0];
  const Value& literal = graph.value(value);
  if (literal.kind != ValueKind::kLiteral || !IsStatic(dims)) return std::nullopt;
  TensorRef ref{.data = const_cast<std::byte*>(literal.data.bytes),
                .dtype = literal.type.dtype,
                .dims = EvalDims(literal.type.dims, {}),
                .strides = EvalDims(literal.type.strides(), {})};
  std::vector<int64_t> wide = EvalDims(dims, {});
  ref.strides = BroadcastStrides(ref, wide);
  ref.dims = std::move(wide);
  return ref;
}

// The node's inputs when all of them are literals; else empty.
std::optional<std::vector<TensorRef>> FindRefs(const Graph& graph, const Node& node) {
  std::vector<TensorRef> refs;
  for (ValueId input : node.inputs) {
    std::optional<TensorRef> ref = input.valid() ? FindRef(graph, input) : TensorRef{};
    if (!ref) return std::nullopt;
    refs.push_back(std::move(*ref));
  }
  return refs;
}

// Whether folding frees the engine of work: an expanded literal is one already.
bool IsWorthFolding(const Graph& graph, const Node& node) {
  const TensorType& type = graph.type(node.outputs[0]);
  if (!IsStatic(type.dims) || node.op->name == "expand") return false;
  return type.num_elements().value() * static_cast<int64_t>(DTypeSize(type.dtype)) <= kMaxBytes;
}

ValueId FoldNode(Rewriter& rewriter, const Node& node) {
  Graph& graph = rewriter.graph();
  if (node.op->reference == nullptr || node.op->name == "full") return {};
  if (!IsWorthFolding(graph, node)) return {};
  std::optional<std::vector<TensorRef>> inputs = FindRefs(graph, node);
  if (!inputs) return {};
  std::vector<HostTensor> outputs;
  try {
    outputs = EvaluateNode(graph, node, *inputs);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInternal) throw;
    return {};  // what the model does wrong, it does when it runs
  }
  if (!rewriter.Start()) return {};
  TensorType type = graph.type(node.outputs[0]);
  outputs[0].storage.resize(type.num_elements().value() * DTypeSize(type.dtype));
  return graph.AddLiteral(std::move(type), MakeConstantData(std::move(outputs[0].storage)));
}

// full(dims, v) = expand(v, dims), for symbolic dims too
ValueId FullToExpand(Rewriter& rewriter, const Node& node) {
  Graph& graph = rewriter.graph();
  if (!rewriter.Start()) return {};
  const TensorType& type = graph.type(node.outputs[0]);
  ValueId scalar = AddScalar(graph, type.dtype, node.attrs.GetFloat("value"));
  if (type.dims.empty()) return scalar;
  return rewriter.Add("expand", {scalar}, {{"dims", type.dims}});
}

constexpr Rule kRules[] = {{"full", FullToExpand}, {"", FoldNode}};

}  // namespace

bool FoldLiterals(Rewriter& rewriter) { return ApplyRules(rewriter, kRules); }

}  // namespace stator
