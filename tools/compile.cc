// stator compile: a model becomes a plan. stator opt: a graph after some passes or stages, as text.
#include "compile/compile.h"

#include <memory>

#include <fmt/format.h>

#include "base/file_map.h"
#include "ir/print.h"
#include "passes/pipeline.h"
#include "tools/cli.h"
#include "tools/model_file.h"

namespace stator {
namespace {

const std::vector<std::string> kStages = {"passes", "fuse", "emit"};

struct CompileArgs {
  std::string model, output, stop_after;
  CompileOptions options;
};

void RunCompile(const CompileArgs& args) {
  Graph graph = ReadModel(args.model);
  if (!args.stop_after.empty()) {
    std::string text = CompileGraphUntil(std::move(graph), args.options, args.stop_after);
    if (args.output.empty()) {
      fmt::print("{}", text);
    } else {
      WriteText(args.output, text);
    }
    return;
  }
  std::string output = args.output.empty() ? args.model + ".plan" : args.output;
  std::vector<StageTime> stages;
  std::shared_ptr<const Plan> plan = CompileGraph(std::move(graph), args.options, &stages);
  std::vector<std::byte> bytes = PlanToBytes(*plan);
  WriteFile(output, bytes);
  fmt::print("{}: {} steps, {}", output, plan->steps.size(),
             BytesToString(static_cast<int64_t>(bytes.size())));
  for (const StageTime& stage : stages) fmt::print("; {} {:.0f} ms", stage.name, stage.ms);
  fmt::print("\n");
}

struct OptArgs {
  std::string model, stop_after = "passes";
  std::vector<std::string> passes;
};

void RunOpt(const OptArgs& args) {
  Graph graph = ReadModel(args.model);
  if (args.passes.empty()) {
    fmt::print("{}", CompileGraphUntil(std::move(graph), {}, args.stop_after));
    return;
  }
  RunPasses(graph, FindPasses(args.passes));
  CompileOptions options;
  options.start_at = "fuse";
  fmt::print("{}", args.stop_after == "passes"
                       ? PrintGraph(graph)
                       : CompileGraphUntil(std::move(graph), options, args.stop_after));
}

}  // namespace

void AddCompile(CLI::App& app) {
  auto args = std::make_shared<CompileArgs>();
  CLI::App* sub = app.add_subcommand("compile", "Compile a .pt2 archive or .ir text to a plan");
  sub->add_option("model", args->model, "model.pt2 (torch.export.save) or model.ir")->required();
  sub->add_option("-o,--output", args->output,
                  "file for the plan (default: model.pt2.plan), or for --stop-after's text "
                  "(default: stdout)");
  sub->add_option("--target", args->options.device,
                  "cpu; a GPU that is there: cuda, cuda:1; or the arch of one that is not: sm_80, "
                  "sm_90, sm_90a, sm_100, compute_80 (PTX for all of them)")
      ->capture_default_str();
  TacticLimits& limits = args->options.limits;
  sub->add_option("--workspace-size", limits.workspace_size,
                  "most bytes of scratch memory for a GPU's kernel; 0: as many as it likes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_flag("--hardware-compatible", limits.hardware_compatible,
                "a plan for every GPU from sm_80 on (PTX), or for every CPU with AVX2");
  sub->add_option("--timing-cache", args->options.timing_cache,
                  "file of measured tactics, read and added to");
  sub->add_option("--optimization-level", args->options.optimization_level,
                  "0: no measuring ... 5: measure every tactic")
      ->check(CLI::Range(0, 5))
      ->capture_default_str();
  sub->add_option("--stop-after", args->stop_after, "write the text that this stage made")
      ->check(CLI::IsMember(kStages));
  sub->add_option("--start-at", args->options.start_at,
                  "first stage to run, on text that --stop-after wrote")
      ->check(CLI::IsMember(kStages));
  sub->callback([args] { RunCompile(*args); });
}

void AddOpt(CLI::App& app) {
  auto args = std::make_shared<OptArgs>();
  CLI::App* sub = app.add_subcommand("opt", "Print a graph after passes or stages");
  sub->add_option("model", args->model, "model.ir or model.pt2")->required();
  sub->add_option("--passes", args->passes, "passes to run, in order (default: the pipeline's)")
      ->delimiter(',');
  sub->add_option("--stop-after", args->stop_after, "stage to stop after")
      ->check(CLI::IsMember(kStages))
      ->capture_default_str();
  sub->callback([args] { RunOpt(*args); });
}

}  // namespace stator
