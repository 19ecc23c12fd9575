// Tiles and the tape: which loops remain of a domain, which instructions of a body.
#include "cpu/run/tape_step.h"
#include "cpu_run_testing.h"
#include "ir/parse.h"

namespace stator {
namespace {

LoopNest MakeNest(Sizes dims, std::vector<Sizes> strides) {
  std::vector<bool> inner(dims.size(), false);
  return MakeLoopNest({.dims = std::move(dims), .inner = inner, .strides = std::move(strides)}, 0,
                      false);
}

TEST(LoopNest, MergesDenseDimsIntoOne) {
  LoopNest nest = MakeNest({2, 3, 1, 5}, {{15, 5, 5, 1}, {15, 5, 99, 1}});
  EXPECT_EQ(nest.dims, Sizes({30}));
  EXPECT_EQ(nest.strides[1], Sizes({1}));
}

TEST(LoopNest, FollowsTheLeadingOperandsLayout) {
  // Channels last, with one value per channel beside it.
  LoopNest nest = MakeNest({2, 8, 3, 5}, {{120, 1, 40, 8}, {0, 1, 0, 0}});
  EXPECT_EQ(nest.dims, Sizes({30, 8}));
  EXPECT_EQ(nest.strides[0], Sizes({8, 1}));
  EXPECT_EQ(nest.strides[1], Sizes({0, 1}));
}

TEST(LoopNest, KeepsOneDimOfADomainOfOneElement) {
  EXPECT_EQ(MakeNest({1, 1}, {{1, 1}}).dims, Sizes({1}));
  EXPECT_EQ(MakeNest({}, {{}}).dims, Sizes({1}));
}

TEST(TileGrid, CoversTheDomainOnce) {
  LoopNest nest = MakeNest({7, 100}, {{128, 1}});
  TileShape shape{.column_dim = 1, .row_dim = 0, .rows = 3, .columns = 48};
  const size_t sizes[] = {1};
  TileGrid grid(nest, shape, sizes, false);
  EXPECT_EQ(grid.num_tiles(), 9);
  std::vector<std::byte> memory(7 * 128);
  for (int64_t first : {0, 4}) {
    std::byte* pointer = memory.data();
    TileWalk walk(grid, {&pointer, 1}, first);
    for (int64_t tile = first; tile < (first == 0 ? 4 : 9); ++tile) {
      for (int64_t row = 0; row < walk.rows(); ++row) {
        for (int64_t column = 0; column < walk.columns(); ++column) {
          std::byte& seen = pointer[row * 128 + column];
          EXPECT_EQ(seen, std::byte{0});
          seen = std::byte{1};
        }
      }
      if (tile < 8) walk.Next();
    }
  }
  EXPECT_EQ(std::count(memory.begin(), memory.end(), std::byte{1}), 700);
}

// Instructions for one tile of a body whose operands are all dense.
size_t CountInstrs(std::string_view text) {
  Graph body = ParseGraph(text);
  StepSite site{.body = body};
  auto add = [&](std::span<const ValueId> ids, std::vector<TensorRef>& refs) {
    for (ValueId id : ids) {
      Sizes dims = EvalDims(body.type(id).dims, {});
      refs.push_back({.dtype = body.type(id).dtype, .dims = dims, .strides = DenseStrides(dims)});
    }
  };
  add(body.inputs(), site.inputs);
  add(body.outputs(), site.outputs);
  BodyOperands operands = FindOperands(site);
  LoopNest nest = MakeNestOf(operands, site.outputs[0].dims);
  nest = MakeLoopNest(std::move(nest), operands.first_output, false);
  TileShape shape = ChooseTileShape(nest, 1024);
  TileGrid grid(nest, shape, ElementSizes(operands), false);
  return MakeTape({.body = &body,
                   .nodes = body.nodes(),
                   .operands = &operands,
                   .accesses = MakeAccesses(nest, shape, grid),
                   .shape = shape,
                   .whole_columns = shape.columns == nest.dims[shape.column_dim]})
      ->num_instrs();
}

TEST(Tape, ReadsInputsAndWritesOutputsWhereTheyLie) {
  EXPECT_EQ(CountInstrs("graph @g(%x: f32[4, 5000]) {\n  %0 = relu(%x)\n  return %0\n}"), 1u);
}

TEST(Tape, FusesScaleAndBias) {
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: f32[4, 5000], %b: f32[5000]) {
    literal %c0: f32[] = [0.5]
    %0 = mul(%x, %c0)
    %1 = add(%0, %b)
    return %1
  })"),
            1u);
}

TEST(Tape, KeepsAProductThatIsReadTwice) {
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: f32[40], %y: f32[40]) {
    %0 = mul(%x, %y)
    %1 = add(%0, %y)
    return %0, %1
  })"),
            2u);
}

TEST(Tape, ConvertsHalvesAtTheEdgesAndRoundsEachResult) {
  // Load, exp, round, relu (exact), store.
  EXPECT_EQ(
      CountInstrs("graph @g(%x: f16[5000]) {\n  %0 = exp(%x)\n  %1 = relu(%0)\n  return %1\n}"),
      5u);
}

TEST(Tape, AStoreRoundsByItself) {
  // Two loads, atan2, store.
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: f16[5000], %y: f16[5000]) {
    %0 = atan2(%x, %y)
    return %0
  })"),
            4u);
  // What an instruction reads is rounded before: add, round, mul.
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: bf16[5000], %y: bf16[5000]) {
    %0 = add(%x, %y)
    %1 = mul(%0, %x)
    return %0, %1
  })"),
            7u);
}

TEST(Tape, ALoneNodeOfHalvesIsOnePass) {
  EXPECT_EQ(CountInstrs("graph @g(%x: bf16[50, 100]) {\n  %0 = relu(%x)\n  return %0\n}"), 1u);
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: bf16[50, 100], %y: bf16[50, 100]) {
    %0 = mul(%x, %y)
    return %0
  })"),
            1u);
  // Load, add, store: of an operand that is repeated, loaded before.
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: bf16[50, 100], %y: bf16[100]) {
    %0 = add(%x, %y)
    return %0
  })"),
            3u);
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: bf16[50, 100]) {
    %0 = relu(%x)
    return %0, %0
  })"),
            4u);
}

TEST(Tape, ACastFromAHalfIsALoad) {
  EXPECT_EQ(CountInstrs("graph @g(%x: f16[5000]) {\n  %0 = cast(%x) {dtype = f32}\n  return %0\n}"),
            1u);
  EXPECT_EQ(CountInstrs("graph @g(%x: f32[5000]) {\n  %0 = cast(%x) {dtype = f16}\n  return %0\n}"),
            1u);
  EXPECT_EQ(CountInstrs(R"(graph @g(%x: bf16[5000]) {
    %0 = cast(%x) {dtype = f32}
    %1 = relu(%x)
    return %0, %1
  })"),
            3u);
}

}  // namespace
}  // namespace stator
