// Partition: the invariants on random graphs, and the reasons on small ones.
#include "partition/partition.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ir/op_def.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"

namespace stator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A chain with a node that only torch knows, inside a residual branch.
constexpr std::string_view kResidual = R"(
graph @main(%x: f32[4]) {
  %0 = relu(%x) : f32[4]   // relu · m.py:1
  %1 = torch(%0) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // sort · m.py:2
  %2 = exp(%0) : f32[4]    // exp · m.py:3
  %3 = add(%1, %2) : f32[4]   // add · m.py:4
  return %3
})";

std::vector<std::string> Names(const Graph& graph, const Segment& segment) {
  std::vector<std::string> names;
  for (NodeId id : segment.nodes) names.push_back(graph.node(id).origin.name);
  return names;
}

TEST(Partition, CutsAroundATorchNode) {
  Graph graph = ParseGraph(kResidual);
  Partitioning result = PartitionGraph(graph, {});
  ASSERT_EQ(result.segments.size(), 3u);
  EXPECT_TRUE(result.segments[0].engine);
  EXPECT_THAT(Names(graph, result.segments[0]), ElementsAre("relu", "exp"));
  EXPECT_FALSE(result.segments[1].engine);
  EXPECT_THAT(Names(graph, result.segments[1]), ElementsAre("sort"));
  EXPECT_THAT(Names(graph, result.segments[2]), ElementsAre("add"));
  ASSERT_EQ(result.fallbacks.size(), 1u);
  EXPECT_EQ(result.fallbacks[0].op, "aten.sort.default");
  EXPECT_EQ(result.fallbacks[0].location, "m.py:2");
  EXPECT_EQ(result.fallbacks[0].reason, "no converter");
}

TEST(Partition, LeavesSmallSegmentsToTorch) {
  Graph graph = ParseGraph(kResidual);
  Partitioning result = PartitionGraph(graph, {.min_block_size = 2});
  ASSERT_EQ(result.segments.size(), 2u);
  EXPECT_THAT(Names(graph, result.segments[0]), ElementsAre("relu", "exp"));
  EXPECT_THAT(Names(graph, result.segments[1]), ElementsAre("sort", "add"));
  EXPECT_THAT(result.fallbacks[1].reason, HasSubstr("fewer than min_block_size = 2"));
}

TEST(Partition, HonoursExcludedOps) {
  Graph graph = ParseGraph(kResidual);
  Partitioning result = PartitionGraph(graph, {.torch_executed_ops = {"aten.sort", "exp"}});
  ASSERT_EQ(result.fallbacks.size(), 2u);
  EXPECT_THAT(result.fallbacks[0].reason, HasSubstr("torch_executed_ops"));
}

TEST(Partition, PutsWhatReadsWeightsAloneWhereItIsUsed) {
  Graph graph = ParseGraph(R"(
graph @main(%x: f32[4]) {
  weight %w: f32[4] = "w"
  %0 = exp(%w) : f32[4]   // exp · m.py:1
  %1 = torch(%x) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // sort · m.py:2
  %2 = mul(%0, %1) : f32[4]   // mul · m.py:3
  return %2
})");
  Partitioning result = PartitionGraph(graph, {});
  ASSERT_EQ(result.segments.size(), 2u);
  EXPECT_THAT(Names(graph, result.segments[1]), ElementsAre("exp", "mul"));
}

TEST(Partition, JoinsStagesThatNothingParts) {
  Graph graph = ParseGraph(R"(
graph @main(%x: f32[4]) {
  %0 = torch(%x) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // sort · m.py:1
  %1 = exp(%x) : f32[4]   // exp · m.py:2
  %2 = mul(%0, %1) : f32[4]   // mul · m.py:3
  return %2
})");
  Partitioning result = PartitionGraph(graph, {});
  ASSERT_EQ(result.segments.size(), 2u);
  EXPECT_THAT(Names(graph, result.segments[1]), ElementsAre("exp", "mul"));
}

TEST(Partition, ExtractsWhatASegmentReads) {
  Graph graph = ParseGraph(kResidual);
  Partitioning result = PartitionGraph(graph, {});
  ExtractedSegment first = ExtractSegment(graph, result.segments[0]);
  VerifyGraph(first.graph);
  EXPECT_EQ(first.inputs.size(), 1u);
  EXPECT_EQ(first.outputs.size(), 2u);
  ExtractedSegment last = ExtractSegment(graph, result.segments[2]);
  VerifyGraph(last.graph);
  EXPECT_EQ(last.inputs.size(), 2u);
  EXPECT_THAT(last.outputs, ElementsAre(graph.outputs()[0]));
}

TEST(Partition, MakesOneEngineOfPathsThatStartWithEitherKind) {
  Graph graph = ParseGraph(R"(
graph @main(%x: f32[4]) {
  %0 = torch(%x) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // sort · m.py:1
  %1 = exp(%0) : f32[4]   // exp · m.py:2
  %2 = sin(%x) : f32[4]   // sin · m.py:3
  %3 = torch(%2) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // last · m.py:4
  return %1, %3
})");
  Partitioning result = PartitionGraph(graph, {});
  ASSERT_EQ(result.segments.size(), 3u);
  EXPECT_THAT(Names(graph, result.segments[1]), ElementsAre("exp", "sin"));
}

TEST(Partition, LetsNodesOfASmallSegmentWaitForALaterEngine) {
  Graph graph = ParseGraph(R"(
graph @main(%x: f32[4]) {
  %0 = sin(%x) : f32[4]   // first · m.py:1
  %1 = torch(%0) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // sort · m.py:2
  %2 = exp(%x) : f32[4]   // waits · m.py:3
  %3 = mul(%1, %2) : f32[4]   // mul · m.py:4
  %4 = neg(%3) : f32[4]   // neg · m.py:5
  return %4
})");
  PartitionOptions options{.min_block_size = 3};
  EXPECT_EQ(PartitionGraph(graph, options).fallbacks.size(), 5u);  // 2 and 2 are too few
  options.use_fast_partitioner = false;
  Partitioning result = PartitionGraph(graph, options);
  ASSERT_EQ(result.segments.size(), 2u);
  EXPECT_THAT(Names(graph, result.segments[0]), ElementsAre("first", "sort"));
  EXPECT_THAT(Names(graph, result.segments[1]), ElementsAre("waits", "mul", "neg"));
}

TEST(Partition, LeavesSegmentsOfViewsAloneToTorch) {
  Graph graph = ParseGraph(R"(
graph @main(%x: f32[4, 2]) {
  %0 = permute(%x) {perm = [1, 0]} : f32[2, 4]   // permute · m.py:1
  %1 = torch(%0) {reason = "no converter", target = "aten.sort.default"} : f32[2, 4] // sort · m.py:2
  return %1
})");
  Partitioning result = PartitionGraph(graph, {});
  ASSERT_EQ(result.segments.size(), 1u);
  EXPECT_THAT(result.fallbacks[0].reason, HasSubstr("views alone"));
  EXPECT_TRUE(result.fallbacks[0].supported);
  EXPECT_FALSE(result.fallbacks[1].supported);
}

// `second` depends on nothing, and would run before `first`, which waits for an engine.
TEST(Partition, KeepsTheOrderOfRandomNumbers) {
  Graph graph = ParseGraph(R"(
graph @main(%x: f32[4]) {
  %0 = exp(%x) : f32[4]   // exp · m.py:1
  %1 = torch(%0) {reason = "no converter", target = "aten.rand_like.default"} : f32[4] // first · m:2
  %2 = torch(%x) {reason = "no converter", target = "aten.rand_like.default"} : f32[4] // second · m:3
  %3 = torch(%x) {reason = "no converter", target = "aten.sort.default"} : f32[4] // sort · m:4
  return %1, %2, %3
})");
  Partitioning result = PartitionGraph(graph, {});
  ASSERT_EQ(result.segments.size(), 3u);
  EXPECT_THAT(Names(graph, result.segments[0]), ElementsAre("sort"));
  EXPECT_THAT(Names(graph, result.segments[2]), ElementsAre("first", "second"));
}

CostModel SlowExp() {
  return {.is_reference = [](const Graph&, const Node& node) { return node.op->name == "exp"; },
          .sizes = {}};
}

TEST(Partition, LeavesLargeNodesWithoutAKernelOfTheirOwnToTorch) {
  constexpr std::string_view kText = R"(
graph @main(%x: f32[s0, 64]) where s0 in [1, 4096] {
  weight %w: f32[4096, 64] = "w"
  %0 = exp(%x) : f32[s0, 64]   // exp · m.py:1
  %1 = exp(%w) : f32[4096, 64]   // once · m.py:2
  %2 = sum(%1) {axes = [0], keepdim = false} : f32[64]   // sum · m.py:3
  %3 = mul(%0, %2) : f32[s0, 64]   // mul · m.py:4
  return %3
})";
  Graph graph = ParseGraph(kText);
  CostModel cost = SlowExp();
  EXPECT_TRUE(PartitionGraph(graph, {.cost = cost}).fallbacks.empty());  // 32 rows
  cost.sizes["s0"] = 1000;
  Partitioning result = PartitionGraph(graph, {.cost = cost});
  ASSERT_EQ(result.fallbacks.size(), 1u);
  EXPECT_EQ(result.fallbacks[0].node, "exp");
  EXPECT_TRUE(result.fallbacks[0].supported);
  EXPECT_EQ(result.fallbacks[0].reason,
            "the engine has only a reference kernel for it, some 320 us slower than torch");
  EXPECT_TRUE(PartitionGraph(graph, {}).fallbacks.empty());
}

TEST(Partition, LeavesSegmentsToTorchThatTakeLessThanACall) {
  std::string text = R"(
graph @main(%x: f32[4]) {
  %0 = torch(%x) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // first · m.py:1
  %1 = relu(%0) : f32[4]   // relu · m.py:2
  %2 = torch(%1) {reason = "no converter", target = "aten.sort.default"} : f32[4]   // second · m.py:3
  %3 = exp(%2) : f32[4]    // exp · m.py:4
  return %3
})";
  CostModel cost{.is_reference = [](const Graph&, const Node&) { return false; }, .sizes = {}};
  Partitioning result = PartitionGraph(ParseGraph(text), {.cost = cost});
  ASSERT_EQ(result.segments.size(), 2u);  // the last one parts no torch part
  EXPECT_EQ(result.segments[0].num_ops, 3);
  EXPECT_THAT(result.fallbacks[1].reason, HasSubstr("less time than the call of an engine"));
  EXPECT_TRUE(result.fallbacks[1].supported);
  for (size_t at; (at = text.find("f32[4]")) != std::string::npos;) {
    text.replace(at, 6, "f32[9999]");
  }
  EXPECT_EQ(PartitionGraph(ParseGraph(text), {.cost = cost}).segments.size(), 4u);
}

// Nodes of one or two inputs, of which a quarter are torch's and half of those draw random numbers.
Graph MakeRandomGraph(std::mt19937& rng) {
  Graph graph;
  Dims dims = {rng() % 2 == 0 ? 2 : 8192};
  std::vector<ValueId> values = {graph.AddInput("x", {.dims = dims}),
                                 graph.AddWeight("w", {.dims = dims})};
  int num_nodes = static_cast<int>(rng() % 30) + 1;
  for (int i = 0; i < num_nodes; ++i) {
    ValueId a = values[rng() % values.size()], b = values[rng() % values.size()];
    Origin origin{.name = "n" + std::to_string(i)};
    std::string target = rng() % 2 == 0 ? "aten.sort" : "aten.rand_like";
    NodeId id =
        rng() % 4 == 0
            ? graph.AddNodeWithTypes(GetOp("torch"), {a, b},
                                     {{"target", target}, {"reason", std::string("unknown")}},
                                     {{.dims = dims}}, origin)
            : graph.AddNode(GetOp(rng() % 8 == 0 ? "maximum" : "add"), {a, b}, {}, origin);
    values.push_back(graph.node(id).outputs[0]);
  }
  graph.SetOutputs({values.back()});
  return graph;
}

// Every node in just one segment; a segment reads only what earlier segments made (so it is convex,
// and segments are acyclic); engines below min_block_size do not exist; random numbers are drawn in
// order; the same input gives the same result. Returns the number of nodes in engines.
int CheckPartitioning(const Graph& graph, const PartitionOptions& options) {
  Partitioning result = PartitionGraph(graph, options);
  std::vector<int> segment_of(graph.num_node_slots(), -1);
  std::vector<bool> ready(graph.num_values(), false);
  for (ValueId id : graph.inputs()) ready[id.index] = true;
  for (ValueId id : graph.constants()) ready[id.index] = true;
  int in_engines = 0, last_random = -1;
  for (size_t s = 0; s < result.segments.size(); ++s) {
    const Segment& segment = result.segments[s];
    if (segment.engine) {
      EXPECT_GE(segment.num_ops, options.min_block_size);
      in_engines += segment.num_ops;
    }
    for (NodeId id : segment.nodes) {
      const Node& node = graph.node(id);
      EXPECT_EQ(segment_of[id.index], -1);
      segment_of[id.index] = static_cast<int>(s);
      EXPECT_FALSE(segment.engine && node.op->Is(kOpaque));
      for (ValueId input : node.inputs) EXPECT_TRUE(ready[input.index]) << PrintGraph(graph);
      for (ValueId output : node.outputs) ready[output.index] = true;
      if (node.op->Is(kOpaque) && node.attrs.GetString("target") == "aten.rand_like") {
        EXPECT_LT(last_random, id.index);
        last_random = id.index;
      }
    }
    VerifyGraph(ExtractSegment(graph, segment).graph);
  }
  for (NodeId id : graph.nodes()) EXPECT_GE(segment_of[id.index], 0);
  Partitioning again = PartitionGraph(graph, options);
  EXPECT_EQ(again.segments.size(), result.segments.size());
  for (size_t s = 0; s < again.segments.size(); ++s) {
    EXPECT_EQ(again.segments[s].nodes, result.segments[s].nodes);
  }
  return in_engines;
}

TEST(Partition, HoldsItsInvariantsOnRandomGraphs) {
  std::mt19937 rng(3);
  int fast = 0, global = 0, with_cost = 0;
  for (int round = 0; round < 500; ++round) {
    Graph graph = MakeRandomGraph(rng);
    PartitionOptions options{.min_block_size = static_cast<int>(rng() % 6)};
    fast += CheckPartitioning(graph, options);
    options.use_fast_partitioner = false;
    global += CheckPartitioning(graph, options);
    options.cost = {
        .is_reference = [](const Graph&, const Node& node) { return node.op->name == "maximum"; },
        .sizes = {}};
    with_cost += CheckPartitioning(graph, options);
    ASSERT_FALSE(HasFailure()) << "round " << round << "\n" << PrintGraph(graph);
  }
  EXPECT_GT(global, fast);
  EXPECT_GT(global, with_cost);
  EXPECT_GT(with_cost, 0);
}

}  // namespace
}  // namespace stator
