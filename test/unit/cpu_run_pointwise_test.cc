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

// The op on inputs of these dims, all of one dtype but a mask; empty when its rule rejects it.
std::optional<Graph> MakeGraph(const SampleCase& sample, const std::vector<Sizes>& dims) {
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
  CheckStep(PreparePointwise, body, inputs, output_layout);
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
      {{2048}, {2048}, {2048}},
      {{2, 3, 5, 7}, {3, 1, 1}, {7}},
      {{3, 1}, {1, 1031}, {3, 1031}},
      {{2, 5, 6, 130}, {2, 5, 6, 130}, {5, 1, 1}},
  };
  ForEachSimdTarget([&] {
    for (const SampleCase& sample : PointwiseCases()) {
      for (const auto& dims : kDims) {
        Graph body = *MakeGraph(sample, dims);
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

}  // namespace
}  // namespace stator
