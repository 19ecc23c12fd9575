#include "partition/cost.h"

#include <algorithm>

#include "base/dtype.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr double kEngineCall = 1200, kPort = 200, kTorchPart = 2300, kTorchOp = 2000;
constexpr double kReferenceElement = 5, kReferenceProduct = 0.4;
constexpr double kByte = 0.1;      // 10 GB/s of memory traffic
constexpr double kProduct = 0.02;  // 50 G multiplications per second and core
constexpr int64_t kUnknownSize = 32;

double CountElements(const CostModel& model, const Dims& dims) {
  SymbolValues sizes = model.sizes;
  std::set<std::string> symbols;
  for (const Dim& dim : dims) dim.CollectSymbols(symbols);
  for (const std::string& symbol : symbols) sizes.emplace(symbol, kUnknownSize);
  double count = 1;
  for (const Dim& dim : dims) count *= static_cast<double>(dim.Eval(sizes));
  return count;
}

// The elements of a node's largest input or output.
double CountLargest(const CostModel& model, const Graph& graph, const Node& node) {
  double largest = 0;
  for (const auto* values : {&node.inputs, &node.outputs}) {
    for (ValueId id : *values) {
      if (id.valid()) largest = std::max(largest, CountElements(model, graph.type(id).dims));
    }
  }
  return largest;
}

// The multiplications of a matmul, as many per output element as its rows are long, or of a
// convolution, as many as its filters are large; 0 for others.
double CountProducts(const CostModel& model, const Graph& graph, const Node& node) {
  bool is_matmul = node.op->name == "matmul", is_conv = node.op->name == "conv";
  if (!is_matmul && !is_conv) return 0;
  const Dims& dims = graph.type(node.inputs[is_conv ? 1 : 0]).dims;
  auto summed = is_conv ? Dims(dims.begin() + 1, dims.end()) : Dims{dims.back()};
  return CountElements(model, graph.type(node.outputs[0]).dims) * CountElements(model, summed);
}

}  // namespace

double EstimateLoss(const CostModel& model, const Graph& graph, const Node& node) {
  if (!model.is_reference || !model.is_reference(graph, node)) return 0;
  double products = CountProducts(model, graph, node);
  if (products > 0) return kReferenceProduct * products;
  return kReferenceElement * CountLargest(model, graph, node);
}

double EstimateTorch(const CostModel& model, const Graph& graph, const Node& node) {
  double bytes = 0;
  if (!node.op->Is(kView)) {
    for (const auto* values : {&node.inputs, &node.outputs}) {
      for (ValueId id : *values) {
        if (!id.valid()) continue;
        const TensorType& type = graph.type(id);
        bytes += CountElements(model, type.dims) * static_cast<double>(DTypeSize(type.dtype));
      }
    }
  }
  return kTorchOp + kByte * bytes + kProduct * CountProducts(model, graph, node);
}

double EstimateBoundary(int num_ports, bool parts_torch) {
  return kEngineCall + kPort * num_ports + (parts_torch ? kTorchPart : 0);
}

}  // namespace stator
