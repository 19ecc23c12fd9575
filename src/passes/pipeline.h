// The passes: one ordered list, and the one gate they all run through.
//
// In:  a graph of supported ops that verifies.
// Out: a graph that computes the same, cheaper for the stages behind: fewer nodes, merged products,
//      attention as one node, values in the order in which their kernels want them.
// Invariants: the graph verifies after each pass; graph inputs and outputs keep their types and the
// caller's order of dims; a weight's content is never read, since a refit may change it.
//
// The gate alone verifies, times, dumps (STATOR_DUMP: one file per pass) and counts rewrites
// (STATOR_FUEL=n stops after n of them; see docs/debugging.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ir/rewriter.h"

namespace stator {

struct Pass {
  std::string_view name;
  std::string_view doc;
  // Rewrites the graph to a fix point; answers whether it changed anything. A second run at once
  // changes nothing.
  bool (*fn)(Rewriter& rewriter);
};

// Passes that change results, in which types a graph computes.
struct Narrowing {
  bool truncate_wide = false;  // int64 and float64 as int32 and float32
  // float32 in this type: kFloat16 or kBFloat16; kFloat32 changes nothing.
  DType precision = DType::kFloat32;
};

// Whose kernels ask for further passes: none, the CUDA engine, the same with products of our own at
// any size (codegen/wgmma_kernel.cc).
enum class PassTarget { kAny, kCuda, kCudaWgmma };

// Every pass in the order of the pipeline; a pass that clears up after others appears repeatedly.
std::vector<Pass> AllPasses(const Narrowing& narrowing = {}, PassTarget target = PassTarget::kAny);

// The passes named, in the order given. Raises InvalidArgument, listing the valid names, for
// another name.
std::vector<Pass> FindPasses(const std::vector<std::string>& names);

struct PassTime {
  std::string_view name;
  double ms = 0;
  int64_t num_rewrites = 0;
};

// Runs `passes` in order and leaves the graph without dead nodes or unused constants. An Error
// raised by a pass or by verification behind it names the pass.
std::vector<PassTime> RunPasses(Graph& graph, const std::vector<Pass>& passes);

// The table of passes for docs/generated/passes.md.
std::string PassesToMarkdown();

}  // namespace stator
