// The sym_ints of an FX graph as Dims.
//
// In:  what torch recorded of each (sympy text), and the nodes that compute them.
// Out: a Dim per FX name, spelled as type rules spell the sizes they infer.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/dim.h"
#include "import/schema/schema.h"

namespace stator {

class SizeTable {
 public:
  // `sizes` receives what is defined.
  SizeTable(const schema::Program& program, std::map<std::string, Dim, std::less<>>& sizes)
      : program_(program), sizes_(sizes) {}

  std::optional<Dim> Find(const std::string& name) const;
  // As torch recorded it; a size that Dim cannot express stays undefined.
  void Define(const std::string& name);
  // The size at `dim` of a tensor with these dims.
  void DefineSizeOf(const std::string& name, const Dims& dims, int64_t dim);
  // The result of a node over sizes and integers ("_operator.add").
  void DefineExpression(const std::string& name, const std::string& target,
                        const schema::Node& node);
  // Whether a size that a type rule infers is the one that torch recorded: they agree for a spread
  // of values of their symbols, or do once one argument stands for a min or max of the rule's,
  // which torch settles by a guard.
  bool AreSame(const Dim& inferred, const Dim& recorded) const;

 private:
  bool AgreeEverywhere(const Dim& a, const Dim& b) const;
  std::optional<Dim> FindArgument(const schema::Argument& arg) const;

  const schema::Program& program_;
  std::map<std::string, Dim, std::less<>>& sizes_;
};

}  // namespace stator
