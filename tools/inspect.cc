// stator inspect: what is in a plan, or how a .pt2 archive would be parted.
#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "base/error.h"
#include "compile/compile.h"
#include "import/import.h"
#include "ir/print.h"
#include "tools/cli.h"
#include "tools/model_file.h"

namespace stator {
namespace {

struct Args {
  std::string file;
  bool text = false;
  bool json = false;
  int min_block_size = 1;
};

// "f32[1, 64]" of a step's first output, in what storage it lies.
std::string OutputOf(const Plan& plan, const Step& step) {
  if (step.outputs.empty()) return "";
  const PlanTensor& tensor = plan.tensors[static_cast<size_t>(step.outputs.front())];
  return std::string(DTypeName(tensor.dtype)) + DimsToString(tensor.dims);
}

// "53 conv, 2 pool" in order of kind.
std::string CountKinds(const std::vector<Step>& steps) {
  std::map<StepKind, int> counts;
  for (const Step& step : steps) ++counts[step.kind];
  std::string text;
  for (const auto& [kind, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, StepKindName(kind));
  }
  return text.empty() ? "none" : text;
}

// The bytes of all buffers together, or their expression when they depend on symbols.
std::string TotalBytes(const std::vector<PlanBuffer>& buffers) {
  Dim total = 0;
  for (const PlanBuffer& buffer : buffers) total = total + buffer.bytes;
  return total.is_static() ? BytesToString(total.value()) : total.ToString() + " bytes";
}

std::string ArenaBytes(const Plan& plan) {
  std::vector<int64_t> bytes;
  for (const PlanBuffer& buffer : plan.arena) {
    if (!buffer.bytes.is_static()) return TotalBytes(plan.arena) + " if nothing is shared";
    bytes.push_back(buffer.bytes.value());
  }
  return BytesToString(PlanMemory(plan.arena, bytes).back());
}

void PrintPorts(std::string_view label, const std::vector<PlanPort>& ports) {
  for (const PlanPort& port : ports) {
    fmt::print("{:<9} {}{}{}\n", label, port.name, port.name.empty() ? "" : ": ", PortType(port));
    label = "";
  }
}

void PrintSteps(std::string_view label, const Plan& plan, const std::vector<Step>& steps) {
  fmt::print("{:<9} {}: {}\n", label, steps.size(), CountKinds(steps));
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    fmt::print("  {:>4}  {:<9}  {:<24}  {}{}{}\n", i, StepKindName(step.kind), OutputOf(plan, step),
               step.attrs.ToString(), step.attrs.empty() ? "" : "  ", step.origin);
  }
}

void InspectPlan(const Plan& plan) {
  int64_t weight_bytes = 0, carried_bytes = 0;
  for (const PlanWeight& weight : plan.weights) {
    int64_t count = 1;
    for (int64_t size : weight.dims) count *= size;
    weight_bytes += count * static_cast<int64_t>(DTypeSize(weight.dtype));
    carried_bytes += static_cast<int64_t>(weight.data.size);
  }
  fmt::print("{:<9} @{} for {}, format version {}\n", "plan", plan.name, plan.target, kPlanVersion);
  for (const SymbolRange& symbol : plan.symbols) {
    fmt::print("{:<9} {} in [{}, {}]\n", "symbol", symbol.name, symbol.min, symbol.max);
  }
  PrintPorts("inputs", plan.inputs);
  PrintPorts("outputs", plan.outputs);
  fmt::print("{:<9} {}: {}, of which the file carries {}\n", "weights", plan.weights.size(),
             BytesToString(weight_bytes), BytesToString(carried_bytes));
  fmt::print("{:<9} {}: {}\n", "derived", plan.derived.size(), TotalBytes(plan.derived));
  fmt::print("{:<9} {}: {}\n", "arena", plan.arena.size(), ArenaBytes(plan));
  PrintSteps("prologue", plan, plan.prologue);
  PrintSteps("steps", plan, plan.steps);
}

// The report of a dry run.
void InspectArchive(const Args& args) {
  ImportedGraph imported = ImportArchive(args.file);
  if (args.text) {
    fmt::print("{}", PrintGraph(imported.graph));
    return;
  }
  Report report = MakeDryRunReport(imported, {.min_block_size = args.min_block_size});
  fmt::print("{}", args.json ? ReportToJson(report) + "\n" : ReportToText(report));
}

void Inspect(const Args& args) {
  if (args.file.ends_with(".pt2")) return InspectArchive(args);
  Plan plan = ReadPlan(args.file);
  if (args.text) {
    fmt::print("{}", PlanToText(plan));
  } else {
    InspectPlan(plan);
  }
}

}  // namespace

void AddInspect(CLI::App& app) {
  auto args = std::make_shared<Args>();
  CLI::App* sub = app.add_subcommand("inspect",
                                     "Show what a plan does, or how a .pt2 archive "
                                     "would be parted between engines and torch");
  sub->add_option("file", args->file, "model.plan or model.pt2")->required();
  sub->add_flag("--text", args->text, "the whole plan or graph as text");
  sub->add_flag("--json", args->json, "the report of a .pt2 archive as JSON");
  sub->add_option("--min-block-size", args->min_block_size,
                  "fewest operators per engine of a .pt2 archive")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->callback([args] { Inspect(*args); });
}

}  // namespace stator
