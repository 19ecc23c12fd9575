// Inlining of nodes that only wrap a graph. An export that meets `torch.no_grad()` or
// `torch.autocast(enabled=False)` inside a module leaves such nodes; both mean nothing here.
#include <map>
#include <string>

#include "import/importer.h"

namespace stator {
namespace {

using schema::Argument;
using schema::GraphDef;
using Kind = Argument::Kind;
using Renames = std::map<std::string, std::string>;

void Rename(std::string& name, const Renames& renames) {
  if (auto it = renames.find(name); it != renames.end()) name = it->second;
}

void RenameArgument(Argument& arg, const Renames& renames) {
  if (arg.kind == Kind::kTensor) Rename(arg.name, renames);
  for (std::string& name : arg.names) Rename(name, renames);
  for (Argument::Size& size : arg.sizes) Rename(size.name, renames);
}

// The position of the wrapped graph in the arguments of a node that does nothing else; -1 for
// other nodes. Arguments after it are the inputs of the graph.
int FindWrappedGraph(const schema::Node& node) {
  size_t position = 0;
  if (node.target == "torch.ops.higher_order.wrap_with_set_grad_enabled") {
    position = 1;  // (enabled, graph, ...)
  } else if (node.target == "torch.ops.higher_order.wrap_with_autocast") {
    position = 4;  // (device type, dtype, enabled, cache enabled, graph, ...)
    if (node.inputs.size() <= 2) return -1;
    const Argument& enabled = node.inputs[2].arg;
    if (enabled.kind != Kind::kBool || enabled.integer != 0) return -1;
  } else {
    return -1;
  }
  if (node.inputs.size() <= position || node.inputs[position].arg.graph == nullptr) return -1;
  return static_cast<int>(position);
}

// The names of a list of arguments, one per tensor or size; an empty one for a constant.
std::vector<std::string> FlatNames(const std::vector<Argument>& args) {
  std::vector<std::string> names;
  for (const Argument& arg : args) {
    if (arg.kind == Kind::kTensors) {
      names.insert(names.end(), arg.names.begin(), arg.names.end());
    } else {
      names.push_back(arg.kind == Kind::kTensor   ? arg.name
                      : arg.kind == Kind::kSymInt ? arg.sizes[0].name
                                                  : "");
    }
  }
  return names;
}

class Inliner {
 public:
  explicit Inliner(GraphDef& graph) : graph_(graph) {}

  // Returns the names that outputs of wrappers go by afterwards.
  Renames Inline() {
    std::vector<schema::Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (schema::Node& node : nodes) Append(std::move(node), renames_, "");
    return renames_;
  }

 private:
  // Appends `node` of a graph whose own names start with `prefix` here and are mapped by `renames`.
  void Append(schema::Node node, Renames& renames, const std::string& prefix) {
    for (schema::NamedArgument& input : node.inputs) RenameArgument(input.arg, renames);
    int position = FindWrappedGraph(node);
    if (position < 0) {
      for (Argument& output : node.outputs) RenameArgument(output, renames);
      node.name = prefix + node.name;
      graph_.nodes.push_back(std::move(node));
      return;
    }
    const GraphDef inner = *node.inputs[position].arg.graph;
    std::string inner_prefix = prefix + node.name + ".";
    Renames inner_renames;
    for (const auto& [name, meta] : inner.tensors) {
      inner_renames[name] = inner_prefix + name;
      graph_.tensors[inner_prefix + name] = meta;
    }
    for (const auto& [name, size] : inner.sizes) {
      inner_renames[name] = inner_prefix + name;
      graph_.sizes[inner_prefix + name] = size;
    }
    std::vector<Argument> args;
    for (size_t i = position + 1; i < node.inputs.size(); ++i) args.push_back(node.inputs[i].arg);
    Map(FlatNames(inner.inputs), FlatNames(args), inner_renames);
    for (const schema::Node& inner_node : inner.nodes) {
      Append(inner_node, inner_renames, inner_prefix);
    }
    std::vector<std::string> results = FlatNames(inner.outputs);
    for (std::string& name : results) Rename(name, inner_renames);
    Map(FlatNames(node.outputs), results, renames);
  }

  static void Map(const std::vector<std::string>& from, const std::vector<std::string>& to,
                  Renames& renames) {
    for (size_t i = 0; i < from.size() && i < to.size(); ++i) {
      if (!from[i].empty() && !to[i].empty()) renames[from[i]] = to[i];
    }
  }

  GraphDef& graph_;
  Renames renames_;
};

}  // namespace

void InlineWrappers(schema::Program& program) {
  Renames renames = Inliner(program.graph).Inline();
  for (schema::OutputSpec& output : program.outputs) RenameArgument(output.arg, renames);
}

}  // namespace stator
