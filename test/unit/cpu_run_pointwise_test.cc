// PreparePointwise against the reference kernels: every pointwise op, dtype and layout, at every
// SIMD level of the machine; random bodies.
#include <set>

#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ops/samples.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

// The sample's op on inputs of these dims.
Graph MakeGraph(const SampleCase& sample, const std::vector<Sizes>& dims) {
  SampleCase wanted = sample;
  for (size_t i = 0; i < wanted.inputs.size(); ++i) {
    wanted.inputs[i]->dims = Dims(dims[i].begin(), dims[i].end());
  }
  return MakeSampleGraph(wanted);
}

void CheckGraph(const Graph& body, Layout input_layout, Layout output_layout, bool special,
                unsigned seed) {
  std::mt19937 random(seed);
  std::vector<HostTensor> tensors;
  std::vector<TensorRef> inputs;
  for (ValueId id : body.inputs()) {
    const TensorType& type = body.type(id);
    tensors.push_back(MakeInLayout(type.dtype, EvalDims(type.dims, {}), input_layout));
    FillRandom(tensors.back().ref, random, special);
    inputs.push_back(tensors.back().ref);
  }
  bool is_reference = CheckStep(PreparePointwise, body, inputs, output_layout);
  EXPECT_EQ(is_reference, body.type(body.outputs()[0]).num_elements() == Dim(0));
}

// One case per pointwise op and dtype.
std::vector<SampleCase> PointwiseCases() {
  std::vector<SampleCase> cases;
  for (const OpDef* op : AllOps()) {
    if (!op->Is(kPointwise)) continue;
    std::set<std::string> seen;
    for (SampleCase& sample : ExpandSamples(*op)) {
      std::string key = sample.attrs.ToString();
      for (const auto& input : sample.inputs) key += DTypeName(input->dtype);
      if (seen.insert(key).second) cases.push_back(std::move(sample));
    }
  }
  return cases;
}

TEST(Pointwise, EveryOpInEveryDTypeAndLayout) {
  const std::vector<std::vector<Sizes>> kDims = {
      {{}, {}, {}},
      {{1}, {1}, {1}},
      {{0, 3}, {3}, {0, 1}},
      {{33}, {33}, {}},
      {{1040}, {1040}, {1040}},
      {{2, 3, 5, 7}, {3, 1, 1}, {7}},
      {{2, 1}, {1, 1031}, {2, 1031}},
      {{1, 4, 3, 130}, {1, 4, 3, 130}, {4, 1, 1}},
  };
  ForEachSimdTarget([&] {
    for (const SampleCase& sample : PointwiseCases()) {
      for (const auto& dims : kDims) {
        Graph body = MakeGraph(sample, dims);
        for (Layout layout : kLayouts) {
          Layout output = layout == Layout::kGaps ? Layout::kDense : layout;
          SCOPED_TRACE(PrintGraph(body) + " layout " + std::to_string(static_cast<int>(layout)));
          CheckGraph(body, layout, output, true, 1);
          if (layout == Layout::kReversed) CheckGraph(body, layout, Layout::kGaps, false, 2);
          if (HasFailure()) return;
        }
      }
    }
  });
}

// A body of random nodes over f32 values of a few shapes. Values stay small, and comparisons read
// inputs alone, so that rounding flips none.
Graph MakeRandomBody(std::mt19937& random) {
  constexpr std::string_view kUnary[] = {"neg",     "abs",         "relu",      "tanh",
                                         "sigmoid", "hardsigmoid", "hardswish", "square"};
  constexpr std::string_view kBinary[] = {"add", "mul", "add", "mul", "sub", "maximum", "minimum"};
  constexpr std::string_view kDims[] = {"f32[3, 5, 70]", "f32[5, 1]", "f32[70]", "f32[3, 1, 70]",
                                        "f32[]"};
  Graph body;
  std::vector<ValueId> inputs, values;
  for (std::string_view dims : kDims) {
    inputs.push_back(body.AddInput("x" + std::to_string(inputs.size()), ParseType(dims)));
  }
  values = inputs;
  values.push_back(AddScalar(body, DType::kFloat32, 0.25));
  auto pick = [&](const std::vector<ValueId>& from) { return from[random() % from.size()]; };
  auto add = [&](std::string_view op, std::vector<ValueId> operands, Attrs attrs = {}) {
    NodeId node = body.AddNode(GetOp(op), std::move(operands), std::move(attrs));
    return body.node(node).outputs[0];
  };
  for (int i = 0; i < 14; ++i) {
    ValueId value;
    switch (random() % 8) {
      case 0: {
        ValueId mask = add("lt", {pick(inputs), pick(inputs)});
        value = add("where", {mask, pick(values), pick(values)});
        break;
      }
      case 1:
      case 2: value = add(kUnary[random() % std::size(kUnary)], {pick(values)}); break;
      case 3: {
        ValueId half = add("cast", {pick(inputs)}, {{"dtype", DType::kFloat16}});
        value = add("cast", {half}, {{"dtype", DType::kFloat32}});
        break;
      }
      default: value = add(kBinary[random() % std::size(kBinary)], {pick(values), pick(values)});
    }
    values.push_back(add("hardtanh", {value}, {{"min", -4.0}, {"max", 4.0}}));
    if (random() % 2) values.back() = value;
  }
  // Every output has the whole domain.
  body.SetOutputs({add("add", {values.back(), inputs[0]}), add("mul", {pick(values), inputs[0]})});
  return body;
}

TEST(Pointwise, RandomBodies) {
  std::mt19937 random(11);
  for (int i = 0; i < 60; ++i) {
    Graph body = MakeRandomBody(random);
    SCOPED_TRACE(PrintGraph(body));
    for (Layout layout : kLayouts) CheckGraph(body, layout, layout, false, i);
    if (HasFailure()) return;
  }
}

TEST(Pointwise, SplitsLargeDomainsOverThreads) {
  Graph body = ParseGraph(R"(graph @g(%x: f32[3, 67, 501], %b: f32[501], %s: f32[3, 1, 1]) {
    %0 = mul(%x, %s)
    %1 = add(%0, %b)
    %2 = hardswish(%1)
    return %2
  })");
  for (Layout layout : kLayouts) CheckGraph(body, layout, layout, false, 1);
}

TEST(Pointwise, WritesOneValueToSeveralOutputs) {
  Graph body = ParseGraph(R"(graph @g(%x: f32[3, 40], %y: f32[40]) {
    %0 = add(%x, %y)
    %1 = relu(%0)
    return %0, %1, %0, %x
  })");
  for (Layout layout : kLayouts) CheckGraph(body, layout, Layout::kDense, false, 1);
}

TEST(Pointwise, RepeatsWhatEveryInputBroadcasts) {
  Graph body =
      ParseGraph("graph @g(%x: f32[3, 1], %y: f32[]) {\n  %0 = add(%x, %y)\n  return %0\n}");
  HostTensor x = MakeInLayout(DType::kFloat32, {3, 1}, Layout::kDense);
  HostTensor y = MakeInLayout(DType::kFloat32, {}, Layout::kDense);
  HostTensor out = MakeInLayout(DType::kFloat32, {3, 50}, Layout::kDense);
  for (int i = 0; i < 3; ++i) Data<float>(x.ref)[i] = static_cast<float>(i);
  *Data<float>(y.ref) = 0.5f;
  Step step;
  RunStep(*PreparePointwise(
              {.step = &step, .body = body, .inputs = {x.ref, y.ref}, .outputs = {out.ref}}),
          {x.ref, y.ref}, {out.ref});
  for (int i = 0; i < 150; ++i) {
    EXPECT_EQ(Data<float>(out.ref)[i], static_cast<float>(i / 50) + 0.5f);
  }
}

}  // namespace
}  // namespace stator
