// Functionalisation: in-place ops on names become new values in SSA.
//
// In:  definitions, reads and writes of FX names in program order.
// Out: for each read the value that the name holds at that moment.
// Names that share memory form a storage. Its base is the value of the name that created it; every
// other name is a path of view ops (reshape, permute, slice, expand) from there. A write through a
// view is carried back along its path into a new base; other names follow when they are next read.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "import/conversion.h"
#include "ir/graph.h"

namespace stator {

class Functionalizer {
 public:
  // `last_uses`: for each name, the index of the last FX node that reads it; INT_MAX for outputs.
  Functionalizer(Graph& graph, std::map<std::string, int, std::less<>> last_uses)
      : graph_(graph), last_uses_(std::move(last_uses)) {}

  // A name with memory of its own. `input`: it is an input or weight, seen by the caller.
  void Define(const std::string& name, ValueId value, bool input = false);
  // A name that is a view of `base`: `value` was made from the value of `base` by view ops alone.
  void DefineView(const std::string& name, const std::string& base, ValueId value);
  // A name that may or may not share memory with `base`.
  void DefineUnknown(const std::string& name, const std::string& base, ValueId value);

  // Nodes that a read or write adds take `origin`.
  ValueId Read(const std::string& name, const Origin& origin);
  // Gives the memory of `name` a new content, of the same type, at FX node `index`. Raises
  // Unsupported when a name that may share the memory is read later.
  void Write(const std::string& name, ValueId value, const Origin& origin, int index);

  // Whether a node reads `name`, or the program returns it.
  bool IsUsed(const std::string& name) const { return last_uses_.contains(name); }
  // Inputs that were written, in order of definition.
  std::vector<std::string> mutated_inputs() const;

 private:
  struct Step {
    const OpDef* op;
    Attrs attrs;
    Dims dims;  // of what the step reads
  };
  struct Binding {
    int storage = 0;
    int version = 0;  // of the storage when `value` was made
    ValueId value;
    std::vector<Step> path;  // from the base
  };
  struct Storage {
    ValueId base;
    int version = 0;
    bool input = false;
    std::string name;            // that created it
    std::vector<int> may_alias;  // storages
  };

  ValueId Apply(const Step& step, ValueId value, const Origin& origin);
  // What the input of `step` becomes when its output becomes `value`; `before` was that input.
  ValueId WriteBack(const Step& step, ValueId before, ValueId value, const Origin& origin);
  ValueId WriteBackSlice(const Step& step, ValueId before, ValueId value, const Origin& origin);
  void CheckAliases(int storage, const std::string& name, const Origin& origin, int index) const;
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs, const Origin& origin);

  Graph& graph_;
  std::map<std::string, int, std::less<>> last_uses_;
  std::map<std::string, Binding, std::less<>> bindings_;
  std::vector<Storage> storages_;
};

}  // namespace stator
