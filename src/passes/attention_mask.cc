#include "passes/attention_mask.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "ir/op_def.h"
#include "passes/match.h"

namespace stator {
namespace {

constexpr size_t kMaxValues = 256;  // of the arithmetic that makes a mask

// The elements of a literal in row-major order.
std::vector<double> ReadLiteral(const Value& literal) {
  return DispatchDType(literal.type.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* elements = reinterpret_cast<const T*>(literal.data.bytes);
    return std::vector<double>(elements, elements + literal.data.size / sizeof(T));
  });
}

bool IsHidden(const Value& mask, double element) {
  return mask.type.dtype == DType::kBool ? element == 0
                                         : element == -std::numeric_limits<double>::infinity();
}

bool AreAllFinite(const Value& literal) {
  std::vector<double> elements = ReadLiteral(literal);
  return std::all_of(elements.begin(), elements.end(), [](double e) { return std::isfinite(e); });
}

// Which inputs of a node its result's elements are, or are sums and products of; none: it is not
// known what they are.
std::vector<ValueId> FindParts(const Graph& graph, const Node& node) {
  std::string_view op = node.op->name;
  const std::vector<ValueId>& inputs = node.inputs;
  if (node.op->Is(kView) || op == "embedding" || op == "index") return {inputs[0]};
  if (op == "where") return {inputs[1], inputs[2]};
  bool all = op == "mul" || op == "sub" || op == "add" || op == "concat";
  if (all || (op == "cast" && IsFloat(graph.type(inputs[0]).dtype))) return inputs;
  return {};
}

}  // namespace

const Value* FindMaskLiteral(const Graph& graph, ValueId mask) {
  while (const Node* expand = FindNode(graph, mask, "expand")) mask = expand->inputs[0];
  const Value& value = graph.value(mask);
  return value.kind == ValueKind::kLiteral ? &value : nullptr;
}

bool LeavesKeys(const Value& mask, bool inverted) {
  std::vector<double> elements = ReadLiteral(mask);
  size_t width = mask.type.dims.empty() ? 1 : mask.type.dims.back().value();
  for (size_t row = 0; row + width <= elements.size() && width > 0; row += width) {
    auto first = elements.begin() + static_cast<std::ptrdiff_t>(row);
    bool leaves = std::any_of(first, first + static_cast<std::ptrdiff_t>(width),
                              [&](double e) { return IsHidden(mask, e) == inverted; });
    if (!leaves) return false;
  }
  return true;
}

bool HidesJust(const Value& mask, const std::function<bool(int64_t, int64_t)>& hidden) {
  const Dims& dims = mask.type.dims;
  int64_t keys = dims.empty() ? 1 : dims.back().value();
  int64_t queries = dims.size() < 2 ? 1 : dims.end()[-2].value();
  std::vector<double> elements = ReadLiteral(mask);
  for (int64_t i = 0; i < static_cast<int64_t>(elements.size()); ++i) {
    bool is_hidden = IsHidden(mask, elements[i]);
    if (is_hidden != hidden(i / keys % queries, i % keys)) return false;
    if (!is_hidden && mask.type.dtype != DType::kBool && elements[i] != 0) return false;
  }
  return true;
}

bool IsFinite(const Graph& graph, ValueId mask) {
  std::vector<ValueId> stack = {mask};
  std::set<ValueId> seen;
  while (!stack.empty()) {
    ValueId value = stack.back();
    stack.pop_back();
    if (!seen.insert(value).second) continue;
    if (seen.size() > kMaxValues) return false;
    if (const Value* literal = FindMaskLiteral(graph, value)) {
      if (!AreAllFinite(*literal)) return false;
      continue;
    }
    if (graph.value(value).kind == ValueKind::kWeight) continue;
    const Node* node = graph.FindProducer(value);
    if (node == nullptr) return false;
    bool of_integers = node->op->name == "cast" && !IsFloat(graph.type(node->inputs[0]).dtype);
    std::vector<ValueId> parts = FindParts(graph, *node);
    if (parts.empty() && !of_integers) return false;
    stack.insert(stack.end(), parts.begin(), parts.end());
  }
  return true;
}

}  // namespace stator
