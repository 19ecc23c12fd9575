#include "codegen/body_text.h"

#include <cstring>
#include <set>

#include "base/error.h"
#include "ir/op_def.h"

namespace stator {
namespace {

bool IsWord(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// The text with each of its words that `names` has replaced.
std::string ReplaceWords(std::string_view text,
                         const std::map<std::string_view, std::string>& names) {
  std::string replaced;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && IsWord(text[end])) ++end;
    if (end == i) {
      replaced += text[i++];
      continue;
    }
    std::string_view word = text.substr(i, end - i);
    auto it = names.find(word);
    replaced += it == names.end() ? std::string(word) : it->second;
    i = end;
  }
  return replaced;
}

// The numbers that scalar bodies name (ops/pointwise.cc).
constexpr std::pair<std::string_view, double> kNumbers[] = {
    {"p_half", 0.5},
    {"p_rsqrt2", 0.70710678118654752440},
    {"p_sqrt_2_pi", 0.79788456080286535588},
    {"p_gelu_cubic", 0.044715},
    {"p_sixth", 1.0 / 6.0},
};

}  // namespace

bool HasPlainConstants(const Graph& body) {
  for (ValueId id : body.constants()) {
    const Value& value = body.value(id);
    if (value.kind != ValueKind::kLiteral || value.data.bytes == nullptr ||
        value.data.size != DTypeSize(value.type.dtype)) {
      return false;
    }
  }
  return true;
}

void BodyText::Define(ValueId id, std::string expression) {
  named_.erase(id);
  read_[id] = std::move(expression);
}

void BodyText::Leave() {
  std::tie(read_, named_) = std::move(scopes_.back());
  scopes_.pop_back();
}

std::string BodyText::Get(ValueId id) {
  if (auto it = named_.find(id); it != named_.end()) return it->second;
  std::string name = text_.NameOf(id);
  std::string type = ComputeType(body_.type(id).dtype);
  if (auto it = read_.find(id); it != read_.end()) {
    if (it->second != name) text_.Line("const {} {} = {};", type, name, it->second);
  } else if (body_.IsConstant(id)) {
    text_.Line("const {} {} = {};", type, name, LiteralExpression(id));
  } else {
    const Node* node = body_.FindProducer(id);
    STATOR_CHECK(node != nullptr && node->op->Is(kPointwise), "%{} is not at hand", name);
    std::string expression = NodeExpression(*node);
    text_.Line("const {} {} = {};  // {}", type, name, expression, node->op->name);
  }
  named_[id] = name;
  return name;
}

std::string BodyText::Element(ValueId id) {
  return fmt::format("CastTo<{}>({})", ElementType(body_.type(id).dtype), Get(id));
}

std::string BodyText::NodeExpression(const Node& node) {
  std::vector<std::string> operands;
  for (ValueId input : node.inputs) operands.push_back(Get(input));
  if (node.op->name == "cast") {
    return fmt::format("Rounded<{}>({})", ElementType(node.attrs.GetDType("dtype")), operands[0]);
  }
  DType dtype = body_.type(node.inputs.back()).dtype;
  std::map<std::string_view, std::string> names;
  constexpr std::string_view kOperands[] = {"a", "b", "c"}, kParameters[] = {"p0", "p1"};
  for (size_t i = 0; i < operands.size(); ++i) names[kOperands[i]] = operands[i];
  for (size_t i = 0; i < node.op->attrs.size(); ++i) {
    std::string number = NumberText(dtype, node.attrs.GetFloat(node.op->attrs[i].name));
    names[kParameters[i]] = number.starts_with("-") ? "(" + number + ")" : number;
  }
  for (const auto& [word, number] : kNumbers) names[word] = NumberText(dtype, number);
  return ReplaceWords(node.op->scalar_body, names);
}

std::string BodyText::LiteralExpression(ValueId id) {
  const Value& value = body_.value(id);
  DType dtype = value.type.dtype;
  if (dtype == DType::kInt64) {  // beyond what a double holds
    int64_t number = 0;
    std::memcpy(&number, value.data.bytes, sizeof number);
    return number == INT64_MIN ? "(-9223372036854775807ll - 1)" : fmt::format("{}ll", number);
  }
  std::optional<double> number = FindSplat(body_, id);
  STATOR_CHECK(number.has_value(), "a literal of more than one element");
  return NumberText(dtype, *number);
}

bool DependsOn(const Graph& body, ValueId id, ValueId from) {
  std::vector<ValueId> stack = {id};
  std::set<ValueId> seen;
  while (!stack.empty()) {
    ValueId at = stack.back();
    stack.pop_back();
    if (at == from) return true;
    const Node* node = at.valid() && seen.insert(at).second ? body.FindProducer(at) : nullptr;
    if (node != nullptr) stack.insert(stack.end(), node->inputs.begin(), node->inputs.end());
  }
  return false;
}

std::string EntryName(std::string_view kind, const Graph& body) {
  constexpr size_t kMaxLength = 48;
  std::string name(kind);
  for (NodeId id : body.nodes()) {
    std::string_view op = body.node(id).op->name;
    if (op == "cast" || op == kind || name.size() + op.size() >= kMaxLength) continue;
    name += '_';
    name += op;
  }
  return name;
}

std::vector<ValueId> FindSources(const Graph& body, std::span<const ValueId> ids,
                                 const std::set<ValueId>& known) {
  std::vector<ValueId> sources, stack(ids.rbegin(), ids.rend());
  std::set<ValueId> seen;
  while (!stack.empty()) {
    ValueId id = stack.back();
    stack.pop_back();
    if (!id.valid() || !seen.insert(id).second || body.IsConstant(id)) continue;
    const Node* node = body.FindProducer(id);
    if (node == nullptr || !node->op->Is(kPointwise) || known.contains(id)) {
      sources.push_back(id);
    } else {
      stack.insert(stack.end(), node->inputs.rbegin(), node->inputs.rend());
    }
  }
  return sources;
}

}  // namespace stator
