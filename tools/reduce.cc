// stator reduce: cuts a graph that shows a problem down to a few nodes that still show it.
//
// Delta debugging (Zeller & Hildebrandt 2002) on a graph: a part of it is what lies between a set
// of values taken as inputs and one value taken as the output. The output moves up and the inputs
// move down as long as the part still fails.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "compile/compile.h"
#include "ir/print.h"
#include "ops/evaluate.h"
#include "tools/cli.h"
#include "tools/model_file.h"
#include "tools/session.h"

namespace stator {
namespace {

struct Args {
  std::string model, output = "reduced.ir", test;
  double rtol = 1e-3;
};

// ---- parts of a graph
struct Part {
  std::set<ValueId> cuts;  // node outputs that become inputs
  std::vector<ValueId> outputs;
};

// Nodes that the outputs need, walking up no further than the cuts.
std::vector<bool> FindNeeded(const Graph& graph, const Part& part) {
  std::vector<bool> needed(static_cast<size_t>(graph.num_values()));
  std::vector<ValueId> work = part.outputs;
  while (!work.empty()) {
    ValueId id = work.back();
    work.pop_back();
    if (!id.valid() || needed[static_cast<size_t>(id.index)]) continue;
    needed[static_cast<size_t>(id.index)] = true;
    const Node* producer = graph.FindProducer(id);
    if (producer == nullptr || part.cuts.contains(id)) continue;
    work.insert(work.end(), producer->inputs.begin(), producer->inputs.end());
  }
  return needed;
}

class Extractor {
 public:
  Extractor(const Graph& graph, const Part& part)
      : graph_(graph), part_(part), needed_(FindNeeded(graph, part)) {}

  Graph Run() {
    result_.name = graph_.name;
    result_.symbols = graph_.symbols;
    map_.resize(needed_.size());
    for (ValueId id : graph_.inputs()) {
      if (Needs(id)) map_[Index(id)] = result_.AddInput(graph_.value(id).name, graph_.type(id));
    }
    for (ValueId id : part_.cuts) {
      if (Needs(id)) {
        map_[Index(id)] = result_.AddInput(fmt::format("cut_{}", id.index), graph_.type(id));
      }
    }
    for (ValueId id : graph_.constants()) {
      if (Needs(id)) map_[Index(id)] = AddConstant(graph_.value(id));
    }
    for (NodeId id : graph_.nodes()) AddNode(graph_.node(id));
    std::vector<ValueId> outputs;
    for (ValueId id : part_.outputs) outputs.push_back(map_[Index(id)]);
    result_.SetOutputs(std::move(outputs));
    return std::move(result_);
  }

 private:
  static size_t Index(ValueId id) { return static_cast<size_t>(id.index); }
  bool Needs(ValueId id) const { return needed_[Index(id)]; }

  ValueId AddConstant(const Value& value) {
    return value.kind == ValueKind::kWeight ? result_.AddWeight(value.name, value.type, value.data)
                                            : result_.AddLiteral(value.type, value.data);
  }

  void AddNode(const Node& node) {
    bool needed = std::any_of(node.outputs.begin(), node.outputs.end(),
                              [&](ValueId id) { return Needs(id) && !part_.cuts.contains(id); });
    if (!needed) return;
    std::vector<ValueId> inputs;
    for (ValueId id : node.inputs) inputs.push_back(id.valid() ? map_[Index(id)] : ValueId{});
    std::vector<TensorType> types;
    for (ValueId id : node.outputs) types.push_back(graph_.type(id));
    NodeId added = result_.AddNodeWithTypes(*node.op, inputs, node.attrs, types, node.origin);
    result_.mutable_node(added).body = node.body;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      ValueId& target = map_[Index(node.outputs[i])];
      if (!target.valid()) target = result_.node(added).outputs[i];
    }
  }

  const Graph& graph_;
  const Part& part_;
  std::vector<bool> needed_;
  std::vector<ValueId> map_;
  Graph result_;
};

// ---- the question: does a graph still fail?
using Question = std::function<bool(const Graph&)>;

void BindRandomWeights(Graph& graph) {
  for (ValueId id : graph.constants()) {
    Value& value = graph.mutable_value(id);
    if (value.kind != ValueKind::kWeight || value.data.bytes != nullptr) continue;
    value.data = MakeConstantData(MakeRandom(value.type.dtype, value.type.dims, {}, 0).storage);
  }
}

std::vector<HostTensor> MakeRandomInputs(const Graph& graph) {
  SymbolValues symbols = ChooseSymbols(graph.symbols);
  std::vector<HostTensor> inputs;
  for (ValueId id : graph.inputs()) {
    const TensorType& type = graph.type(id);
    inputs.push_back(MakeRandom(type.dtype, type.dims, symbols, inputs.size()));
  }
  return inputs;
}

// Whether an element differs by more than `rtol` of its size and of the tensor's root mean square.
bool Differ(const TensorRef& found, const TensorRef& expected, double rtol) {
  bool differ = false;
  double sum = 0;
  DispatchDType(expected.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto each = [&](auto&& fn) {
      ForEachOffset<2>(expected.dims, {found.strides, expected.strides}, [&](const auto& at) {
        fn(scalar::CastTo<double>(Data<T>(found)[at[0]]),
           scalar::CastTo<double>(Data<T>(expected)[at[1]]));
      });
    };
    each([&](double, double e) { sum += std::isfinite(e) ? e * e : 0; });
    double rms =
        std::sqrt(sum / static_cast<double>(std::max<int64_t>(expected.num_elements(), 1)));
    each([&](double f, double e) {
      bool same = f == e || (std::isnan(f) && std::isnan(e));
      if (!same && !(std::abs(f - e) <= rtol * (std::abs(e) + rms))) differ = true;
    });
  });
  return differ;
}

// Whether the engine fails, or differs from the reference kernels on random inputs.
bool EngineDiffers(Graph graph, double rtol) {
  BindRandomWeights(graph);
  std::vector<HostTensor> expected, found, inputs = MakeRandomInputs(graph);
  try {
    expected = EvaluateGraph(graph, Refs(inputs));
  } catch (const Error&) {
    return false;  // not a graph that anything can run
  }
  try {
    CompileOptions options;
    options.optimization_level = 0;
    Session session(*CompileGraph(std::move(graph), options));
    found = session.MakeOutputs(Refs(inputs));
    session.Call(Refs(inputs), found);
  } catch (const Error&) {
    return true;
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (Differ(found[i].ref, expected[i].ref, rtol)) return true;
  }
  return false;
}

// Whether the user's command exits with 0, given a file with the graph.
bool CommandSucceeds(const Graph& graph, const std::string& test) {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("stator_reduce_{}.ir", getpid());
  WriteText(path, PrintGraph(graph));
  int status = std::system(fmt::format("{} {}", test, path.string()).c_str());
  std::filesystem::remove(path);
  return status == 0;
}

// ---- the search
// One way through all candidates; whether one was taken.
bool Shrink(const Graph& graph, Part& part, const Question& fails) {
  bool changed = false;
  auto try_part = [&](Part candidate) {
    if (!fails(Extractor(graph, candidate).Run())) return false;
    part = std::move(candidate);
    return changed = true;
  };
  auto is_inside = [&](const Node& node) {
    std::vector<bool> needed = FindNeeded(graph, part);
    return std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
      return needed[static_cast<size_t>(id.index)] && !part.cuts.contains(id);
    });
  };
  // The output moves up: the first value that fails by itself leaves out all behind it.
  for (NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    if (part.outputs == node.outputs) break;
    if (is_inside(node) && try_part({.cuts = part.cuts, .outputs = node.outputs})) break;
  }
  // The inputs move down, the last first, so that a cut leaves out all before it.
  std::vector<NodeId> nodes = graph.nodes();
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const Node& node = graph.node(*it);
    if (node.outputs == part.outputs || !is_inside(node)) continue;
    Part candidate = part;
    candidate.cuts.insert(node.outputs.begin(), node.outputs.end());
    try_part(std::move(candidate));
  }
  return changed;
}

void Reduce(const Args& args) {
  Graph graph = ReadModel(args.model);
  Question fails = [&](const Graph& part) {
    return args.test.empty() ? EngineDiffers(part, args.rtol) : CommandSucceeds(part, args.test);
  };
  Part part{.cuts = {}, .outputs = {graph.outputs().begin(), graph.outputs().end()}};
  if (!fails(Extractor(graph, part).Run())) {
    Fail(ErrorKind::kInvalidArgument, "{} shows no problem: {}", args.model,
         args.test.empty() ? "the engine agrees with the reference kernels"
                           : "the test does not exit with 0");
  }
  while (Shrink(graph, part, fails)) {
  }
  Graph reduced = Extractor(graph, part).Run();
  WriteText(args.output, PrintGraph(reduced));
  fmt::print("{}: {} of {} nodes\n", args.output, reduced.nodes().size(), graph.nodes().size());
}

}  // namespace

void AddReduce(CLI::App& app) {
  auto args = std::make_shared<Args>();
  CLI::App* sub =
      app.add_subcommand("reduce",
                         "Cut a graph down to the nodes that show a problem: the engine "
                         "fails, or differs from the reference kernels");
  sub->add_option("model", args->model, "model.ir or model.pt2")->required();
  sub->add_option("-o,--output", args->output, "file for the reduced graph")->capture_default_str();
  sub->add_option("--test", args->test,
                  "another problem: a shell command that gets the file of a graph and exits with 0 "
                  "when that graph shows it");
  sub->add_option("--rtol", args->rtol, "difference that counts, in parts of an element's size")
      ->capture_default_str();
  sub->callback([args] { Reduce(*args); });
}

}  // namespace stator
