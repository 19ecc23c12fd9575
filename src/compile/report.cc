#include "compile/report.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace stator {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxChoices = 6;  // of min_block_size
constexpr size_t kMaxListed = 8;   // tensors of a segment, places of a reason

int CountEngines(const Report& report) {
  return static_cast<int>(
      std::count_if(report.segments.begin(), report.segments.end(),
                    [](const ReportSegment& segment) { return segment.engine; }));
}

int FindLargestEngine(const Report& report) {
  int largest = 0;
  for (const ReportSegment& segment : report.segments) {
    if (segment.engine) largest = std::max(largest, segment.num_ops);
  }
  return largest;
}

std::vector<ReportTensor> DescribeValues(const Graph& graph, std::span<const ValueId> values) {
  std::vector<ReportTensor> tensors;
  for (ValueId id : values) {
    tensors.push_back({.name = NameOf(graph, id), .type = graph.type(id)});
  }
  return tensors;
}

ReportSegment DescribeSegment(const Graph& graph, const Segment& segment,
                              const PartitionOptions& options) {
  Boundary boundary = FindBoundary(graph, segment);
  ReportSegment result{.engine = segment.engine,
                       .num_ops = segment.num_ops,
                       .ops = {},
                       .inputs = DescribeValues(graph, boundary.inputs),
                       .outputs = DescribeValues(graph, boundary.outputs)};
  std::set<std::string> seen;
  for (NodeId id : segment.nodes) {
    const Node& node = graph.node(id);
    bool first = node.origin.name.empty() || seen.insert(node.origin.name).second;
    if (first) ++result.ops[FindOpName(node, options.targets)];
  }
  return result;
}

BlockSizeChoice TryBlockSize(const Graph& graph, PartitionOptions options, int min_block_size) {
  options.min_block_size = min_block_size;
  BlockSizeChoice choice{.min_block_size = min_block_size};
  for (const Segment& segment : PartitionGraph(graph, options).segments) {
    if (!segment.engine) continue;
    choice.num_engines += 1;
    choice.num_nodes_in_engines += segment.num_ops;
  }
  return choice;
}

// A min_block_size matters only where it equals the size of an engine that a lower one gives: those
// sizes, with what each gives. Of many, the least, the greatest and some between.
std::vector<BlockSizeChoice> FindChoices(const Graph& graph, PartitionOptions options) {
  options.min_block_size = 1;
  std::set<int> sizes;
  for (const Segment& segment : PartitionGraph(graph, options).segments) {
    if (segment.engine) sizes.insert(segment.num_ops);
  }
  std::vector<int> all(sizes.begin(), sizes.end());
  size_t count = std::min(all.size(), kMaxChoices);
  std::vector<BlockSizeChoice> choices;
  for (size_t i = 0; i < count; ++i) {
    size_t index = count == 1 ? 0 : i * (all.size() - 1) / (count - 1);
    choices.push_back(TryBlockSize(graph, options, all[index]));
  }
  return choices;
}

// ---- text

std::string Percent(int part, int whole) {
  return fmt::format("{:.1f} %", whole == 0 ? 100.0 : 100.0 * part / whole);
}

std::string Count(int number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

template <typename Items, typename Fn>
std::string Join(const Items& items, Fn&& describe) {
  std::string text;
  size_t listed = 0;
  for (const auto& item : items) {
    if (listed == kMaxListed) {
      return text + fmt::format(" and {} more", items.size() - listed);
    }
    text += (listed++ == 0 ? "" : ", ") + describe(item);
  }
  return text.empty() ? "nothing" : text;
}

std::string Tensors(const std::vector<ReportTensor>& tensors) {
  return Join(tensors, [](const ReportTensor& tensor) {
    return tensor.name + ": " + tensor.type.ToString();
  });
}

std::string SegmentsToText(const Report& report) {
  std::string text = "segments, in the order they run\n";
  text += fmt::format("  inputs     {}\n", Tensors(report.inputs));
  int num_engines = 0;
  for (const ReportSegment& segment : report.segments) {
    std::string label = segment.engine ? fmt::format("engine {}", ++num_engines) : "torch";
    std::string ops = Join(segment.ops, [](const auto& op) {
      return op.second == 1 ? op.first : fmt::format("{} x {}", op.second, op.first);
    });
    text += fmt::format("  {:<9}  {}: {}\n", label, Count(segment.num_ops, "op"), ops);
    text += fmt::format("             reads {}\n", Tensors(segment.inputs));
    text += fmt::format("             makes {}\n", Tensors(segment.outputs));
  }
  text += fmt::format("  outputs    {}\n", Tensors(report.outputs));
  for (const SymbolRange& symbol : report.symbols) {
    text += fmt::format("  where      {} in [{}, {}]\n", symbol.name, symbol.min, symbol.max);
  }
  return text;
}

// One entry per op and reason, with the places where the op stands.
std::string FallbacksToText(const std::vector<Fallback>& fallbacks) {
  if (fallbacks.empty()) return "left to torch: nothing\n";
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> places;
  for (const Fallback& fallback : fallbacks) {
    std::string place = fallback.node;
    if (!fallback.location.empty()) place += " at " + fallback.location;
    places[{fallback.op, fallback.reason}].push_back(std::move(place));
  }
  std::string text = "left to torch, unsupported or excluded\n";
  for (const auto& [key, list] : places) {
    text += fmt::format("  {:>4}  {}: {}\n", list.size(), key.first, key.second);
    text += fmt::format("        {}\n", Join(list, [](const std::string& place) { return place; }));
  }
  return text;
}

std::string ChoicesToText(const Report& report) {
  if (report.choices.empty()) return "";
  std::string text = "min_block_size\n";
  for (const BlockSizeChoice& choice : report.choices) {
    text += fmt::format("  {:>4}  would give {} with {} of {}\n", choice.min_block_size,
                        Count(choice.num_engines, "engine"), choice.num_nodes_in_engines,
                        Count(report.num_nodes, "op"));
  }
  return text;
}

// The passes that changed something.
std::string PassesToText(const Report& report) {
  std::string text;
  for (const StageTime& stage : report.stages) {
    for (const PassTime& pass : stage.passes) {
      if (pass.num_rewrites == 0) continue;
      text += fmt::format("  {:>8.2f} ms  {:>4} rewrites by {}\n", pass.ms, pass.num_rewrites,
                          pass.name);
    }
  }
  return text.empty() ? "" : "passes\n" + text;
}

// ---- JSON

Json TensorsToJson(const std::vector<ReportTensor>& tensors) {
  Json json = Json::array();
  for (const ReportTensor& tensor : tensors) {
    Json shape = Json::array();
    for (const Dim& dim : tensor.type.dims) {
      shape.push_back(dim.is_static() ? Json(dim.value()) : Json(dim.ToString()));
    }
    json.push_back(
        {{"name", tensor.name}, {"dtype", DTypeName(tensor.type.dtype)}, {"shape", shape}});
  }
  return json;
}

Json SegmentsToJson(const std::vector<ReportSegment>& segments) {
  Json json = Json::array();
  for (const ReportSegment& segment : segments) {
    json.push_back({{"kind", segment.engine ? "engine" : "torch"},
                    {"num_ops", segment.num_ops},
                    {"ops", segment.ops},
                    {"inputs", TensorsToJson(segment.inputs)},
                    {"outputs", TensorsToJson(segment.outputs)}});
  }
  return json;
}

Json FallbacksToJson(const std::vector<Fallback>& fallbacks) {
  Json json = Json::array();
  for (const Fallback& fallback : fallbacks) {
    json.push_back({{"node", fallback.node},
                    {"op", fallback.op},
                    {"location", fallback.location},
                    {"reason", fallback.reason},
                    {"supported", fallback.supported}});
  }
  return json;
}

Json ChoicesToJson(const std::vector<BlockSizeChoice>& choices) {
  Json json = Json::array();
  for (const BlockSizeChoice& choice : choices) {
    json.push_back({{"min_block_size", choice.min_block_size},
                    {"num_engines", choice.num_engines},
                    {"num_nodes_in_engines", choice.num_nodes_in_engines}});
  }
  return json;
}

}  // namespace

void Report::Describe(const Graph& described, const Partitioning& partitioning,
                      const PartitionOptions& options) {
  graph = described.name;
  inputs = DescribeValues(described, described.inputs());
  outputs = DescribeValues(described, described.outputs());
  symbols = described.symbols;
  for (const Segment& segment : partitioning.segments) {
    num_nodes += segment.num_ops;
    if (segment.engine) num_nodes_in_engines += segment.num_ops;
    segments.push_back(DescribeSegment(described, segment, options));
  }
  fallbacks = partitioning.fallbacks;
  num_supported = num_nodes;
  for (const Fallback& fallback : fallbacks) num_supported -= fallback.supported ? 0 : 1;
  choices = FindChoices(described, options);
}

std::string NameOf(const Graph& graph, ValueId id) {
  const Value& value = graph.value(id);
  if (value.kind == ValueKind::kWeight) return "weight:" + value.name;
  return value.name.empty() ? fmt::format("%{}", id.index) : value.name;
}

std::string ReportToText(const Report& report) {
  int num_engines = CountEngines(report);
  std::string text =
      fmt::format("graph @{}{}: {} of {} supported, {} coverage\n", report.graph,
                  report.dryrun ? " (dry run: nothing was built)" : "", report.num_supported,
                  Count(report.num_nodes, "op"), Percent(report.num_supported, report.num_nodes));
  text += fmt::format("{} in {} ({})", Count(report.num_nodes_in_engines, "op"),
                      Count(num_engines, "engine"),
                      Percent(report.num_nodes_in_engines, report.num_nodes));
  if (num_engines > 0) {
    text += fmt::format(", {:.1f} on average and {} at most",
                        static_cast<double>(report.num_nodes_in_engines) / num_engines,
                        FindLargestEngine(report));
  }
  text += "\n";
  text += SegmentsToText(report) + FallbacksToText(report.fallbacks) + ChoicesToText(report);
  if (!report.settings.empty()) text += "settings\n";
  for (const auto& [name, value] : report.settings) text += fmt::format("  {} = {}\n", name, value);
  text += "time: " + Join(report.stages, [](const StageTime& stage) {
            return fmt::format("{} {:.0f} ms", stage.name, stage.ms);
          });
  return text + "\n" + PassesToText(report);
}

std::string ReportToJson(const Report& report) {
  int num_engines = CountEngines(report);
  Json symbols = Json::object();
  for (const SymbolRange& symbol : report.symbols) symbols[symbol.name] = {symbol.min, symbol.max};
  Json json;
  json["graph"] = {{"name", report.graph},
                   {"inputs", TensorsToJson(report.inputs)},
                   {"outputs", TensorsToJson(report.outputs)},
                   {"symbols", symbols}};
  json["num_nodes"] = report.num_nodes;
  json["num_supported"] = report.num_supported;
  json["num_nodes_in_engines"] = report.num_nodes_in_engines;
  json["coverage"] =
      report.num_nodes == 0 ? 1.0 : static_cast<double>(report.num_supported) / report.num_nodes;
  json["segments"] = SegmentsToJson(report.segments);
  json["fallbacks"] = FallbacksToJson(report.fallbacks);
  json["num_engines"] = num_engines;
  json["ops_per_engine"] = {
      {"average",
       num_engines == 0 ? 0.0 : static_cast<double>(report.num_nodes_in_engines) / num_engines},
      {"most", FindLargestEngine(report)}};
  json["min_block_size"] = ChoicesToJson(report.choices);
  json["settings"] = report.settings;
  json["dryrun"] = report.dryrun;
  json["stages"] = Json::array();
  for (const StageTime& stage : report.stages) {
    Json passes = Json::array();
    for (const PassTime& pass : stage.passes) {
      passes.push_back({{"name", pass.name}, {"ms", pass.ms}, {"rewrites", pass.num_rewrites}});
    }
    json["stages"].push_back({{"name", stage.name}, {"ms", stage.ms}, {"passes", passes}});
  }
  return json.dump();
}

}  // namespace stator
