// PrepareReduce against the reference kernels: every reduction, dtype, set of axes and layout, at
// every SIMD level; sums of many elements against sums in double.
#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ir/print.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

// x -> [x * |x| when `pointwise`] -> op over axes; empty when the op's rule rejects the dtype.
std::optional<Graph> MakeReduction(std::string_view op, DType dtype, const Sizes& dims,
                                   const Dims& axes, bool keepdim, bool pointwise) {
  Graph body;
  ValueId x = body.AddInput("x", {.dtype = dtype, .dims = Dims(dims.begin(), dims.end())});
  Attrs attrs = {{"axes", axes}, {"keepdim", keepdim}};
  if (op == "var") attrs.Set("correction", 1.0);
  auto add = [&](std::string_view name, std::vector<ValueId> inputs, Attrs node_attrs = {}) {
    NodeId node = body.AddNode(GetOp(name), std::move(inputs), std::move(node_attrs));
    return body.node(node).outputs[0];
  };
  try {
    if (pointwise) x = add("mul", {x, add("abs", {x})});
    body.SetOutputs({add(op, {x}, attrs)});
  } catch (const Error&) {
    return std::nullopt;
  }
  return body;
}

enum class Values { kNormal, kSpecial, kPositive };

void CheckReduction(const Graph& body, Layout layout, Values values) {
  std::mt19937 random(8);
  const TensorType& type = body.type(body.inputs()[0]);
  HostTensor x = MakeInLayout(type.dtype, EvalDims(type.dims, {}), layout);
  FillRandom(x.ref, random, values == Values::kSpecial);
  if (values == Values::kPositive) {  // so that the sum is as large as its terms' sizes say
    ForEachOffset<1>(x.ref.dims, {x.ref.strides}, [&](const auto& at) {
      Data<float>(x.ref)[at[0]] = std::abs(Data<float>(x.ref)[at[0]]);
    });
  }
  CheckStep(PrepareReduce, body, {x.ref}, Layout::kDense);
  CheckStep(PrepareReduce, body, {x.ref}, Layout::kGaps);
}

TEST(Reduce, EveryOpDTypeAxesAndLayout) {
  struct Case {
    Sizes dims;
    Dims axes;
  };
  const Case kCases[] = {
      {{33}, {0}},
      {{3, 70}, {1}},
      {{70, 3}, {0}},
      {{5, 7, 9}, {0, 2}},
      {{5, 7, 9}, {1}},
      {{2, 35, 6, 5}, {2, 3}},
      {{1, 300, 3, 4}, {2, 3}},
      {{2, 3, 4}, {0, 1, 2}},
      {{3, 1}, {1}},
      {{1, 1}, {0}},
      {{0, 3}, {1}},
  };
  ForEachSimdTarget([&] {
    for (const OpDef* op : AllOps()) {
      if (!op->Is(kReduction)) continue;
      for (int i = 0; i < kNumDTypes; ++i) {
        for (const Case& c : kCases) {
          for (bool pointwise : {false, true}) {
            auto body = MakeReduction(op->name, static_cast<DType>(i), c.dims, c.axes,
                                      c.axes.size() == 1, pointwise);
            if (!body) continue;
            for (Layout layout : kLayouts) {
              SCOPED_TRACE(PrintGraph(*body) + " layout " +
                           std::to_string(static_cast<int>(layout)));
              CheckReduction(*body, layout, Values::kNormal);
              if (op->name != "prod") CheckReduction(*body, layout, Values::kSpecial);
              if (::testing::Test::HasFailure()) return;
            }
          }
        }
      }
    }
  });
}

TEST(Reduce, ManyElements) {
  struct Case {
    Sizes dims;
    Dims axes;
  };
  const Case kCases[] = {{{70001}, {0}},          {{7, 20000}, {1}},   {{20000, 7}, {0}},
                         {{700, 300}, {0}},       {{64, 49, 65}, {1}}, {{64, 49, 65}, {0, 1, 2}},
                         {{8, 512, 7, 7}, {2, 3}}};
  for (const Case& c : kCases) {
    for (std::string_view op : {"sum", "mean", "amax"}) {
      for (bool pointwise : {false, true}) {
        Graph body = *MakeReduction(op, DType::kFloat32, c.dims, c.axes, false, pointwise);
        SCOPED_TRACE(PrintGraph(body));
        for (Layout layout : {Layout::kReversed, Layout::kChannelsLast}) {
          CheckReduction(body, layout, Values::kPositive);
        }
      }
    }
  }
}

}  // namespace
}  // namespace stator
