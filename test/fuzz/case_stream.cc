#include "fuzz/case_stream.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/print.h"
#include "ops/describe.h"
#include "ops/draw.h"
#include "ops/evaluate.h"
#include "tools/judge.h"
#include "tools/session.h"

namespace stator {
namespace {

using Json = nlohmann::ordered_json;

void Append(std::string& bytes, const void* data, size_t size) {
  bytes.append(static_cast<const char*>(data), size);
}

void AppendDense(std::string& bytes, const TensorRef& tensor) {
  HostTensor dense = MakeHostTensor(tensor.dtype, tensor.dims);
  CopyTensor(tensor, dense.ref);
  Append(bytes, dense.ref.data,
         static_cast<size_t>(tensor.num_elements()) * DTypeSize(tensor.dtype));
}

Json Indices(std::span<const ValueId> ids) {
  Json indices = Json::array();
  for (ValueId id : ids) indices.push_back(id.valid() ? id.index : -1);
  return indices;
}

}  // namespace

bool WriteCase(const Graph& given, const std::string& name, uint64_t seed, int num_samples,
               std::FILE* file) {
  Graph graph = given;
  DrawWeights(graph, seed);
  ResolveSymbols(graph, ChooseSymbols(graph.symbols));
  std::vector<HostTensor> inputs = DrawInputs(graph, {}, seed);
  std::vector<TensorRef> refs = Refs(inputs);
  Json json = {{"name", name}, {"graph", PrintGraph(given)}, {"values", Json::object()}};
  std::string bytes;
  try {
    Judge judge(graph, refs, {});
    std::vector<ValueId> leaves(graph.inputs().begin(), graph.inputs().end());
    leaves.insert(leaves.end(), graph.constants().begin(), graph.constants().end());
    json["leaves"] = Indices(leaves);
    for (const TensorRef& ref : refs) AppendDense(bytes, ref);
    for (ValueId id : graph.constants()) {
      const TensorType& type = graph.type(id);
      Append(bytes, graph.value(id).data.bytes,
             static_cast<size_t>(type.num_elements().value()) * DTypeSize(type.dtype));
    }
    for (int i = 0; i < graph.num_values(); ++i) {
      const TensorType& type = graph.type(ValueId{i});
      json["values"][std::to_string(i)] = {DTypeName(type.dtype), EvalDims(type.dims, {})};
    }
    json["nodes"] = Json::array();
    for (NodeId id : graph.nodes()) {
      const Node& node = graph.node(id);
      json["nodes"].push_back({{"op", node.op->name},
                               {"inputs", Indices(node.inputs)},
                               {"attrs", Json::parse(AttrsToJson(node.attrs))},
                               {"outputs", Indices(node.outputs)}});
    }
    json["outputs"] = Indices(graph.outputs());
    for (const HostTensor& output : judge.expected()) AppendDense(bytes, output.ref);
    for (const std::vector<double>& bounds : judge.Bounds(num_samples)) {
      Append(bytes, bounds.data(), bounds.size() * sizeof(double));
    }
  } catch (const Error&) {
    return false;
  }
  json["bytes"] = bytes.size();
  std::string line = json.dump() + "\n";
  std::fwrite(line.data(), 1, line.size(), file);
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  return true;
}

}  // namespace stator
