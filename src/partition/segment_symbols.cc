#include "partition/segment_symbols.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/told_symbol.h"

namespace stator {
namespace {

// The first input that tells the symbol; invalid when none does.
ValueId FindTeller(const Graph& graph, const std::string& symbol) {
  for (ValueId input : graph.inputs()) {
    for (const Dim& dim : graph.type(input).dims) {
      if (FindToldSymbol(dim) == symbol) return input;
    }
  }
  return {};
}

}  // namespace

void AddSymbols(const Graph& graph, ExtractedSegment& segment) {
  std::set<std::string> used = FindSymbols(segment.graph), told;
  while (told.size() < used.size()) {
    for (const std::string& symbol : used) {
      told.insert(symbol);
      if (FindTeller(segment.graph, symbol).valid()) continue;
      ValueId outer = FindTeller(graph, symbol);
      if (!outer.valid()) {
        Fail(ErrorKind::kUnsupported, "its sizes depend on `{}`, which no input's size tells",
             symbol);
      }
      segment.graph.AddInput(graph.value(outer).name, graph.type(outer));
      segment.inputs.push_back(outer);
    }
    used = FindSymbols(segment.graph);  // an input that was added may bring symbols of its own
  }
  segment.graph.symbols.clear();
  for (const SymbolRange& symbol : graph.symbols) {
    if (used.contains(symbol.name)) segment.graph.symbols.push_back(symbol);
  }
}

}  // namespace stator
