// CheckPlan: every invariant is checked, and its error names the field.
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "sample_plan.h"

namespace stator {
namespace {

using ::testing::HasSubstr;

// The message of the error that CheckPlan raises once `damage` is done.
std::string Complaint(const std::function<void(Plan&)>& damage) {
  Plan plan = MakeSamplePlan();
  damage(plan);
  try {
    CheckPlan(plan);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorruptFile);
    return error.message();
  }
  return "no complaint";
}

TEST(CheckPlan, AcceptsTheSample) { CheckPlan(MakeSamplePlan()); }

TEST(CheckPlan, ChecksIndices) {
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[1].index = 1; }), HasSubstr("tensors[1].index"));
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[0].index = -1; }), HasSubstr("tensors[0].index"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[1].inputs[0] = 7; }), HasSubstr("steps[1].inputs"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[1].inputs[0] = -1; }), HasSubstr("steps[1].inputs"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[1].outputs[0] = 99; }),
              HasSubstr("steps[1].outputs"));
}

TEST(CheckPlan, ChecksTheNumberOfStreams) {
  EXPECT_THAT(Complaint([](Plan& p) { p.aux_streams = 65; }), HasSubstr("aux_streams"));
  EXPECT_THAT(Complaint([](Plan& p) { p.aux_streams = -1; }), HasSubstr("aux_streams"));
}

TEST(CheckPlan, ChecksEnums) {
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].kind = static_cast<StepKind>(77); }),
              HasSubstr("steps[0].kind"));
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[0].storage = static_cast<StorageKind>(6); }),
              HasSubstr("tensors[0].storage"));
  EXPECT_THAT(Complaint([](Plan& p) { p.inputs[0].dtype = static_cast<DType>(10); }),
              HasSubstr("inputs[0].dtype"));
}

TEST(CheckPlan, ChecksThatTensorsLieInsideTheirStorage) {
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[2].offset = 1; }), HasSubstr("tensors[2]"));
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[5].dtype = DType::kFloat64; }),
              HasSubstr("tensors[5]"));
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[3].strides[0] = 4; }), HasSubstr("tensors[3]"));
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[3].strides[0] = -3; }), HasSubstr("strides"));
  EXPECT_THAT(Complaint([](Plan& p) { p.arena[0].bytes = 12 * 63; }),
              HasSubstr("tensors[3]: ends at byte 768"));
  EXPECT_THAT(Complaint([](Plan& p) { p.arena[0].bytes = Dim::Symbol("s0") * (1LL << 60); }),
              HasSubstr("arena[0].bytes"));
  EXPECT_THAT(Complaint([](Plan& p) {
                p.weights[0].dims = {1LL << 40, 1LL << 40};
              }),
              HasSubstr("beyond 2^63"));
}

// Short text that would take long or fill the memory is rejected instead.
TEST(CheckPlan, RejectsTextThatExplodes) {
  auto body_of = [](const std::string& literal) {
    std::string body = "graph @body(%a: f32[s0, 3]) where s0 in [1, 64] {\n";
    for (int i = 0; i < 9; ++i) body += fmt::format("  literal %c{}: {}\n", i, literal);
    return body + "  %0 = relu(%a)\n  return %0\n}\n";
  };
  EXPECT_THAT(Complaint([&](Plan& p) { p.steps[0].body = body_of("f32[2097152] = [1]"); }),
              HasSubstr("too large for text"));
  EXPECT_THAT(Complaint([&](Plan& p) { p.steps[0].body = body_of("f32[2097152, 99999] = [1]"); }),
              HasSubstr("too large for text"));
  std::string sum = "(a + b + c + d + e + f + g + h + i + j)", product = sum;
  for (int i = 0; i < 20; ++i) product += "*" + sum;
  EXPECT_THAT(Complaint([&](Plan& p) {
                p.steps[0].body = "graph @body(%a: f32[" + product + "]) {\n  return %a\n}\n";
              }),
              HasSubstr("more than 256 terms"));
}

TEST(CheckPlan, ChecksSymbols) {
  EXPECT_THAT(Complaint([](Plan& p) { p.symbols.clear(); }), HasSubstr("`s0` has no range"));
  EXPECT_THAT(Complaint([](Plan& p) { p.symbols[0].min = 65; }), HasSubstr("symbols[0]"));
  EXPECT_THAT(Complaint([](Plan& p) { p.symbols[0].name = std::string("2"); }),
              HasSubstr("symbols[0].name"));
  EXPECT_THAT(Complaint([](Plan& p) { p.derived[0].bytes = Dim::Symbol("s0") * 12; }),
              HasSubstr("derived[0].bytes"));
}

// A window on a constant may depend on symbols; whether it fits is known when they are.
TEST(CheckPlan, ChecksWindowsOnConstantsForTheirSizes) {
  Plan plan = MakeSamplePlan();
  plan.tensors.push_back({.storage = StorageKind::kWeight,
                          .index = 0,
                          .offset = 1,
                          .dims = {Dim::Symbol("s0")},
                          .strides = {1}});
  CheckPlan(plan);
  CheckPlanSizes(plan, {{"s0", 2}});
  try {
    CheckPlanSizes(plan, {{"s0", 3}});
    ADD_FAILURE() << "no complaint";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(
        error.message(),
        "plan @sample cannot run with s0 = 3: weight `w` has 12 bytes, and f32[s0] of it needs "
        "16");
  }
  EXPECT_THAT(Complaint([](Plan& p) { p.tensors[2].dims = {Dim::Symbol("s0")}; }),
              HasSubstr("prologue[0].outputs: tensors[2] is of symbolic size"));
}

TEST(CheckPlan, ChecksTheOrderOfSteps) {
  EXPECT_THAT(Complaint([](Plan& p) { std::swap(p.steps[0], p.steps[1]); }),
              HasSubstr("read before it is written"));
  EXPECT_THAT(Complaint([](Plan& p) { p.prologue.clear(); }),
              HasSubstr("steps[1].inputs: tensors[2] is read before"));
  EXPECT_THAT(Complaint([](Plan& p) { p.prologue[0].inputs[0] = 0; }),
              HasSubstr("is not a constant"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].outputs[0] = 1; }),
              HasSubstr("which it may not write"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps.pop_back(); }), HasSubstr("outputs[0]"));
  EXPECT_THAT(Complaint([](Plan& p) { p.arena[0].last_step = 0; }),
              HasSubstr("steps[1].inputs: arena[0] lives"));
}

TEST(CheckPlan, ChecksCodeAndItsLaunches) {
  EXPECT_THAT(Complaint([](Plan& p) { p.code.clear(); }), HasSubstr("`code` is 0, outside code"));
  EXPECT_THAT(Complaint([](Plan& p) { p.code[0].arch = "sm 90"; }), HasSubstr("code[0].arch"));
  EXPECT_THAT(Complaint([](Plan& p) { p.code[0].entry = ""; }), HasSubstr("code[0].entry"));
  EXPECT_THAT(Complaint([](Plan& p) { p.code[0].binary = {}; }), HasSubstr("code[0].binary"));
  auto attr_of = [](std::string_view name, Attr attr) {
    return Complaint([&](Plan& p) { p.steps[2].attrs.Set(name, attr); });
  };
  EXPECT_THAT(attr_of("code", true), HasSubstr("no attribute `code` of kind int"));
  EXPECT_THAT(attr_of("code", Dim(-1)), HasSubstr("`code` is -1"));
  EXPECT_THAT(attr_of("grid", Dims{1, 1}), HasSubstr("`grid` has 2 sizes"));
  EXPECT_THAT(attr_of("grid", Dims{Dim::Symbol("s1"), 1, 1}), HasSubstr("`s1` has no range"));
  EXPECT_THAT(attr_of("block", Dim(1025)), HasSubstr("`block` is 1025"));
  EXPECT_THAT(attr_of("block", Dim::Symbol("s0")), HasSubstr("`block` is s0"));
  EXPECT_THAT(attr_of("smem", Dim(1 << 21)), HasSubstr("`smem` is 2097152"));
  EXPECT_THAT(attr_of("symbols", std::string("s0,s1")), HasSubstr("symbol `s1` has no range"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[2].attrs.Erase("pdl"); }),
              HasSubstr("no attribute `pdl` of kind bool"));
}

TEST(CheckPlan, ReadsTheLaunchThatWasSet) {
  StepLaunch launch{.code = 3,
                    .grid = {Dim::Symbol("s0"), 2, 1},
                    .block = 64,
                    .smem = 16,
                    .symbols = {"s0", "s1"},
                    .pdl = true};
  Attrs attrs;
  EXPECT_FALSE(FindLaunch(attrs));
  SetLaunch(attrs, launch);
  std::optional<StepLaunch> found = FindLaunch(attrs);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->code, 3);
  EXPECT_EQ(found->grid, launch.grid);
  EXPECT_EQ(found->block, 64);
  EXPECT_EQ(found->smem, 16);
  EXPECT_EQ(found->symbols, launch.symbols);
  EXPECT_TRUE(found->pdl);
}

TEST(CheckPlan, ChecksBodies) {
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].body.clear(); }), HasSubstr("steps[0].body"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].body = "graph\n"; }), HasSubstr("steps[0].body"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].body = p.steps[1].body; }),
              HasSubstr("2 inputs for the step's 1"));
  EXPECT_THAT(Complaint([](Plan& p) {
                p.steps[1].inputs = {2, 3};
              }),
              HasSubstr("steps[1].body: inputs[0] is f32[s0, 3]"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].kind = StepKind::kCopy; }),
              HasSubstr("a copy has"));
  EXPECT_THAT(Complaint([](Plan& p) { p.steps[0].attrs.Set("a b", true); }),
              HasSubstr("steps[0].attrs"));
}

}  // namespace
}  // namespace stator
