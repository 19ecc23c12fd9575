#include "passes/pipeline.h"

#include <algorithm>
#include <chrono>
#include <set>

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/knobs.h"
#include "base/log.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/passes.h"

namespace stator {
namespace {

constexpr Pass kSimplify{"simplify", "algebra on single nodes, constants to the right", Simplify};
constexpr Pass kSimplifyViews{"simplify_views", "chains of views as few views", SimplifyViews};
constexpr Pass kFoldLiterals{"fold_literals", "nodes over literals become literals", FoldLiterals};
constexpr Pass kEliminateCommon{"eliminate_common", "equal nodes and literals become one",
                                EliminateCommon};
constexpr Pass kMatchActivations{"match_activations", "spelled-out activations become one node",
                                 MatchActivations};
constexpr Pass kFoldBatchNorm{"fold_batch_norm",
                              "scales and shifts behind a convolution go into it", FoldBatchNorm};
constexpr Pass kMatchAttention{"match_attention", "spelled-out attention becomes one node",
                               MatchAttention};
constexpr Pass kFlattenMatmuls{"flatten_matmuls", "products with one matrix get two dims",
                               FlattenMatmuls};
constexpr Pass kSinkViews{"sink_views", "views move behind pointwise nodes and cancel", SinkViews};
constexpr Pass kMergeMatmuls{"merge_matmuls",
                             "products of one value with several weights become one", MergeMatmuls};
constexpr Pass kEliminateDead{"eliminate_dead", "nodes that nobody reads go", EliminateDead};
constexpr Pass kAssignLayout{"assign_layout", "convolutions channels-last, attention as its reader",
                             AssignLayout};

constexpr Pass kPipeline[] = {
    kEliminateDead,  // before all: what nobody reads must not count as a use
    kSimplifyViews,    kSimplify,      kFoldLiterals,
    kEliminateCommon,   // before the matchers: they look for one value with two readers
    kMatchActivations,  // before sink_views: a chain is moved at once where it is one node
    kFoldBatchNorm,
    kMatchAttention,  // before flatten_matmuls, which takes the batch dims away
    kFlattenMatmuls,   kSinkViews,
    kSimplifyViews,  // what sink_views brought together
    kFoldLiterals,
    kEliminateCommon,  // before merge_matmuls: the same view of x, read by three products, is one
    kMergeMatmuls,     kSimplifyViews, kEliminateCommon, kEliminateDead,
    kAssignLayout,  // last: passes above make values without an order
};

// Runs one pass at the gate.
PassTime RunPass(Graph& graph, const Pass& pass, Fuel& fuel) {
  Rewriter rewriter(graph, &fuel);
  auto start = std::chrono::steady_clock::now();
  try {
    pass.fn(rewriter);
    if (rewriter.changed()) VerifyGraph(graph);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("pass {}: {}", pass.name, error.message()), error.node(),
                error.where());
  }
  std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
  DumpText(fmt::format("pass_{}", pass.name),
           [&] { return rewriter.changed() ? PrintGraph(graph) : "(unchanged)\n"; });
  return {.name = pass.name, .ms = elapsed.count(), .num_rewrites = rewriter.num_rewrites()};
}

}  // namespace

std::vector<Pass> AllPasses() { return {std::begin(kPipeline), std::end(kPipeline)}; }

std::vector<Pass> FindPasses(const std::vector<std::string>& names) {
  std::vector<Pass> passes;
  for (const std::string& name : names) {
    auto it = std::find_if(std::begin(kPipeline), std::end(kPipeline),
                           [&](const Pass& pass) { return pass.name == name; });
    if (it == std::end(kPipeline)) {
      std::set<std::string_view> valid;
      for (const Pass& pass : kPipeline) valid.insert(pass.name);
      Fail(ErrorKind::kInvalidArgument, "there is no pass `{}`: expected one of {}", name,
           fmt::join(valid, ", "));
    }
    passes.push_back(*it);
  }
  return passes;
}

std::vector<PassTime> RunPasses(Graph& graph, const std::vector<Pass>& passes) {
  Fuel fuel{.left = GetIntKnob("STATOR_FUEL")};
  std::vector<PassTime> times;
  for (const Pass& pass : passes) {
    bool had_fuel = fuel.left != 0;
    times.push_back(RunPass(graph, pass, fuel));
    const PassTime& time = times.back();
    Log().debug("pass {} made {} rewrites in {:.2f} ms", time.name, time.num_rewrites, time.ms);
    if (had_fuel && fuel.left == 0) {
      Log().warn("fuel is spent: the last rewrite is number {} of pass {}, at {}",
                 time.num_rewrites, time.name, fuel.last);
    }
  }
  graph = Compact(graph);
  return times;
}

std::string PassesToMarkdown() {
  std::string text =
      "# Passes\n\nIn the order in which they run; generated from `src/passes/pipeline.cc`.\n\n"
      "| # | pass | what it does |\n|---|---|---|\n";
  int count = 0;
  for (const Pass& pass : kPipeline) {
    text += fmt::format("| {} | `{}` | {} |\n", ++count, pass.name, pass.doc);
  }
  return text;
}

}  // namespace stator
