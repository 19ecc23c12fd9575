#include "codegen/output_text.h"

#include <algorithm>

#include "base/error.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// The inputs that the epilogue reads.
std::vector<bool> FindEpilogueInputs(const CudaSite& site, const AnchoredBody& body) {
  std::vector<bool> read(site.inputs.size(), false);
  std::set<ValueId> known = {body.y};
  for (ValueId source : FindSources(site.body, site.body.outputs(), known)) {
    for (size_t i = 0; i < site.inputs.size(); ++i) {
      read[i] = read[i] || site.body.inputs()[i] == source;
    }
  }
  return read;
}

// Operands in the order outputs, inputs; inputs that the epilogue does not read have no strides.
std::vector<Dims> FindStrides(const CudaSite& site, const AnchoredBody& body) {
  const Dims& domain = site.outputs[0].dims;
  std::vector<Dims> strides;
  std::vector<bool> read = FindEpilogueInputs(site, body);
  for (const KernelOperand& output : site.outputs) strides.push_back(output.strides);
  for (size_t i = 0; i < site.inputs.size(); ++i) {
    strides.push_back(read[i] ? BroadcastStrides(site.inputs[i], domain)
                              : Dims(domain.size(), Dim(0)));
  }
  return strides;
}

LoopDims FindLoop(const CudaSite& site, const AnchoredBody& body, std::vector<size_t>* order) {
  return SortDims(site.outputs[0].dims, FindStrides(site, body), order);
}

std::vector<std::string> InOrder(const CudaSite& site, const AnchoredBody& body,
                                 const std::vector<std::string>& names) {
  std::vector<size_t> order;
  FindLoop(site, body, &order);
  std::vector<std::string> sorted;
  for (size_t d : order) sorted.push_back(names[d]);
  if (sorted.empty()) sorted = {"0"};
  return sorted;
}

}  // namespace

std::optional<AnchoredBody> FindAnchoredBody(const CudaSite& site) {
  AnchoredBody found;
  if (!HasPlainConstants(site.body)) return std::nullopt;
  for (NodeId id : site.body.nodes()) {
    const Node& node = site.body.node(id);
    if (node.op->Is(kPointwise) && found.anchor != nullptr) continue;
    if (found.anchor != nullptr || node.outputs.size() != 1) return std::nullopt;
    found.anchor = &node;
  }
  if (found.anchor == nullptr) return std::nullopt;
  found.y = found.anchor->outputs[0];
  for (ValueId input : found.anchor->inputs) {
    auto inputs = site.body.inputs();
    auto it = std::find(inputs.begin(), inputs.end(), input);
    if (input.valid() && it == inputs.end()) return std::nullopt;
    found.operands.push_back(input.valid() ? static_cast<int>(it - inputs.begin()) : -1);
  }
  const Dims& dims = site.body.type(found.y).dims;
  for (const KernelOperand& output : site.outputs) {
    if (output.dims != dims) return std::nullopt;
  }
  return found;
}

std::optional<AnchoredBody> FindOneNode(const CudaSite& site) {
  if (site.body.nodes().size() != 1) return std::nullopt;
  return FindAnchoredBody(site);
}

OutputText::OutputText(KernelText& text, const AnchoredBody& body, std::vector<std::string> names,
                       int vec, bool moved)
    : text_(text),
      body_(body),
      loop_(FindLoop(text.site(), body, nullptr)),
      vec_(vec),
      moved_(moved),
      names_(InOrder(text.site(), body, names)),
      vectors_(text, loop_, vec, "", names_, moved),
      values_(text) {}

int OutputText::FindVec(const CudaSite& site, const AnchoredBody& body, size_t dim, int max_vec) {
  std::vector<size_t> order;
  LoopDims loop = FindLoop(site, body, &order);
  if (order.empty() || order.back() != dim) return 1;
  return std::min(max_vec, stator::FindVec(site, loop));
}

Dim OutputText::FindGrid(int block) const {
  Dim threads = vec_ == 1 ? loop_.count() : FloorDiv(loop_.count(), vec_);
  return CeilDiv(threads, block);
}

void OutputText::WritePosition(int block) {
  std::string thread = fmt::format("Index(blockIdx.x) * {} + threadIdx.x", block);
  text_.Line("const Index i = {};", vec_ == 1 ? thread : fmt::format("({}) * {}", thread, vec_));
  text_.Line("if (i >= {}) return;", text_.Size(loop_.count()));
  WriteCoordinates(text_, loop_, "i", names_, std::vector<bool>(names_.size(), names_[0] != "0"));
  text_.Line("LaunchDependents();");
  text_.Line("WaitForInputs();");
}

std::vector<size_t> OutputText::FindLargeInputs() const {
  const CudaSite& site = text_.site();
  std::vector<bool> read = FindEpilogueInputs(site, body_);
  std::vector<size_t> large;
  for (size_t i = 0; i < site.inputs.size(); ++i) {
    bool whole = site.inputs[i].dims == site.outputs[0].dims;
    if (vec_ > 1 && read[i] && whole && vectors_.IsContiguous(i)) large.push_back(i);
  }
  return large;
}

void OutputText::WriteResults(const std::string& y, const std::string& where) {
  const CudaSite& site = text_.site();
  std::vector<bool> read = FindEpilogueInputs(site, body_);
  std::map<size_t, std::string> elements;
  for (size_t i = 0; i < site.inputs.size(); ++i) {
    auto it = provided_.find(i);
    if (read[i]) elements[i] = it != provided_.end() ? it->second + "[j]" : vectors_.Load(i);
  }
  for (size_t i = 0; i < site.outputs.size(); ++i) vectors_.Declare(i);
  if (vec_ > 1) text_.OpenLoop("j", vec_);
  std::vector<std::string> results;
  if (moved_) {
    results = {y};
  } else {
    values_.Define(body_.y, y);
    for (const auto& [i, element] : elements) {
      values_.Define(site.body.inputs()[i], fmt::format("ToCompute({})", element));
    }
    for (ValueId output : site.body.outputs()) results.push_back(values_.Element(output));
  }
  for (size_t i = 0; i < results.size(); ++i)
    text_.Line("{}{} = {};", vec_ > 1 ? "" : where, vectors_.Target(i), results[i]);
  if (vec_ > 1) text_.Close();
  for (size_t i = 0; i < site.outputs.size(); ++i) vectors_.Store(i, where);
}

}  // namespace stator
