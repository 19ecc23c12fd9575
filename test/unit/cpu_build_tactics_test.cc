// What the CPU engine says it can run, in which ways, and that each way can be measured.
#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cpu/build/cpu_tactics.h"
#include "cpu/run/conv.h"
#include "ir/op_def.h"
#include "kernel_site.h"

namespace stator {
namespace {

const char* const kLayer =
    "graph @gemm(%x: f32[64, 96], %w: f32[96, 128], %b: f32[128]) {\n"
    "  %0 = matmul(%x, %w)\n  %1 = add(%0, %b)\n  %2 = gelu(%1)\n  return %2\n}";
const char* const kConv =
    "graph @conv(%x: f32[1, 32, 14, 14]@0231, %w: f32[64, 32, 3, 3], %b: f32[64]) {\n"
    "  %0 = conv(%x, %w, %b) {stride = [1, 1], padding = [1, 1], dilation = [1, 1], groups = 1, "
    "transposed = false, output_padding = [0, 0]} : f32[1, 64, 14, 14]@0231\n"
    "  %1 = relu(%0) : f32[1, 64, 14, 14]@0231\n  return %1\n}";

TEST(CpuTacticsTest, MeasuresEveryTactic) {
  const CpuTactics& tactics = GetCpuTactics();
  for (auto [kind, body] : {std::pair("gemm", kLayer), {"conv", kConv}}) {
    KernelSiteOwner owner(kind, body, {1, 2});
    std::vector<Tactic> found = tactics.FindTactics(owner.site());
    ASSERT_GE(found.size(), 2u) << kind;
    for (const Tactic& tactic : found) {
      double seconds = tactics.Measure(owner.site(), tactic, 1);
      EXPECT_GT(seconds, 0) << kind << tactic.attrs.ToString();
      bool same_as_given = tactic.attrs.Find("layout") != nullptr && &tactic != &found[0];
      EXPECT_TRUE(std::isfinite(seconds) || same_as_given) << kind << tactic.attrs.ToString();
    }
  }
}

TEST(CpuTacticsTest, PacksWeightsInOneWayForAllSizes) {
  KernelSiteOwner owner("gemm", kLayer, {1, 2});
  KernelSite site = owner.site();
  EXPECT_EQ(GetCpuTactics().FindTactics(site).size(), 4u);
  site.is_example = true;
  std::vector<std::string> forms;
  for (const Tactic& tactic : GetCpuTactics().FindTactics(site)) {
    forms.push_back(tactic.attrs.GetString("form"));
  }
  EXPECT_EQ(forms, (std::vector<std::string>{"inner_product", "matmul"}));
}

// Random bits would be a NaN somewhere, which takes a slow way behind a relu.
TEST(CpuTacticsTest, MeasuresHalfPrecisionOnNumbers) {
  std::string body = kLayer;
  for (size_t at; (at = body.find("f32")) != std::string::npos;) body.replace(at, 3, "bf16");
  KernelSiteOwner narrow("gemm", body.c_str(), {1, 2}), wide("gemm", kLayer, {1, 2});
  Tactic tactic = GetCpuTactics().FindTactics(wide.site())[0];
  double seconds = GetCpuTactics().Measure(wide.site(), tactic, 1);
  EXPECT_LT(GetCpuTactics().Measure(narrow.site(), tactic, 1), 5 * seconds + 1e-3);
}

TEST(CpuTacticsTest, OffersShortSumsWhereAConvolutionAddsLongOnes) {
  KernelSiteOwner small("conv", kConv, {1, 2});
  for (const Tactic& tactic : GetCpuTactics().FindTactics(small.site())) {
    EXPECT_NE(tactic.attrs.GetString("layout"), "terms");
    EXPECT_NE(tactic.attrs.GetString("layout"), "blocked");
    EXPECT_EQ(tactic.penalty, 1);
  }
  for (auto [size, order] : {std::pair(14, "@0231"), {14, "@0123"}, {7, "@0231"}}) {
    std::string body = fmt::format(
        "graph @conv(%x: f32[1, 128, {1}, {1}]{0}, %w: f32[64, 128, 3, 3]) {{\n  %0 = conv(%x, %w) "
        "{{stride = [1, 1], padding = [1, 1], dilation = [1, 1], groups = 1, transposed = false, "
        "output_padding = [0, 0]}} : f32[1, 64, {1}, {1}]{0}\n  return %0\n}}",
        order, size);
    bool has_blocks = size == 7 && HasBlockedConvs();
    KernelSiteOwner large("conv", body, {1});
    std::vector<Tactic> found = GetCpuTactics().FindTactics(large.site());
    ASSERT_GE(found.size(), 3u);
    for (size_t i = 0; i < found.size(); ++i) {
      bool blocks = has_blocks && i == 2;
      EXPECT_EQ(found[i].attrs.GetString("layout") == "terms", i == 1) << i;
      EXPECT_EQ(found[i].attrs.GetString("layout") == "blocked", blocks) << i;
      EXPECT_EQ(found[i].penalty > 1, i != 1 && !blocks) << i;
    }
    for (const Tactic& tactic : GetCpuTactics(true).FindTactics(large.site())) {
      EXPECT_NE(tactic.attrs.GetString("layout"), "blocked");
    }
  }
}

TEST(CpuTacticsTest, ATacticThatRoundsWorseMustBeThatMuchFaster) {
  struct TwoTactics final : TacticProvider {
    double slower = 1;
    std::string key() const override { return "two"; }
    std::vector<Tactic> FindTactics(const KernelSite&) const override {
      return {{.kind = StepKind::kGemm, .attrs = {}, .penalty = 1.5}, {.kind = StepKind::kConv}};
    }
    double Measure(const KernelSite&, const Tactic& tactic, int) const override {
      return tactic.kind == StepKind::kGemm ? 1 : slower;
    }
  };
  KernelSiteOwner owner("gemm", kLayer, {1, 2});
  KernelSite site = owner.site();
  TwoTactics provider;
  provider.slower = 1.4;
  EXPECT_EQ(SelectTactics({&site, 1}, provider, {})[0].kind, StepKind::kConv);
  provider.slower = 1.6;
  EXPECT_EQ(SelectTactics({&site, 1}, provider, {})[0].kind, StepKind::kGemm);
}

TEST(CpuTacticsTest, MeasuresImpossibleTacticsAsInfinite) {
  KernelSiteOwner owner("gemm", kLayer, {1, 2});
  Tactic unknown{.kind = StepKind::kGemm, .attrs = {{"form", std::string("magic")}}};
  EXPECT_TRUE(std::isinf(GetCpuTactics().Measure(owner.site(), unknown, 1)));
}

TEST(CpuTacticsTest, HasOneFormForOperandsThatChange) {
  KernelSiteOwner owner("gemm", kLayer, {2});
  ASSERT_EQ(GetCpuTactics().FindTactics(owner.site()).size(), 1u);
}

TEST(CpuTacticsTest, MapsKindsToSteps) {
  const char* body = "graph @body(%x: f32[4]) {\n  %0 = relu(%x)\n  return %0\n}";
  for (auto [kind, step] : {std::pair("pointwise", StepKind::kPointwise),
                            {"rowwise", StepKind::kRowwise},
                            {"reduce", StepKind::kReduce},
                            {"attention", StepKind::kAttention},
                            {"pool", StepKind::kPool},
                            {"gather", StepKind::kGather}}) {
    KernelSiteOwner owner(kind, body, {});
    std::vector<Tactic> found = GetCpuTactics().FindTactics(owner.site());
    ASSERT_EQ(found.size(), 1u) << kind;
    EXPECT_EQ(found[0].kind, step) << kind;
  }
  KernelSiteOwner owner("reference", body, {});
  EXPECT_TRUE(GetCpuTactics().FindTactics(owner.site()).empty());
}

TEST(CpuTacticsTest, MeasuresEqualSitesOnce) {
  KernelSiteOwner first("gemm", kLayer, {1, 2}), second("gemm", kLayer, {1, 2});
  TimingCache cache("");
  SelectOptions options{.optimization_level = 5, .cache = &cache};
  KernelSite site = first.site();
  Tactic chosen = SelectTactics({&site, 1}, GetCpuTactics(), options)[0];
  class NeverMeasures final : public TacticProvider {
   public:
    std::string key() const override { return GetCpuTactics().key(); }
    std::vector<Tactic> FindTactics(const KernelSite& site) const override {
      return GetCpuTactics().FindTactics(site);
    }
    double Measure(const KernelSite&, const Tactic&, int) const override {
      ADD_FAILURE() << "measured again";
      return 0;
    }
  };
  KernelSite same = second.site();
  Tactic again = SelectTactics({&same, 1}, NeverMeasures(), options)[0];
  EXPECT_EQ(chosen.attrs, again.attrs);
}

TEST(CpuTacticsTest, KeyNamesWhatTimesDependOn) {
  std::string key = GetCpuTactics().key();
  EXPECT_NE(key.find("oneDNN 3."), std::string::npos) << key;
  EXPECT_NE(key.find("threads"), std::string::npos) << key;
}

// ---- which epilogues fuse
bool CanFuse(const std::string& tail) {
  return CanRunOnCpu("gemm", ParseGraph("graph @gemm(%x: f32[6, 4], %w: f32[4, 8], %bias: f32[8], "
                                        "%row: f32[6, 1], %full: f32[6, 8], %small: f32[1, 8]) {\n"
                                        "  literal %c: f32[] = [3.0]\n  %0 = matmul(%x, %w)\n" +
                                        tail + "}"));
}

TEST(CanRunOnCpuTest, TakesEpiloguesThatArePostOps) {
  EXPECT_TRUE(CanFuse("  return %0\n"));
  EXPECT_TRUE(CanFuse("  %1 = add(%0, %bias)\n  %2 = relu(%1)\n  return %2\n"));
  EXPECT_TRUE(CanFuse("  %1 = add(%small, %0)\n  return %1\n"));
  EXPECT_TRUE(CanFuse("  %1 = mul(%0, %c)\n  %2 = add(%full, %1)\n  return %2\n"));
  EXPECT_TRUE(CanFuse("  %1 = gelu_tanh(%0)\n  %2 = mul(%1, %full)\n  return %2\n"));
}

TEST(CanRunOnCpuTest, RefusesOtherEpilogues) {
  EXPECT_FALSE(CanFuse("  %1 = add(%0, %row)\n  return %1\n"));
  EXPECT_FALSE(CanFuse("  %1 = sin(%0)\n  return %1\n"));
  EXPECT_FALSE(CanFuse("  %1 = mul(%0, %0)\n  return %1\n"));
  EXPECT_FALSE(CanFuse("  %1 = div(%c, %0)\n  return %1\n"));
  EXPECT_FALSE(CanFuse("  %1 = div(%0, %c)\n  return %1\n"));  // 1/3 is not exact
  EXPECT_FALSE(CanFuse("  %1 = relu(%0)\n  return %1, %0\n"));
  EXPECT_FALSE(CanFuse("  %1 = cast(%0) {dtype = f16}\n  return %1\n"));
}

TEST(CanRunOnCpuTest, TakesEpiloguesOfWhatOneDnnMultiplies) {
  for (std::string_view dtype : {"f32", "bf16", "f16", "f64", "i64"}) {
    std::string body = fmt::format(
        "graph @gemm(%x: {0}[6, 4], %w: {0}[4, 8], %r: {0}[6, 8]) {{\n  %0 = matmul(%x, %w)\n"
        "  %1 = add(%0, %r)\n  return %1\n}}",
        dtype);
    bool is_wide = dtype.ends_with("64");
    EXPECT_EQ(CanRunOnCpu("gemm", ParseGraph(body)), !is_wide) << dtype;
  }
}

TEST(FindReasonOnCpuTest, TellsTorchNodesReasonAndNothingOfOthers) {
  Graph graph = ParseGraph(
      "graph @main(%x: f32[4]) {\n"
      "  %0 = torch(%x) {reason = \"no row\", target = \"aten.sort.default\"} : f32[4]\n"
      "  %1 = relu(%0)\n  return %1\n}");
  std::vector<NodeId> nodes = graph.nodes();
  EXPECT_EQ(FindReasonOnCpu(graph, graph.node(nodes[0])), "no row");
  EXPECT_EQ(FindReasonOnCpu(graph, graph.node(nodes[1])), "");
}

}  // namespace
}  // namespace stator
