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
constexpr Pass kMatchNorms{"match_norms", "spelled-out layer and RMS norms become one node",
                           MatchNorms};
constexpr Pass kFoldBatchNorm{"fold_batch_norm",
                              "scales and shifts behind a convolution go into it", FoldBatchNorm};
constexpr Pass kMatchAttention{"match_attention", "spelled-out attention becomes one node",
                               MatchAttention};
constexpr Pass kSimplifyAttention{
    "simplify_attention",
    "literal masks become causal, repeated heads groups, wide attention narrow", SimplifyAttention};
constexpr Pass kFlattenMatmuls{"flatten_matmuls", "products with one matrix get two dims",
                               FlattenMatmuls};
constexpr Pass kSinkViews{"sink_views", "views move behind pointwise nodes and cancel", SinkViews};
constexpr Pass kMergeMatmuls{"merge_matmuls",
                             "products of one value with several weights become one", MergeMatmuls};
constexpr Pass kEliminateDead{"eliminate_dead", "nodes that nobody reads go", EliminateDead};
constexpr Pass kAssignLayout{"assign_layout", "convolutions channels-last, attention as its reader",
                             AssignLayout};
constexpr Pass kTruncateWide{"truncate_wide", "int64 and float64 computed as int32 and float32",
                             TruncateWide};
constexpr Pass kComputeInHalf{"compute_in_half", "float32 products and what follows in float16",
                              ComputeInHalf};
constexpr Pass kComputeInBFloat16{
    "compute_in_bfloat16", "float32 products and what follows in bfloat16", ComputeInBFloat16};

constexpr Pass kDecomposeNorms{"decompose_norms", "norms that are no work on rows, spelled out",
                               DecomposeNorms};
constexpr Pass kPatchesToProducts{
    "patches_to_products", "convolutions of windows side by side as products", PatchesToProducts};
constexpr Pass kPadProducts{"pad_products", "matrices of an odd number of columns get more",
                            PadProducts};
constexpr Pass kPadProductsAlongColumns{"pad_products_along_columns",
                                        "the same, but for matrices that lie along the sum",
                                        PadProductsAlongColumns};
constexpr Pass kSplitConcats{"split_concats", "sums of products over a concat part by part",
                             SplitConcats};
constexpr Pass kMatchRolls{"match_rolls", "the end of a dim put before its start as a roll",
                           MatchRolls};
constexpr Pass kPackConvolutions{
    "pack_convolutions", "operands of convolutions channels-last, by copies", PackConvolutions};

constexpr Pass kPipeline[] = {
    // Before all others: what nobody reads must not count as a use.
    kEliminateDead,
    // Canonical forms, before the matchers: they look for one spelling, and for one value with two
    // readers.
    kSimplifyViews,
    kSimplify,
    kFoldLiterals,
    kEliminateCommon,
    // Before sink_views: a chain that is one node moves at once.
    kMatchActivations,
    kMatchNorms,
    kFoldBatchNorm,
    // Before flatten_matmuls, which takes the batch dims away.
    kMatchAttention,
    // Before simplify_attention: a mask that was inverted is a literal again, and may be causal;
    // keys that were repeated for groups of heads are one reshape of the expand.
    kSimplifyViews,
    kFoldLiterals,
    kSimplifyAttention,
    // Before sink_views, which moves the reshapes that this makes out of the epilogues.
    kFlattenMatmuls,
    kSinkViews,
    // Before merge_matmuls: views of x that three products read become one view, and what the
    // matchers left behind reads no product.
    kSimplifyViews,
    kFoldLiterals,
    kEliminateCommon,
    kEliminateDead,
    kMergeMatmuls,
    kSimplifyViews,
    kEliminateCommon,
    kEliminateDead,
    // Last: the passes above make values without an order.
    kAssignLayout,
};

// Where AllPasses puts each when it is asked for.
constexpr Pass kOptional[] = {
    kTruncateWide,      kComputeInHalf,   kComputeInBFloat16,       kDecomposeNorms,
    kPatchesToProducts, kPadProducts,     kPadProductsAlongColumns, kSplitConcats,
    kMatchRolls,        kPackConvolutions};

// Runs one pass at the gate.
PassTime RunPass(Graph& graph, const Pass& pass, Fuel& fuel) {
  Rewriter rewriter(graph, &fuel);
  auto start = std::chrono::steady_clock::now();
  try {
    bool changed = pass.fn(rewriter);
    STATOR_CHECK(changed == rewriter.changed(), "it says wrongly whether it changed the graph");
    if (changed) VerifyGraph(graph);
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

std::vector<Pass> AllPasses(const Narrowing& narrowing, PassTarget target) {
  std::vector<Pass> passes(std::begin(kPipeline), std::end(kPipeline));
  // First: the matchers look for float32.
  if (narrowing.truncate_wide) passes.insert(passes.begin(), kTruncateWide);
  if (narrowing.precision != DType::kFloat32) {
    bool half = narrowing.precision == DType::kFloat16;
    // Behind the matchers and the folding of norms into products, which casts between would stop;
    // before assign_layout, which stays the last.
    passes.insert(passes.end() - 1, {half ? kComputeInHalf : kComputeInBFloat16, kSimplify,
                                     kFoldLiterals, kEliminateCommon, kEliminateDead});
  }
  if (target != PassTarget::kAny) {
    const Pass& pad = target == PassTarget::kCudaWgmma ? kPadProductsAlongColumns : kPadProducts;
    // Behind what folds into convolutions, before the passes that simplify its views.
    auto is_match = [](const Pass& pass) { return pass.fn == MatchAttention; };
    passes.insert(std::ranges::find_if(passes, is_match), kPatchesToProducts);
    // Behind the choice of types, which keeps a softmax in float32 as a whole.
    passes.insert(passes.end() - 1, {kDecomposeNorms, pad, kMatchRolls, kSplitConcats,
                                     kSimplifyViews, kSimplify, kFoldLiterals, kEliminateCommon});
    passes.push_back(kPackConvolutions);  // behind assign_layout, whose orders it completes
  }
  return passes;
}

std::vector<Pass> FindPasses(const std::vector<std::string>& names) {
  std::vector<Pass> known(std::begin(kPipeline), std::end(kPipeline));
  known.insert(known.end(), std::begin(kOptional), std::end(kOptional));
  std::vector<Pass> passes;
  for (const std::string& name : names) {
    auto it = std::find_if(known.begin(), known.end(),
                           [&](const Pass& pass) { return pass.name == name; });
    if (it == known.end()) {
      std::set<std::string_view> valid;
      for (const Pass& pass : known) valid.insert(pass.name);
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
      "# Passes\n\nIn the order in which they run (src/passes/pipeline.cc). Written by `stator "
      "passes`; `make golden` renews it.\n\n| # | pass | what it does |\n|---|---|---|\n";
  int count = 0;
  for (const Pass& pass : kPipeline) {
    text += fmt::format("| {} | `{}` | {} |\n", ++count, pass.name, pass.doc);
  }
  for (const Pass& pass : kOptional) {
    text += fmt::format("| where asked for | `{}` | {} |\n", pass.name, pass.doc);
  }
  return text;
}

}  // namespace stator
