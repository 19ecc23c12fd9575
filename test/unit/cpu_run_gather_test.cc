// PrepareGather against the reference kernels, and its errors.
#include "base/error.h"
#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ops/samples.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

// Values at random, indices in range, in this layout.
std::vector<HostTensor> MakeInputs(const SampleCase& sample, Layout layout) {
  std::mt19937 random(6);
  std::vector<HostTensor> inputs;
  for (const auto& type : sample.inputs) {
    inputs.push_back(MakeInLayout(type->dtype, EvalDims(type->dims, {}), layout));
    FillRandom(inputs.back().ref, random, false);
  }
  int64_t low = sample.low, high = std::max(sample.high, low + 1);
  const TensorRef& index = inputs[1].ref;
  ForEachOffset<1>(index.dims, {index.strides}, [&](const auto& at) {
    int64_t value = low + static_cast<int64_t>(random() % (high - low));
    if (index.dtype == DType::kInt32) Data<int32_t>(index)[at[0]] = static_cast<int32_t>(value);
    if (index.dtype == DType::kInt64) Data<int64_t>(index)[at[0]] = value;
  });
  return inputs;
}

TEST(Gather, EverySampleInEveryLayout) {
  for (std::string_view name : {"embedding", "index_select"}) {
    for (const SampleCase& sample : ExpandSamples(GetOp(name))) {
      Graph body = MakeSampleGraph(sample);
      for (Layout layout : kLayouts) {
        SCOPED_TRACE(std::string(name) + " layout " + std::to_string(static_cast<int>(layout)));
        std::vector<HostTensor> tensors = MakeInputs(sample, layout);
        CheckStep(PrepareGather, body, {tensors[0].ref, tensors[1].ref}, Layout::kDense);
        CheckStep(PrepareGather, body, {tensors[0].ref, tensors[1].ref}, Layout::kGaps);
      }
    }
  }
}

TEST(Gather, NamesAnIndexOutOfRange) {
  Graph body;
  ValueId weight = body.AddInput("weight", ParseType("f32[7, 4]"));
  ValueId indices = body.AddInput("indices", ParseType("i64[2, 3]"));
  NodeId node = body.AddNode(GetOp("embedding"), {weight, indices});
  body.SetOutputs(body.node(node).outputs);
  HostTensor table = MakeInLayout(DType::kFloat32, {7, 4}, Layout::kDense);
  HostTensor index = MakeInLayout(DType::kInt64, {2, 3}, Layout::kDense);
  HostTensor out = MakeInLayout(DType::kFloat32, {2, 3, 4}, Layout::kDense);
  std::fill_n(Data<int64_t>(index.ref), 6, 0);
  Step step{.origin = "embedding_1 · model.py:7"};
  auto prepared = PrepareGather(
      {.step = &step, .body = body, .inputs = {table.ref, index.ref}, .outputs = {out.ref}});
  for (int64_t wrong : {int64_t{-1}, int64_t{7}}) {
    Data<int64_t>(index.ref)[4] = wrong;
    try {
      RunStep(*prepared, {table.ref, index.ref}, {out.ref});
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_EQ(error.message(),
                "index " + std::to_string(wrong) + " is out of bounds for dimension 0 with size 7");
      EXPECT_EQ(error.node(), step.origin);
    }
  }
}

}  // namespace
}  // namespace stator
