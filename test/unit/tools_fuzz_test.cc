// Differential fuzzing in small: a slice of the random graphs of `make fuzz`, the reduced graphs
// that once differed, the judge's bounds, and the search for the least graph that differs.
#include <filesystem>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fuzz/random_graph.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "ops/draw.h"
#include "ops/evaluate.h"
#include "passes/pipeline.h"
#include "tools/difference.h"
#include "tools/judge.h"
#include "tools/model_file.h"
#include "tools/reduce.h"
#include "tools/session.h"

namespace stator {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr Comparison kBoth[] = {Comparison::kPasses, Comparison::kEngine};

// ---- random graphs
TEST(Fuzz, RandomGraphsDoNotDiffer) {
  DifferenceStats stats;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Graph graph = MakeAnyGraph(seed);
    for (Comparison comparison : kBoth) {
      EXPECT_EQ(FindDifference(graph, comparison, seed, &stats), "") << "seed " << seed << "\n"
                                                                     << PrintGraph(graph);
    }
  }
  // A judge without bounds would find nothing.
  EXPECT_LT(stats.num_unbounded * 50, stats.num_elements);
}

TEST(Fuzz, RandomGraphsRoundTrip) {
  std::set<std::string> ops;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    Graph graph = MakeAnyGraph(seed);
    VerifyGraph(graph);
    std::string text = PrintGraph(graph);
    EXPECT_EQ(PrintGraph(ParseGraph(text)), text) << "seed " << seed;
    EXPECT_EQ(PrintGraph(MakeAnyGraph(seed)), text) << "seed " << seed;
    for (NodeId id : graph.nodes()) ops.insert(std::string(graph.node(id).op->name));
  }
  // Every row of the table is drawn sooner or later.
  for (const OpDef* op : AllOps()) {
    if (op->reference != nullptr && !op->samples.empty()) {
      EXPECT_TRUE(ops.contains(std::string(op->name))) << op->name;
    }
  }
}

// What once differed, reduced: test/golden/fuzz/<what>_<seed>.ir.
TEST(Fuzz, KeptGraphsDoNotDiffer) {
  for (const auto& file : fs::directory_iterator(fs::path(STATOR_GOLDEN_DIR) / "fuzz")) {
    std::string stem = file.path().stem().string();
    uint64_t seed = std::stoull(stem.substr(stem.rfind('_') + 1));
    Graph graph = ReadModel(file.path().string());
    for (Comparison comparison : kBoth) {
      EXPECT_EQ(FindDifference(graph, comparison, seed), "") << file.path();
    }
  }
}

// ---- the judge
std::string Judged(std::string_view text, const ComputeFn& compute) {
  return FindDifferenceOf(ParseGraph(text), 3, compute);
}

ComputeFn Evaluated(std::string_view text, double factor = 1) {
  auto graph = std::make_shared<Graph>(ParseGraph(text));
  return [=](std::span<const TensorRef> inputs, const SymbolValues& symbols) {
    std::vector<HostTensor> outputs = EvaluateGraph(*graph, inputs, symbols);
    for (HostTensor& output : outputs) {
      if (output.ref.dtype != DType::kFloat32) continue;
      for (int64_t i = 0; i < output.ref.num_elements(); ++i) {
        float& element = Data<float>(output.ref)[i];
        element = static_cast<float>(element * factor);
      }
    }
    return outputs;
  };
}

TEST(Judge, AllowsWhatRoundingDoes) {
  constexpr std::string_view kSum =
      "graph @g(%x: f32[40, 50]) {\n  %0 = sum(%x) {axes = [1], keepdim = false}\n  return %0\n}";
  constexpr std::string_view kOtherOrder =
      "graph @g(%x: f32[40, 50]) {\n  %0 = flip(%x) {axes = [1]}\n"
      "  %1 = cumsum(%0) {dim = 1}\n"
      "  %2 = slice(%1) {dim = 1, start = 49, end = 50, step = 1}\n"
      "  %3 = reshape(%2) {dims = [40]}\n  return %3\n}";
  EXPECT_EQ(Judged(kSum, Evaluated(kOtherOrder)), "");
  EXPECT_EQ(Judged(kSum, Evaluated(kSum, 1 + 1e-7)), "");
  EXPECT_THAT(Judged(kSum, Evaluated(kSum, 1 + 1e-4)), HasSubstr("output 0, element"));
}

TEST(Judge, AllowsNothingWhereNothingRounds) {
  constexpr std::string_view kMoved =
      "graph @g(%x: f32[4, 5]) {\n  %0 = permute(%x) {perm = [1, 0]}\n  %1 = abs(%0)\n"
      "  return %1\n}";
  EXPECT_EQ(Judged(kMoved, Evaluated(kMoved)), "");
  EXPECT_THAT(Judged(kMoved, Evaluated(kMoved, 1 + 2e-7)), HasSubstr("+- 0"));
}

TEST(Judge, SaysNothingWhereRoundingDecides) {
  // n * 3 / 3 is n, or a little less.
  constexpr std::string_view kFloor =
      "graph @g(%x: f32[64]) {\n  literal %c: f32[] = [3]\n  %0 = floor(%x)\n"
      "  %1 = mul(%0, %c)\n  %2 = div(%1, %c)\n  %3 = cast(%2) {dtype = i64}\n  return %3\n}";
  Graph graph = ParseGraph(kFloor);
  std::vector<HostTensor> inputs = DrawInputs(graph, {}, 1);
  std::vector<TensorRef> refs = Refs(inputs);
  Judge judge(graph, refs, {});
  judge.Bounds(64);
  EXPECT_GT(judge.num_unbounded(), 0);  // all but the zeros
}

int64_t NumUndecided(std::string_view text) {
  Graph graph = ParseGraph(text);
  std::vector<HostTensor> inputs = DrawInputs(graph, {}, 1);
  std::vector<TensorRef> refs = Refs(inputs);
  Judge judge(graph, refs, {});
  judge.Bounds(64);
  return judge.num_unbounded();
}

// The greater of two logarithms of a softmax is -exp(-distance), or 0 where float32 cannot tell.
TEST(Judge, SaysNothingWhereZeroIsWithinRounding) {
  constexpr std::string_view kDecides =
      "graph @g(%x: f32[8, 2]) {{\n  literal %c: f32[] = [0.001]\n"
      "  literal %o: f32[2] = [0, {}]\n  %0 = mul(%x, %c)\n  %1 = add(%0, %o)\n"
      "  %2 = log_softmax(%1) {{axis = 1}}\n  %3 = {}\n  return %3\n}}";
  for (std::string_view decision :
       {"all(%2) {axes = [1], keepdim = false}", "logical_not(%2)", "cast(%2) {dtype = bool}"}) {
    EXPECT_EQ(NumUndecided(fmt::format(kDecides, 18, decision)), 8) << decision;
    EXPECT_EQ(NumUndecided(fmt::format(kDecides, 3, decision)), 0) << decision;
  }
}

// n * 0.1 / 0.1 is n, or near it.
TEST(Judge, SaysNothingWhereNumbersMayBeEqual) {
  constexpr std::string_view kDecides =
      "graph @g(%n: f32[6]) {{\n  literal %c: f32[] = [0.1]\n"
      "  literal %o: f32[6] = [3, 5, 7, 9, 11, 13]\n  %0 = mul(%o, %c)\n  %1 = div(%0, %c)\n"
      "  %2 = {}(%1, %{})\n  return %2\n}}";
  for (std::string_view compare : {"eq", "ne", "lt", "le", "gt", "ge"}) {
    EXPECT_EQ(NumUndecided(fmt::format(kDecides, compare, "o")), 6) << compare;
    EXPECT_EQ(NumUndecided(fmt::format(kDecides, compare, "n")), 0) << compare;
  }
}

TEST(Judge, SeesAWrongDecision) {
  constexpr std::string_view kRight =
      "graph @g(%x: f32[4096], %y: f32[4096]) {\n  %0 = exp(%x)\n  %1 = exp(%y)\n  %2 = lt(%0, "
      "%1)\n"
      "  return %2\n}";
  constexpr std::string_view kWrong =  // by a relative 1e-2
      "graph @g(%x: f32[4096], %y: f32[4096]) {\n  literal %c: f32[] = [1.01]\n  %0 = exp(%x)\n"
      "  %1 = exp(%y)\n  %2 = mul(%0, %c)\n  %3 = lt(%2, %1)\n  return %3\n}";
  EXPECT_EQ(Judged(kRight, Evaluated(kRight)), "");
  EXPECT_THAT(Judged(kRight, Evaluated(kWrong)), HasSubstr("output 0, element"));
}

TEST(Judge, SeesOtherTypesAndErrors) {
  constexpr std::string_view kText = "graph @g(%x: f32[4]) {\n  %0 = neg(%x)\n  return %0\n}";
  EXPECT_THAT(Judged(kText, Evaluated("graph @g(%x: f32[4]) {\n  %0 = isnan(%x)\n  return %0\n}")),
              HasSubstr("expected f32[4]"));
  EXPECT_THAT(Judged(kText,
                     [](auto, const auto&) -> std::vector<HostTensor> {
                       Fail(ErrorKind::kInternal, "broken");
                     }),
              HasSubstr("broken"));
}

// ---- the search
// A pass with a mistake: it swaps the operands of a subtraction of rows of at least 3.
bool SwapOperands(Rewriter& rewriter) {
  bool changed = false;
  for (NodeId id : rewriter.graph().nodes()) {
    const Node node = rewriter.graph().node(id);
    const TensorType& type = rewriter.graph().type(node.outputs[0]);
    bool wide = !type.dims.empty() && type.dims.back().is_static() && type.dims.back().value() >= 3;
    if (node.op->name != "sub" || !wide || !rewriter.Start()) continue;
    rewriter.SetInput(id, 0, node.inputs[1]);
    rewriter.SetInput(id, 1, node.inputs[0]);
    changed = true;
  }
  return changed;
}

bool BrokenPassShows(const Graph& graph) {
  Graph passed = graph;
  RunPasses(passed, {{"swap_operands", "wrong", SwapOperands}});
  return !FindDifferenceOf(graph, 1, [&](auto inputs, const auto& symbols) {
            return EvaluateGraph(passed, inputs, symbols);
          }).empty();
}

TEST(Reduce, FindsABrokenPass) {
  Graph graph = ParseGraph(R"(graph @g(%x: f32[s0, 6], %y: f32[s0, 6]) where s0 in [1, 64] {
    %0 = exp(%x)
    %1 = add(%0, %y)
    %2 = sub(%1, %x)
    %3 = tanh(%2)
    %4 = sum(%3) {axes = [1], keepdim = false}
    return %4, %1, %3
  })");
  ASSERT_TRUE(BrokenPassShows(graph));
  EXPECT_EQ(PrintGraph(ReduceGraph(graph, BrokenPassShows, 1)),
            "graph @g(%x: f32[1, 1], %cut1: f32[1, 3]) {\n"
            "  %0 = sub(%cut1, %x) : f32[1, 3]\n  return %0\n}\n");
}

// A kernel with a mistake: the last of more than four columns of a softmax is lost.
bool BrokenKernelShows(const Graph& graph) {
  return !FindDifferenceOf(graph, 1, [&](auto inputs, const auto& symbols) {
            std::vector<HostTensor> outputs = EvaluateGraph(graph, inputs, symbols);
            for (size_t i = 0; i < outputs.size(); ++i) {
              const Node* producer = graph.FindProducer(graph.outputs()[i]);
              TensorRef column = outputs[i].ref;
              bool is_softmax = producer != nullptr && producer->op->name == "softmax";
              if (!is_softmax || column.dims.back() <= 4) continue;
              int64_t last = std::exchange(column.dims.back(), 1) - 1;
              column.data += last * static_cast<int64_t>(DTypeSize(column.dtype));
              CopyTensor(MakeHostTensor(column.dtype, column.dims).ref, column);
            }
            return outputs;
          }).empty();
}

TEST(Reduce, FindsABrokenKernel) {
  Graph graph = ParseGraph(R"(graph @g(%x: f16[7, 8], %w: f16[8, 5]) {
    %0 = relu(%x)
    %1 = matmul(%0, %w)
    %2 = softmax(%1) {axis = 1}
    return %2
  })");
  ASSERT_TRUE(BrokenKernelShows(graph));
  Graph reduced = ReduceGraph(graph, BrokenKernelShows, 1);
  EXPECT_EQ(reduced.nodes().size(), 1u) << PrintGraph(reduced);
  EXPECT_THAT(PrintGraph(reduced), HasSubstr("softmax(%cut"));
  EXPECT_THAT(PrintGraph(reduced), HasSubstr("[1, 5]"));
}

}  // namespace
}  // namespace stator
