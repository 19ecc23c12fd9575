// The pipeline as a whole: values of random graphs, fuel, selection by name, dumps, documentation.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pipeline.h"
#include "passes_random_graph.h"

namespace stator {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Draws nodes over values of a few shapes, in the manner of models: products with weights and bias,
// convolutions with batch norm, views, pointwise nodes, norms, literals.
class RandomGraph {
 public:
  explicit RandomGraph(unsigned seed) : rng_(seed) {}

  Graph Make() {
    values_ = {graph_.AddInput("x", {.dims = {2, 3, 4}}), graph_.AddInput("y", {.dims = {6, 4}}),
               graph_.AddInput("z", {.dims = {1, 4, 3, 2}})};
    unsigned count = 4 + Draw(24);
    while (static_cast<unsigned>(graph_.nodes().size()) < count) AddNodes();
    graph_.SetOutputs({values_.back(), values_[values_.size() / 2], values_[Draw(3)]});
    FillWeights(graph_, rng_());
    return std::move(graph_);
  }

 private:
  unsigned Draw(unsigned bound) { return rng_() % bound; }
  ValueId Pick() { return values_[Draw(static_cast<unsigned>(values_.size()))]; }
  const TensorType& type(ValueId id) { return graph_.type(id); }
  ValueId Weight(Dims dims) {
    return graph_.AddWeight(fmt::format("w{}", num_weights_++), {.dims = std::move(dims)});
  }
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return graph_.node(graph_.AddNode(GetOp(op), std::move(inputs), std::move(attrs))).outputs[0];
  }

  void AddNodes() {
    ValueId x = Pick();
    switch (Draw(8)) {
      case 0: return Keep(Add(kUnary[Draw(std::size(kUnary))], {x}));
      case 1: return Keep(AddBinary(x));
      case 2: return Keep(AddView(x));
      case 3: return Keep(AddProduct(x));
      case 4: return Keep(AddConv(x));
      case 5: return Keep(AddRowwise(x));
      case 6: return AddAttention(x);
      default: return Keep(Add("mul", {x, AddScalar(graph_, DType::kFloat32, kNumbers[Draw(5)])}));
    }
  }

  void Keep(ValueId value) { values_.push_back(value); }

  ValueId AddBinary(ValueId x) {
    std::vector<ValueId> same;
    for (ValueId value : values_) {
      if (type(value).dims == type(x).dims) same.push_back(value);
    }
    std::string_view op = kBinary[Draw(std::size(kBinary))];
    if (Draw(3) == 0) return Add(op, {Weight({type(x).dims.back()}), x});
    return Add(op, {x, same[Draw(static_cast<unsigned>(same.size()))]});
  }

  ValueId AddView(ValueId x) {
    Dims dims = type(x).dims;
    if (Draw(2) == 0) {
      Dims perm;
      for (int i = 0; i < type(x).rank(); ++i) perm.push_back(i);
      std::shuffle(perm.begin(), perm.end(), rng_);
      return Add("permute", {x}, {{"perm", perm}});
    }
    if (Draw(3) == 0) {
      int64_t dim = Draw(type(x).rank()), size = dims[dim].value();
      return Add(
          "slice", {x},
          {{"dim", Dim(dim)}, {"start", Dim(size / 2)}, {"end", Dim(size)}, {"step", Dim(1)}});
    }
    Dim count = type(x).num_elements();
    const Dims kept = {FloorDiv(count, dims.back()), dims.back()};
    const Dims wide = {1, FloorDiv(count, dims.back()), dims.back()};
    return Add("reshape", {x}, {{"dims", Draw(2) == 0 ? kept : wide}});
  }

  ValueId AddProduct(ValueId x) {
    if (type(x).rank() < 2) return Add("neg", {x});
    ValueId w = Add("permute", {Weight({4, type(x).dims.back()})}, {{"perm", Dims{1, 0}}});
    return Add("add", {Weight({4}), Add("matmul", {x, w})});
  }

  ValueId AddConv(ValueId x) {
    if (type(x).rank() != 4) return Add("abs", {x});
    Dim channels = type(x).dims[1];
    ValueId y = Add("conv", {x, Weight({4, channels, 1, 1})},
                    {{"stride", Dims{1, 1}},
                     {"padding", Dims{0, 0}},
                     {"dilation", Dims{1, 1}},
                     {"groups", Dim(1)},
                     {"transposed", false},
                     {"output_padding", Dims{0, 0}}});
    return Add("batch_norm", {y, Weight({4}), Weight({4}), Weight({4}), Weight({4})},
               {{"eps", 1e-5}});
  }

  ValueId AddRowwise(ValueId x) {
    if (type(x).rank() == 0) return Add("abs", {x});
    if (Draw(2) == 0) return Add("softmax", {x}, {{"axis", Dim(type(x).rank() - 1)}});
    return Add("layer_norm", {x, Weight({type(x).dims.back()})},
               {{"num_dims", Dim(1)}, {"eps", 1e-5}});
  }

  // softmax(x x^T / 2) x
  void AddAttention(ValueId x) {
    int rank = type(x).rank();
    if (rank < 2) return;
    Dims perm;
    for (int i = 0; i < rank; ++i) perm.push_back(i);
    std::swap(perm[rank - 1], perm[rank - 2]);
    ValueId scores = Add("matmul", {x, Add("permute", {x}, {{"perm", perm}})});
    scores = Add("mul", {scores, AddScalar(graph_, DType::kFloat32, 0.5)});
    Keep(Add("matmul", {Add("softmax", {scores}, {{"axis", Dim(rank - 1)}}), x}));
  }

  static constexpr std::string_view kUnary[] = {"neg", "abs",     "relu", "tanh",
                                                "exp", "sigmoid", "gelu", "square"};
  static constexpr std::string_view kBinary[] = {"add", "sub", "mul", "maximum", "minimum"};
  static constexpr double kNumbers[] = {1, 0.5, -1, 2, 0};

  std::mt19937 rng_;
  Graph graph_;
  std::vector<ValueId> values_;
  int num_weights_ = 0;
};

TEST(Pipeline, KeepsTheValueOfRandomGraphs) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    Graph before = RandomGraph(seed).Make();
    VerifyGraph(before);
    Graph after = before;
    RunPasses(after, AllPasses());
    ExpectSameValues(before, after, 1e-3);
    if (::testing::Test::HasFatalFailure()) {
      FAIL() << "seed " << seed << "\n" << PrintGraph(before) << PrintGraph(after);
    }
  }
}

TEST(Pipeline, KeepsTheValueUnderAnyFuel) {
  Graph before = RandomGraph(5).Make();
  for (int fuel = 0; fuel < 40; ++fuel) {
    setenv("STATOR_FUEL", std::to_string(fuel).c_str(), 1);
    Graph after = before;
    int64_t num_rewrites = 0;
    for (const PassTime& time : RunPasses(after, AllPasses())) num_rewrites += time.num_rewrites;
    EXPECT_LE(num_rewrites, fuel);
    ExpectSameValues(before, after, 1e-3);
  }
  unsetenv("STATOR_FUEL");
}

TEST(Pipeline, EachPassIsIdempotent) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    Graph graph = RandomGraph(seed).Make();
    for (const Pass& pass : AllPasses()) {
      RunPasses(graph, {pass});
      std::string once = PrintGraph(graph);
      EXPECT_EQ(RunPasses(graph, {pass})[0].num_rewrites, 0) << pass.name << "\n" << once;
    }
  }
}

TEST(Pipeline, NamesTheValidPasses) {
  EXPECT_EQ(FindPasses({"simplify", "eliminate_dead"}).size(), 2u);
  try {
    FindPasses({"simplfy"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("`simplfy`"));
    EXPECT_THAT(error.what(), HasSubstr("eliminate_dead"));
  }
}

TEST(Pipeline, RejectsFuelThatIsNoNumber) {
  setenv("STATOR_FUEL", "ten", 1);
  Graph graph = RandomGraph(1).Make();
  EXPECT_THROW(RunPasses(graph, AllPasses()), Error);
  unsetenv("STATOR_FUEL");
}

TEST(Pipeline, DumpsEachPass) {
  fs::path folder = fs::path(::testing::TempDir()) / "stator_dump_test";
  fs::remove_all(folder);
  setenv("STATOR_DUMP", folder.c_str(), 1);
  Graph graph =
      ParseGraph("graph @g(%x: f32[2]) {\n  %0 = neg(%x)\n  %1 = neg(%0)\n  return %1\n}\n");
  RunPasses(graph, FindPasses({"simplify", "simplify"}));
  unsetenv("STATOR_DUMP");
  std::vector<std::string> texts;
  std::vector<fs::path> files(fs::directory_iterator(folder), {});
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    EXPECT_THAT(file.filename().string(), HasSubstr("pass_simplify"));
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    texts.push_back(text.str());
  }
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0], "graph @g(%x: f32[2]) {\n  return %x\n}\n");
  EXPECT_EQ(texts[1], "(unchanged)\n");
}

TEST(Pipeline, DocumentsEachPass) {
  std::string text = PassesToMarkdown();
  for (const Pass& pass : AllPasses()) EXPECT_THAT(text, HasSubstr(std::string(pass.name)));
}

}  // namespace
}  // namespace stator
