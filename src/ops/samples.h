// The samples of a row as concrete cases: for conformance tests, fuzzing and documentation.
//
// In:  a row of the op table.
// Out: one case per sample and dtype; "_" becomes each dtype that the row's type rule accepts.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/op_def.h"

namespace stator {

struct SampleCase {
  const OpDef* op = nullptr;
  std::optional<DType> dtype;                     // what "_" stands for
  std::vector<std::optional<TensorType>> inputs;  // empty: absent
  Attrs attrs;
  std::vector<TensorType> outputs;  // inferred
  int64_t low = 0, high = 0;        // as in OpSample
};

// Raises InvalidArgument for a sample that the row's own rule rejects for every dtype.
std::vector<SampleCase> ExpandSamples(const OpDef& op);

// A graph of the one node; its inputs are named x0, x1, ...
Graph MakeSampleGraph(const SampleCase& sample);

}  // namespace stator
