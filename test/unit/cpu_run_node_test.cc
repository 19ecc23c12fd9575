// PrepareNode against the reference kernels: every sample in every layout, lines long enough for
// each way to run, equal elements, special floats, numbers in the body, writes in place, and
// errors.
#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ops/samples.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

constexpr std::string_view kOps[] = {
    "argmax",       "argmin",      "cumsum",     "cumprod",       "cummax", "cummin",
    "logcumsumexp", "sort",        "topk",       "embedding_bag", "gather", "index",
    "scatter",      "index_put",   "pad",        "flip",          "tril",   "triu",
    "softmax",      "log_softmax", "group_norm", "kthvalue",      "median", "mode"};

void FillIntegers(const TensorRef& tensor, std::mt19937& random, int64_t low, int64_t high) {
  DispatchDType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
      int64_t value = low + static_cast<int64_t>(random() % (high - low));
      Data<T>(tensor)[at[0]] = scalar::CastTo<T>(value);
    });
  });
}

// Inputs of these types in this layout; i64 and i32 ones in [low, high) when that is a range.
std::vector<HostTensor> MakeInputs(const Graph& body, int64_t low, int64_t high, Layout layout,
                                   std::mt19937& random, bool has_index) {
  std::vector<HostTensor> inputs;
  for (ValueId id : body.inputs()) {
    const TensorType& type = body.type(id);
    inputs.push_back(MakeInLayout(type.dtype, EvalDims(type.dims, {}), layout));
    bool is_index = has_index && (type.dtype == DType::kInt64 || type.dtype == DType::kInt32);
    if (is_index && low < high) {
      FillIntegers(inputs.back().ref, random, low, high);
    } else {
      FillRandom(inputs.back().ref, random, true);
    }
  }
  return inputs;
}

void Check(const Graph& body, int64_t low, int64_t high, bool has_index) {
  std::mt19937 random(6);
  for (Layout layout : kLayouts) {
    SCOPED_TRACE("layout " + std::to_string(static_cast<int>(layout)));
    std::vector<HostTensor> tensors = MakeInputs(body, low, high, layout, random, has_index);
    std::vector<TensorRef> inputs;
    for (const HostTensor& tensor : tensors) inputs.push_back(tensor.ref);
    for (Layout out : {Layout::kDense, Layout::kGaps}) CheckStep(PrepareNode, body, inputs, out);
  }
}

TEST(Node, EverySampleInEveryLayout) {
  for (std::string_view name : kOps) {
    ASSERT_TRUE(HasNodeKernel(name));
    for (const SampleCase& sample : ExpandSamples(GetOp(name))) {
      SCOPED_TRACE(std::string(name) + " " + sample.inputs[0]->ToString());
      bool has_index = name != "sort" && name != "topk" && !name.starts_with("cum") &&
                       name != "kthvalue" && name != "median" && name != "mode";
      Check(MakeSampleGraph(sample), sample.low, sample.high, has_index);
    }
  }
}

TEST(Node, LongLines) {
  for (std::string_view text : {
           "graph @g(%x: f32[3, 1000]) {\n %0 = cumsum(%x) {dim = 1}\n return %0\n}",
           "graph @g(%x: f32[20, 300]) {\n %0 = cumsum(%x) {dim = 0}\n return %0\n}",
           "graph @g(%x: i8[2, 9, 40]) {\n %0 = cumprod(%x) {dim = 1}\n return %0\n}",
           "graph @g(%x: f32[70, 400]) {\n %0, %1 = sort(%x) {dim = 1, descending = true}\n"
           " return %0, %1\n}",
           "graph @g(%x: f32[20, 400]) {\n %0, %1 = sort(%x) {dim = 1, descending = true, "
           "stable = false}\n return %0, %1\n}",
           "graph @g(%x: i8[20, 400]) {\n %0, %1 = mode(%x) {dim = 1}\n return %0, %1\n}",
           "graph @g(%x: f32[20, 400]) {\n %0, %1 = median(%x) {dim = 1, ignore_nan = true}\n"
           " return %0, %1\n}",
           "graph @g(%x: i16[3, 700]) {\n %0, %1 = sort(%x) {dim = 1, descending = false}\n"
           " return %1\n}",
           "graph @g(%x: f64[3, 100]) {\n %0, %1 = sort(%x) {dim = 1, descending = false}\n"
           " return %1, %0\n}",
           "graph @g(%x: f32[3, 9000]) {\n"
           " %0, %1 = topk(%x) {dim = 1, k = 40, largest = true, sorted = true}\n"
           " return %0, %1\n}",
           "graph @g(%x: i64[3, 9000]) {\n"
           " %0, %1 = topk(%x) {dim = 1, k = 40, largest = false, sorted = true}\n"
           " return %0, %1\n}",
           "graph @g(%x: f16[3, 500]) {\n"
           " %0, %1 = topk(%x) {dim = 1, k = 300, largest = false, sorted = true}\n"
           " return %1\n}",
       }) {
    SCOPED_TRACE(text);
    Check(ParseGraph(text), 0, 0, false);
  }
}

TEST(Node, Norms) {
  for (std::string_view text : {
           "graph @g(%x: f32[3, 50, 70]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}",
           "graph @g(%x: bf16[90, 300]) {\n %0 = softmax(%x) {axis = 0}\n return %0\n}",
           "graph @g(%x: f64[90, 20]) {\n %0 = log_softmax(%x) {axis = 0}\n return %0\n}",
           "graph @g(%x: f32[2, 200, 9, 7]) {\n %0 = log_softmax(%x) {axis = 1}\n return %0\n}",
           "graph @g(%x: f32[2, 64, 19, 31], %w: f32[64], %b: f32[64]) {\n"
           " %0 = group_norm(%x, %w, %b) {eps = 1e-05, groups = 8}\n return %0\n}",
           "graph @g(%x: f16[2, 64, 9, 31], %w: f16[64]) {\n"
           " %0 = group_norm(%x, %w) {eps = 1e-05, groups = 4}\n return %0\n}",
           "graph @g(%x: f64[2, 24, 9, 31], %w: f64[24]) {\n"
           " %0 = group_norm(%x, %w) {eps = 1e-05, groups = 24}\n return %0\n}",
           "graph @g(%x: f32[2, 12000], %w: f32[12000]) {\n"
           " %0 = group_norm(%x, %w) {eps = 1e-05, groups = 2}\n return %0\n}",
       }) {
    SCOPED_TRACE(text);
    Check(ParseGraph(text), 0, 0, false);
  }
}

TEST(Node, WideWrites) {
  for (std::string_view text : {
           "graph @g(%x: f32[50, 200], %i: i64[400, 200], %s: f32[400, 200]) {\n"
           " %0 = scatter(%x, %i, %s) {dim = 0, reduce = \"sum\"}\n return %0\n}",
           "graph @g(%x: f32[400, 60], %i: i64[400, 70], %s: f32[400, 70]) {\n"
           " %0 = scatter(%x, %i, %s) {dim = 1}\n return %0\n}",
           "graph @g(%x: f32[4, 8, 50, 32], %v: f32[4, 8, 20, 32], %i: i64[20]) {\n"
           " %0 = index_put(%x, %v, none, none, %i) {accumulate = true}\n return %0\n}",
           "graph @g(%x: f16[60, 512], %v: f16[100, 512], %i: i64[100]) {\n"
           " %0 = index_put(%x, %v, %i) {accumulate = false}\n return %0\n}",
           "graph @g(%x: f32[60, 70], %i: i64[3000], %j: i64[3000]) {\n"
           " %0 = index(%x, %i, %j)\n return %0\n}",
           "graph @g(%x: f32[60, 500], %i: i64[3000]) {\n"
           " %0 = index(%x, %i)\n return %0\n}",
       }) {
    SCOPED_TRACE(text);
    Check(ParseGraph(text), 0, 50, true);
  }
}

TEST(Node, WritesANumber) {
  Graph body = ParseGraph(
      "graph @g(%x: f32[4, 5], %i: i64[2]) {\n  literal %c0: f32[] = [2.5]\n"
      "  %0 = index_put(%x, %c0, %i) {accumulate = false}\n  return %0\n}");
  Check(body, -4, 4, true);
}

TEST(Node, WritesInPlaceWithoutACopy) {
  Graph body = ParseGraph(
      "graph @g(%x: f32[4, 5], %v: f32[2, 5], %i: i64[2]) {\n"
      " %0 = index_put(%x, %v, %i) {accumulate = false}\n return %0\n}");
  std::mt19937 random(1);
  std::vector<HostTensor> tensors = MakeInputs(body, 0, 4, Layout::kDense, random, true);
  std::vector<TensorRef> inputs = {tensors[0].ref, tensors[1].ref, tensors[2].ref};
  std::vector<HostTensor> expected = EvaluateGraph(body, inputs);
  StepSite site{.step = nullptr, .body = body, .inputs = inputs, .outputs = {inputs[0]}};
  RunStep(*PrepareNode(site), inputs, {inputs[0]});
  ExpectClose(inputs[0], expected[0].ref);
}

TEST(Node, NamesAnIndexOutOfRange) {
  for (std::string_view text : {
           "graph @g(%x: f32[4, 5], %i: i64[2, 5]) {\n %0 = gather(%x, %i) {dim = 0}\n"
           " return %0\n}",
           "graph @g(%x: f32[4, 5], %i: i64[2]) {\n %0 = index(%x, %i)\n return %0\n}",
           "graph @g(%x: f32[4, 5], %v: f32[], %i: i64[2]) {\n"
           " %0 = index_put(%x, %v, %i) {accumulate = false}\n return %0\n}",
           "graph @g(%x: f32[4, 5], %i: i64[2, 5], %s: f32[2, 5]) {\n"
           " %0 = scatter(%x, %i, %s) {dim = 0}\n return %0\n}",
       }) {
    SCOPED_TRACE(text);
    Graph body = ParseGraph(text);
    std::mt19937 random(1);
    for (int64_t wrong : {int64_t{-5}, int64_t{4}}) {
      std::vector<HostTensor> tensors =
          MakeInputs(body, wrong, wrong + 1, Layout::kDense, random, true);
      std::vector<TensorRef> inputs;
      for (const HostTensor& tensor : tensors) inputs.push_back(tensor.ref);
      HostTensor out = MakeHostTensor(body.type(body.outputs()[0]));
      Step step{.origin = "put_1 · model.py:7"};
      StepSite site{.step = &step, .body = body, .inputs = inputs, .outputs = {out.ref}};
      try {
        RunStep(*PrepareNode(site), inputs, {out.ref});
        FAIL() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
        EXPECT_EQ(error.message(), "index " + std::to_string(wrong) +
                                       " is out of bounds for dimension 0 with size 4");
        EXPECT_EQ(error.node(), step.origin);
      }
    }
  }
}

}  // namespace
}  // namespace stator
