// Walks the op table: no row may have a hole, and every sample runs through type rule, reference
// and decomposition. What a row computes is compared with torch in test/conformance.
#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "ops/describe.h"
#include "ops/evaluate.h"
#include "ops/samples.h"

namespace stator {
namespace {

bool IsStandIn(const OpDef& op) { return op.Is(kOpaque) || op.Is(kKernel); }

// Every row but `torch` and `kernel`, which stand for something else.
std::vector<const OpDef*> RunnableOps() {
  std::vector<const OpDef*> ops;
  for (const OpDef* op : AllOps()) {
    if (!IsStandIn(*op)) ops.push_back(op);
  }
  return ops;
}

void FillRandom(const TensorRef& tensor, const SampleCase& sample, std::mt19937& random) {
  std::normal_distribution<double> normal;
  int64_t low = sample.low, high = sample.high;
  if (low >= high) low = 1, high = 5;
  std::uniform_int_distribution<int64_t> integer(low, high - 1);
  DispatchDType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
      if constexpr (std::is_same_v<T, bool>) {
        Data<T>(tensor)[at[0]] = random() % 2 == 0;
      } else if constexpr (scalar::kIsFloatElement<T>) {
        Data<T>(tensor)[at[0]] = scalar::CastTo<T>(normal(random));
      } else {
        Data<T>(tensor)[at[0]] = static_cast<T>(integer(random));
      }
    });
  });
}

std::vector<HostTensor> MakeInputs(const SampleCase& sample) {
  std::mt19937 random(7);
  std::vector<HostTensor> inputs;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    if (!sample.inputs[i]) continue;
    inputs.push_back(MakeHostTensor(*sample.inputs[i]));
    FillRandom(inputs.back().ref, sample, random);
    if (sample.op->name == "batch_norm" && i == 4) {  // a variance is positive
      HostTensor positive = MakeHostTensor(*sample.inputs[i]);
      GetOp("abs").reference({}, std::span(&inputs.back().ref, 1), std::span(&positive.ref, 1));
      inputs.back() = std::move(positive);
    }
  }
  return inputs;
}

std::vector<TensorRef> Refs(const std::vector<HostTensor>& tensors) {
  std::vector<TensorRef> refs;
  for (const HostTensor& tensor : tensors) refs.push_back(tensor.ref);
  return refs;
}

// The same values with dims in reverse memory order and gaps between elements.
HostTensor MakeStrided(const TensorRef& tensor) {
  Sizes strides(tensor.dims.size());
  int64_t stride = 2;
  for (size_t i = 0; i < strides.size(); ++i) {
    strides[i] = stride;
    stride *= tensor.dims[i];
  }
  HostTensor strided = MakeHostTensor(tensor.dtype, {stride});
  strided.ref.dims = tensor.dims;
  strided.ref.strides = strides;
  CopyTensor(tensor, strided.ref);
  return strided;
}

double ElementAt(const TensorRef& tensor, int64_t offset) {
  double value = 0;
  DispatchDType(tensor.dtype, [&](auto zero) {
    value = scalar::CastTo<double>(Data<decltype(zero)>(tensor)[offset]);
  });
  return value;
}

// Elementwise |a - b| <= atol + rtol * |b|; NaN equals NaN.
void ExpectClose(const TensorRef& a, const TensorRef& b, double rtol, double atol) {
  ASSERT_EQ(a.dtype, b.dtype);
  ASSERT_EQ(a.dims, b.dims);
  ForEachOffset<2>(a.dims, {a.strides, b.strides}, [&](const auto& at) {
    double found = ElementAt(a, at[0]), expected = ElementAt(b, at[1]);
    if (found == expected || (std::isnan(found) && std::isnan(expected))) return;
    EXPECT_LE(std::abs(found - expected), atol + rtol * std::abs(expected))
        << found << " where " << expected << " is expected";
  });
}

TEST(OpTable, HasNoHoles) {
  for (const OpDef* op : AllOps()) {
    SCOPED_TRACE(op->name);
    EXPECT_FALSE(op->name.empty());
    EXPECT_FALSE(op->doc.empty());
    EXPECT_NE(op->infer, nullptr);
    EXPECT_TRUE(op->max_inputs < 0 || op->max_inputs >= op->min_inputs);
    for (const AttrDef& attr : op->attrs) EXPECT_FALSE(attr.doc.empty()) << attr.name;
    if (IsStandIn(*op)) continue;
    EXPECT_NE(op->reference, nullptr);
    EXPECT_GE(op->samples.size(), 4u);
    EXPECT_FALSE(op->torch.empty());
    EXPECT_EQ(op->scalar_body.empty(), !op->Is(kPointwise));
  }
}

TEST(OpTable, IdsNamesAndOverloadsAreUnique) {
  std::set<int> ids;
  std::set<std::string_view> names, overloads;
  for (const OpDef* op : AllOps()) {
    EXPECT_TRUE(ids.insert(op->id).second) << op->id;
    EXPECT_TRUE(names.insert(op->name).second) << op->name;
    EXPECT_EQ(FindOp(op->name), op);
    for (std::string_view overload : op->aten) {
      EXPECT_TRUE(overload.starts_with("aten.")) << overload;
      EXPECT_TRUE(overloads.insert(overload).second) << overload;
      EXPECT_EQ(FindOpByAten(overload), op);
    }
  }
  EXPECT_EQ(FindOp("no_such_op"), nullptr);
  EXPECT_EQ(FindOpByAten("aten.no_such_op.default"), nullptr);
  EXPECT_THROW(GetOp("no_such_op"), Error);
}

TEST(OpTable, IdsAreInTheRangeOfTheirFamily) {
  for (const OpDef* op : AllOps()) {
    EXPECT_EQ(op->Is(kPointwise), op->id >= 100 && op->id < 400) << op->name;
    EXPECT_EQ(op->Is(kView), op->id >= 50 && op->id < 100) << op->name;
    EXPECT_EQ(IsStandIn(*op), op->id < 50) << op->name;
  }
}

// Sizes that kernels get wrong: nothing at all, dims of 1, and odd dims.
TEST(OpTable, SamplesCoverAwkwardSizes) {
  for (const OpDef* op : RunnableOps()) {
    bool empty = false, one = false, odd = false;
    for (const SampleCase& sample : ExpandSamples(*op)) {
      std::vector<TensorType> types = sample.outputs;
      for (const auto& input : sample.inputs) {
        if (input) types.push_back(*input);
      }
      for (const TensorType& type : types) {
        int64_t count = type.num_elements().value();
        empty = empty || count == 0;
        one = one || count == 1;
        odd = odd || (count > 1 && count % 2 == 1);
      }
    }
    EXPECT_TRUE(empty) << op->name << " has no sample without elements";
    EXPECT_TRUE(one) << op->name << " has no sample of one element";
    EXPECT_TRUE(odd) << op->name << " has no sample of an odd number of elements";
  }
}

TEST(OpTable, SamplesRunOnAnyStrides) {
  for (const OpDef* op : RunnableOps()) {
    for (const SampleCase& sample : ExpandSamples(*op)) {
      Graph graph = MakeSampleGraph(sample);
      std::string text = PrintGraph(graph);
      SCOPED_TRACE(text);
      EXPECT_NO_THROW(VerifyGraph(graph));
      EXPECT_EQ(PrintGraph(ParseGraph(text)), text);
      std::vector<HostTensor> inputs = MakeInputs(sample), strided;
      for (const HostTensor& input : inputs) strided.push_back(MakeStrided(input.ref));
      std::vector<HostTensor> dense_outputs = EvaluateGraph(graph, Refs(inputs));
      std::vector<HostTensor> strided_outputs = EvaluateGraph(graph, Refs(strided));
      ASSERT_EQ(dense_outputs.size(), sample.outputs.size());
      for (size_t i = 0; i < dense_outputs.size(); ++i) {
        EXPECT_EQ(dense_outputs[i].ref.dtype, sample.outputs[i].dtype);
        EXPECT_EQ(dense_outputs[i].ref.dims, EvalDims(sample.outputs[i].dims, {}));
        EXPECT_EQ(dense_outputs[i].storage, strided_outputs[i].storage);  // bit for bit
      }
    }
  }
}

// References must write any strides too: outputs may be views of larger buffers.
TEST(OpTable, ReferencesWriteStridedOutputs) {
  for (const OpDef* op : RunnableOps()) {
    for (const SampleCase& sample : ExpandSamples(*op)) {
      SCOPED_TRACE(PrintGraph(MakeSampleGraph(sample)));
      std::vector<HostTensor> inputs = MakeInputs(sample);
      std::vector<TensorRef> refs;
      size_t next = 0;
      for (const auto& input : sample.inputs) {
        refs.push_back(input ? inputs[next++].ref : TensorRef{});
      }
      std::vector<HostTensor> dense, strided;
      for (const TensorType& type : sample.outputs) {
        dense.push_back(MakeHostTensor(type));
        strided.push_back(MakeStrided(dense.back().ref));
      }
      std::vector<TensorRef> dense_refs = Refs(dense), strided_refs = Refs(strided);
      op->reference(sample.attrs, refs, dense_refs);
      op->reference(sample.attrs, refs, strided_refs);
      for (size_t i = 0; i < dense.size(); ++i) ExpectClose(strided_refs[i], dense_refs[i], 0, 0);
    }
  }
}

TEST(OpTable, DecompositionsAgreeWithReferences) {
  int num_compared = 0;
  for (const OpDef* op : RunnableOps()) {
    if (op->decompose == nullptr) continue;
    for (const SampleCase& sample : ExpandSamples(*op)) {
      Graph graph = MakeSampleGraph(sample);
      SCOPED_TRACE(PrintGraph(graph));
      std::vector<HostTensor> inputs = MakeInputs(sample);
      std::vector<HostTensor> expected = EvaluateGraph(graph, Refs(inputs));
      const Node& node = graph.node(graph.first_node());
      graph.SetOutputs(op->decompose(graph, node));
      VerifyGraph(graph);
      EXPECT_GT(graph.nodes().size(), 2u);
      std::vector<HostTensor> actual = EvaluateGraph(graph, Refs(inputs));
      DType dtype = sample.outputs[0].dtype;
      double rtol = dtype == DType::kBFloat16  ? 1e-2
                    : dtype == DType::kFloat16 ? 2e-3
                                               : op->tolerance.rtol * 4;
      ASSERT_EQ(actual.size(), expected.size());
      ExpectClose(actual[0].ref, expected[0].ref, rtol, op->tolerance.atol);
      ++num_compared;
    }
  }
  EXPECT_GT(num_compared, 100);
}

TEST(OpTable, SchemaIsChecked) {
  const OpDef& slice = GetOp("slice");
  Attrs attrs = {{"dim", Dim(0)}, {"start", Dim(0)}, {"end", Dim(1)}, {"step", Dim(1)}};
  EXPECT_NO_THROW(CheckSchema(slice, 1, attrs));
  EXPECT_THROW(CheckSchema(slice, 0, attrs), Error);
  EXPECT_THROW(CheckSchema(slice, 2, attrs), Error);
  Attrs missing = attrs, unknown = attrs, wrong = attrs;
  missing.Erase("step");
  unknown.Set("steps", Dim(1));
  wrong.Set("step", 1.0);
  EXPECT_THROW(CheckSchema(slice, 1, missing), Error);
  EXPECT_THROW(CheckSchema(slice, 1, unknown), Error);
  EXPECT_THROW(CheckSchema(slice, 1, wrong), Error);
  EXPECT_NO_THROW(CheckSchema(GetOp("concat"), 9, {{"dim", Dim(0)}}));
}

TEST(OpTable, DescribesEveryRow) {
  std::string json = OpTableToJson();
  for (const OpDef* op : AllOps()) {
    EXPECT_NE(json.find(fmt::format("\"id\": {}, \"name\": \"{}\"", op->id, op->name)),
              std::string::npos);
  }
}

}  // namespace
}  // namespace stator
