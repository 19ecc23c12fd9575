// Place and FindView: strided windows equal to what torch's views give, and storages chosen well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compile/place.h"
#include "fuse/fuse.h"
#include "ir/op_def.h"
#include "ir/parse.h"

namespace stator {
namespace {

using ::testing::ElementsAre;

// Strides of a reshape from (dims, strides) to `to`, or empty.
std::optional<Dims> ReshapeStrides(Dims dims, Dims strides, Dims to) {
  Graph graph;
  ValueId x = graph.AddInput("x", {.dims = dims});
  graph.symbols = {{"s0", 1, 9}};
  NodeId id = graph.AddNode(GetOp("reshape"), {x}, {{"dims", to}});
  PlanTensor input{.storage = StorageKind::kInput, .dims = dims, .strides = strides};
  std::optional<PlanTensor> view = FindView(graph.node(id), {.dims = to}, input);
  return view ? std::optional(view->strides) : std::nullopt;
}

TEST(FindView, SplitsAndMergesDenseRuns) {
  EXPECT_EQ(ReshapeStrides({2, 6}, {6, 1}, {3, 4}), (Dims{4, 1}));
  EXPECT_EQ(ReshapeStrides({2, 3, 4}, {12, 4, 1}, {24}), (Dims{1}));
  EXPECT_EQ(ReshapeStrides({2, 6}, {20, 2}, {2, 2, 3}), (Dims{20, 6, 2}));  // strided rows split
  EXPECT_EQ(ReshapeStrides({2, 3}, {1, 2}, {6}), std::nullopt);             // a transpose does not
  EXPECT_EQ(ReshapeStrides({1, 5, 1}, {99, 1, 77}, {5}), (Dims{1}));        // size 1 never matters
  EXPECT_EQ(ReshapeStrides({4, 1}, {0, 1}, {2, 2}), (Dims{0, 0}));          // a broadcast stays one
  EXPECT_EQ(ReshapeStrides({0, 3}, {3, 1}, {3, 0}), (Dims{0, 1}));
}

TEST(FindView, FollowsSymbols) {
  Dim s0 = Dim::Symbol("s0");
  EXPECT_EQ(ReshapeStrides({s0, 8}, {8, 1}, {s0, 2, 4}), (Dims{8, 4, 1}));
  EXPECT_EQ(ReshapeStrides({s0, 8}, {8, 1}, {s0 * 8}), (Dims{1}));
  EXPECT_EQ(ReshapeStrides({8, s0}, {1, 8}, {8 * s0}), std::nullopt);
}

Placement PlaceText(std::string_view text, Graph& kernels) {
  kernels = Fuse(ParseGraph(text), {.can_run = [](auto, const Graph&) { return true; }});
  return Place(kernels);
}

TEST(Place, WritesPartsOfAConcatInPlace) {
  Graph kernels;
  // The sum is read twice, and the input is the caller's: these are copied.
  Placement placement = PlaceText(R"(graph @g(%x: f32[2, 6]) {
    %0 = exp(%x)
    %1 = neg(%0)
    %2 = concat(%0, %1, %x) {dim = 1}
    %3 = relu(%2)
    return %0, %3
  })",
                                  kernels);
  std::vector<Dim> offsets;
  int num_copies = 0;
  for (const PlacedStep& step : placement.steps) {
    num_copies += step.kernel == nullptr;
    for (const PlanTensor& output : step.outputs) {
      if (output.storage == StorageKind::kArena && output.strides[0] == Dim(18)) {
        offsets.push_back(output.offset);
      }
    }
  }
  EXPECT_EQ(num_copies, 2);
  EXPECT_THAT(offsets, ElementsAre(Dim(6), Dim(0), Dim(12)));
}

TEST(Place, WritesResultsIntoTheCallersTensor) {
  Graph kernels;
  Placement placement = PlaceText(R"(graph @g(%x: f32[2, 6]) {
    %0 = exp(%x)
    %1 = reshape(%0) {dims = [12]}
    return %1
  })",
                                  kernels);
  ASSERT_EQ(placement.steps.size(), 1u);
  EXPECT_EQ(placement.steps[0].outputs[0].storage, StorageKind::kOutput);
  EXPECT_TRUE(placement.arena_bytes.empty());
  EXPECT_THAT(placement.outputs[0].dims, ElementsAre(Dim(12)));
}

TEST(Place, CopiesWhatMustNotAlias) {
  Graph kernels;
  Placement placement = PlaceText(R"(graph @g(%x: f32[2, 3]) {
    %0 = permute(%x) {perm = [1, 0]}
    %1 = exp(%x)
    return %x, %0, %1, %1
  })",
                                  kernels);
  // exp writes output 2; the input, its transpose and the second use of exp are copied.
  int num_copies = 0;
  for (const PlacedStep& step : placement.steps) num_copies += step.kernel == nullptr;
  EXPECT_EQ(num_copies, 3);
  for (const PlacedStep& step : placement.steps) {
    EXPECT_EQ(step.outputs[0].storage, StorageKind::kOutput);
  }
}

TEST(Place, ConcatCopiesIntoWindows) {
  Graph kernels;
  Placement placement = PlaceText(R"(graph @g(%x: f32[2, 3], %y: f32[2, 4]) {
    %0 = concat(%x, %y, %x) {dim = 1}
    return %0
  })",
                                  kernels);
  ASSERT_EQ(placement.steps.size(), 3u);
  EXPECT_EQ(placement.steps[0].outputs[0].offset, Dim(0));
  EXPECT_EQ(placement.steps[1].outputs[0].offset, Dim(3));
  EXPECT_EQ(placement.steps[2].outputs[0].offset, Dim(7));
  EXPECT_THAT(placement.steps[1].outputs[0].strides, ElementsAre(Dim(10), Dim(1)));
}

TEST(Place, PutsWeightsAloneInThePrologue) {
  Graph kernels;
  Placement placement = PlaceText(R"(graph @g(%x: f32[3]) {
    weight %w: f32[3] = "w"
    weight %unused: f32[3] = "u"
    %0 = exp(%w)
    %1 = add(%x, %0)
    return %1
  })",
                                  kernels);
  ASSERT_EQ(placement.prologue.size(), 1u);
  EXPECT_EQ(placement.prologue[0].outputs[0].storage, StorageKind::kDerived);
  ASSERT_EQ(placement.weights.size(), 1u);
  EXPECT_EQ(placement.weights[0].name, "w");
}

}  // namespace
}  // namespace stator
