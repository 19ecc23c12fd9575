// ComputeInHalf, ComputeInBFloat16: float32 graphs compute in a type of 16 bits.
//
//   %0 = matmul(%x, %w) : f32           %0 = cast(%x) {dtype = f16}   %1 = cast(%w) {dtype = f16}
//   %1 = relu(%0) : f32           ->    %2 = matmul(%0, %1) : f16     %3 = relu(%2) : f16
//   %2 = exp(%1) : f32                  %4 = cast(%3) {dtype = f32}   %5 = exp(%4) : f32
//
// As torch.autocast does it: products are computed in the narrow type (kernels accumulate in f32);
// arithmetic, views and the like follow where all that they read is narrow already; what needs
// range or precision (softmax, norms, reductions, exponentials, powers) stays in f32.
// Invariant: inputs and outputs keep their types; a literal that the type cannot hold keeps its
// node in f32.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ir/op_def.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr std::array<std::string_view, 3> kProducts = {"attention", "conv", "matmul"};
constexpr std::array<std::string_view, 24> kFollowers = {
    "abs",       "add",         "concat",   "elu",       "erf",        "gelu",
    "gelu_tanh", "hardsigmoid", "hardtanh", "hardswish", "leaky_relu", "max_pool",
    "maximum",   "minimum",     "mul",      "neg",       "pad",        "relu",
    "sigmoid",   "sign",        "silu",     "sub",       "tanh",       "where"};

bool Contains(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsF32(const Graph& graph, ValueId value) {
  return value.valid() && graph.type(value).dtype == DType::kFloat32;
}

// The value of type `narrow` that `value` widens, or invalid.
ValueId FindNarrow(const Graph& graph, ValueId value, DType narrow) {
  const Node* cast = FindNode(graph, value, "cast");
  bool matches = cast != nullptr && graph.type(cast->inputs[0]).dtype == narrow;
  return matches ? cast->inputs[0] : ValueId{};
}

// Whether no element of a literal becomes infinite in `narrow`. Weights are never looked into.
bool FitsIn(const Graph& graph, ValueId id, DType narrow) {
  const Value& value = graph.value(id);
  if (value.kind != ValueKind::kLiteral) return true;
  const float max = narrow == DType::kFloat16 ? 65504.0f : 0x1.FEp127f;
  for (size_t at = 0; at + sizeof(float) <= value.data.size; at += sizeof(float)) {
    float element;
    std::memcpy(&element, value.data.bytes + at, sizeof element);
    if (std::isfinite(element) && std::abs(element) > max) return false;
  }
  return true;
}

bool ReadsOnlyNarrow(const Graph& graph, const Node& node, DType narrow) {
  bool reads_narrow = false;
  for (ValueId input : node.inputs) {
    if (!IsF32(graph, input) || IsConstantValue(graph, input)) continue;
    if (!FindNarrow(graph, input, narrow).valid()) return false;
    reads_narrow = true;
  }
  return reads_narrow;
}

bool ShouldNarrow(const Graph& graph, const Node& node, DType narrow) {
  if (!IsF32(graph, node.outputs[0])) return false;
  if (Contains(kProducts, node.op->name)) {
    // An added mask holds the lowest numbers there are.
    bool has_f32_mask =
        node.op->name == "attention" && node.inputs.size() > 3 && IsF32(graph, node.inputs[3]);
    if (has_f32_mask) return false;
  } else if (!(Contains(kFollowers, node.op->name) || node.op->Is(kView)) ||
             !ReadsOnlyNarrow(graph, node, narrow)) {
    return false;
  }
  return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) {
    return !IsF32(graph, input) || FitsIn(graph, input, narrow);
  });
}

template <DType kNarrow>
ValueId Narrow(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (!ShouldNarrow(graph, node, kNarrow) || !rewriter.Start()) return {};
  std::vector<ValueId> inputs;
  for (ValueId input : node.inputs) {
    if (!IsF32(graph, input)) {
      inputs.push_back(input);
      continue;
    }
    ValueId narrow = FindNarrow(graph, input, kNarrow);
    inputs.push_back(narrow.valid() ? narrow : rewriter.Add("cast", {input}, {{"dtype", kNarrow}}));
  }
  ValueId result = rewriter.Add(node.op->name, std::move(inputs), node.attrs);
  return rewriter.Add("cast", {result}, {{"dtype", DType::kFloat32}});
}

}  // namespace

bool ComputeInHalf(Rewriter& rewriter) {
  constexpr Rule kRules[] = {{"", Narrow<DType::kFloat16>}};
  return ApplyRules(rewriter, kRules);
}

bool ComputeInBFloat16(Rewriter& rewriter) {
  constexpr Rule kRules[] = {{"", Narrow<DType::kBFloat16>}};
  return ApplyRules(rewriter, kRules);
}

}  // namespace stator
