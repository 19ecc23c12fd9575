#include "passes/attention_mask.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/op_def.h"
#include "passes/match.h"

namespace stator {
namespace {

constexpr int kMaxDepth = 8;  // of the arithmetic that makes a mask

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

bool IsFiniteWithin(const Graph& graph, ValueId value, int depth) {
  if (depth == 0) return false;
  if (const Value* literal = FindMaskLiteral(graph, value)) {
    std::vector<double> elements = ReadLiteral(*literal);
    return std::all_of(elements.begin(), elements.end(), [](double e) { return std::isfinite(e); });
  }
  if (graph.value(value).kind == ValueKind::kWeight) return true;
  const Node* node = graph.FindProducer(value);
  if (node == nullptr) return false;
  auto is_finite = [&](int i) { return IsFiniteWithin(graph, node->inputs[i], depth - 1); };
  std::string_view op = node->op->name;
  if (node->op->Is(kView) || op == "embedding" || op == "index") return is_finite(0);
  if (op == "where") return is_finite(1) && is_finite(2);
  if (op == "mul" || op == "sub" || op == "add") return is_finite(0) && is_finite(1);
  return op == "cast" && (!IsFloat(graph.type(node->inputs[0]).dtype) || is_finite(0));
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

bool IsFinite(const Graph& graph, ValueId mask) { return IsFiniteWithin(graph, mask, kMaxDepth); }

}  // namespace stator
