// BodyText: the pointwise nodes of a body as statements on single elements.
//
// In:  a KernelText, and for each value that is at hand the expression that reads it.
// Out: statements `const float v3 = ...;  // gelu`, each written when its value is first asked for.
// Invariant: scalar bodies are pasted from the op table, operands named as in the IR; a value keeps
// full precision until it is stored or cast.
#pragma once

#include <map>
#include <set>

#include "codegen/kernel_text.h"

namespace stator {

// Whether `body` can be written: its constants are literals of one element, each with its data.
bool HasPlainConstants(const Graph& body);

class BodyText {
 public:
  explicit BodyText(KernelText& text) : text_(text), body_(text.site().body) {}

  // From here on the value is read as `expression`, of its compute type. Asked for, it gets a
  // statement of its own unless the expression is just a name.
  void Define(ValueId id, std::string expression);
  bool IsDefined(ValueId id) const { return read_.contains(id); }
  // Writes what the value needs and is not yet there, and returns its name.
  std::string Get(ValueId id);
  // What is written between Enter and Leave is seen there only: a C++ block.
  void Enter() { scopes_.push_back({read_, named_}); }
  void Leave();

  // The value as an element of its dtype, to be stored: "CastTo<f16>(v3)".
  std::string Element(ValueId id);

 private:
  std::string NodeExpression(const Node& node);
  std::string LiteralExpression(ValueId id);

  KernelText& text_;
  const Graph& body_;
  std::map<ValueId, std::string> read_;   // expressions given
  std::map<ValueId, std::string> named_;  // names of what is written
  std::vector<std::pair<std::map<ValueId, std::string>, std::map<ValueId, std::string>>> scopes_;
};

// Values that `ids` are computed from by pointwise nodes: inputs of the body, outputs of other
// nodes, and those of `known`, which are not looked behind. Literals are left out.
std::vector<ValueId> FindSources(const Graph& body, std::span<const ValueId> ids,
                                 const std::set<ValueId>& known = {});

// Whether the value is computed from `from`, or is it.
bool DependsOn(const Graph& body, ValueId id, ValueId from);

// A word for a kernel's name: the ops of the body that are no casts, as far as they fit.
std::string EntryName(std::string_view kind, const Graph& body);

}  // namespace stator
