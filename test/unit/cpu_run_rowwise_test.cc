// PrepareRowwise against the reference kernels: every sample of softmax and the norms, short and
// long rows, pointwise nodes and reductions around them, every layout and SIMD level.
#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ops/samples.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

void CheckGraph(const Graph& body, Layout layout, bool special) {
  std::mt19937 random(9);
  std::vector<HostTensor> tensors;
  std::vector<TensorRef> inputs;
  for (ValueId id : body.inputs()) {
    const TensorType& type = body.type(id);
    tensors.push_back(MakeInLayout(type.dtype, EvalDims(type.dims, {}), layout));
    FillRandom(tensors.back().ref, random, special);
    inputs.push_back(tensors.back().ref);
  }
  CheckStep(PrepareRowwise, body, inputs, Layout::kDense);
  if (layout != Layout::kDense) CheckStep(PrepareRowwise, body, inputs, layout);
}

void CheckText(const std::string& text) {
  SCOPED_TRACE(text);
  for (Layout layout : kLayouts) CheckGraph(ParseGraph(text), layout, false);
}

TEST(Rowwise, EverySampleInEveryLayout) {
  ForEachSimdTarget([] {
    for (const OpDef* op : AllOps()) {
      if (!op->Is(kRowwise)) continue;
      for (const SampleCase& sample : ExpandSamples(*op)) {
        Graph body = MakeSampleGraph(sample);
        for (Layout layout : kLayouts) {
          SCOPED_TRACE(PrintGraph(body) + " layout " + std::to_string(static_cast<int>(layout)));
          CheckGraph(body, layout, false);
          CheckGraph(body, layout, true);
        }
      }
    }
  });
}

TEST(Rowwise, RowsOfAnyLength) {
  ForEachSimdTarget([] {
    for (int length : {1, 3, 16, 31, 128, 197, 768, 1000, 5003}) {
      std::string row = std::to_string(length);
      std::string x = "f32[5, 3, " + row + "]", w = "f32[" + row + "]";
      CheckText("graph @g(%x: " + x + ") {\n  %0 = softmax(%x) {axis = 2}\n  return %0\n}");
      CheckText("graph @g(%x: " + x + ") {\n  %0 = log_softmax(%x) {axis = 2}\n  return %0\n}");
      CheckText("graph @g(%x: " + x + ", %w: " + w + ", %b: " + w +
                ") {\n  %0 = layer_norm(%x, %w, %b) {eps = 1e-05, num_dims = 1}\n  return %0\n}");
      CheckText("graph @g(%x: " + x + ", %w: " + w +
                ") {\n  %0 = rms_norm(%x, %w) {eps = 1e-05, num_dims = 1}\n  return %0\n}");
    }
  });
}

TEST(Rowwise, PointwiseNodesAround) {
  ForEachSimdTarget([] {
    CheckText(R"(graph @g(%x: f32[2, 7, 96], %r: f32[2, 7, 96], %w: f32[96], %b: f32[96]) {
      %0 = add(%x, %r)
      %1 = layer_norm(%0, %w, %b) {eps = 1e-12, num_dims = 1}
      return %0, %1
    })");
    CheckText(R"(graph @g(%x: f32[2, 4, 9, 33], %mask: f32[2, 1, 1, 33]) {
      literal %c0: f32[] = [0.125]
      %0 = mul(%x, %c0)
      %1 = add(%0, %mask)
      %2 = softmax(%1) {axis = 3}
      return %2
    })");
    CheckText(R"(graph @g(%x: f16[3, 40], %w: f16[40], %b: f16[40], %s: f16[3, 1]) {
      %0 = mul(%x, %s)
      %1 = layer_norm(%0, %w, %b) {eps = 1e-05, num_dims = 1}
      %2 = gelu(%1)
      return %2
    })");
    CheckText(R"(graph @g(%x: f32[6, 50]) {
      %0 = amax(%x) {axes = [1], keepdim = true}
      %1 = sub(%x, %0)
      %2 = exp(%1)
      %3 = sum(%2) {axes = [1], keepdim = true}
      %4 = div(%2, %3)
      return %4, %3
    })");
    CheckText(R"(graph @g(%x: f64[3, 5, 6]) {
      %0 = layer_norm(%x) {eps = 1e-05, num_dims = 2}
      %1 = mul(%0, %0)
      return %1
    })");
  });
}

TEST(Rowwise, RowsOfInfinitiesAreAsInTorch) {
  HostTensor x = MakeInLayout(DType::kFloat32, {2, 3}, Layout::kDense);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float values[] = {-kInf, -kInf, -kInf, -kInf, 0, -kInf};
  std::copy_n(values, 6, Data<float>(x.ref));
  HostTensor y = MakeInLayout(DType::kFloat32, {2, 3}, Layout::kDense);
  Graph body =
      ParseGraph("graph @g(%x: f32[2, 3]) {\n  %0 = softmax(%x) {axis = 1}\n  return %0\n}");
  Step step;
  auto prepared =
      PrepareRowwise({.step = &step, .body = body, .inputs = {x.ref}, .outputs = {y.ref}});
  RunStep(*prepared, {x.ref}, {y.ref});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(Data<float>(y.ref)[i]));
  EXPECT_EQ(Data<float>(y.ref)[3], 0.0f);
  EXPECT_EQ(Data<float>(y.ref)[4], 1.0f);
}

}  // namespace
}  // namespace stator
