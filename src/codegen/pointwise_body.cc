#include "codegen/pointwise_body.h"

#include "ir/op_def.h"

namespace stator {

bool IsCopy(const CudaSite& site) { return site.kind == "copy"; }

bool IsPointwise(const CudaSite& site) {
  if (IsCopy(site)) return true;
  if (site.outputs.empty() || !HasPlainConstants(site.body)) return false;
  for (NodeId id : site.body.nodes()) {
    if (!site.body.node(id).op->Is(kPointwise)) return false;
  }
  for (const KernelOperand& output : site.outputs) {
    if (output.dims != site.outputs[0].dims) return false;
  }
  return true;
}

LoopDims FindPointwiseLoop(const CudaSite& site) {
  const Dims& domain = site.outputs[0].dims;
  std::vector<Dims> strides;
  for (const KernelOperand& output : site.outputs) strides.push_back(output.strides);
  for (const KernelOperand& input : site.inputs) strides.push_back(BroadcastStrides(input, domain));
  return MergeDims(domain, std::move(strides));
}

std::vector<std::string> PointwiseTypes(const CudaSite& site) {
  if (!IsCopy(site)) return {};
  std::string type = MovedType(site.outputs[0].dtype);
  return {type, type};
}

std::vector<std::string> WritePointwise(const CudaSite& site, BodyText& body,
                                        const std::vector<std::string>& elements) {
  if (IsCopy(site)) return {elements[0]};
  for (size_t i = 0; i < elements.size(); ++i) {
    body.Define(site.body.inputs()[i], fmt::format("ToCompute({})", elements[i]));
  }
  std::vector<std::string> results;
  for (ValueId output : site.body.outputs()) results.push_back(body.Element(output));
  return results;
}

}  // namespace stator
