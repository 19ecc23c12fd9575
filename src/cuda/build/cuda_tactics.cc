#include "cuda/build/cuda_tactics.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "base/error.h"
#include "cuda/build/compile_kernels.h"
#include "cuda/build/cuda_measure.h"
#include "cuda/run/cudnn_step.h"
#include "cuda/run/gemm.h"
#include "ir/op_def.h"
#include "ops/kernel_kind.h"

namespace stator {
namespace {

// Engines of cuDNN that are tried for one kernel.
constexpr int kMaxEngines = 4;
// Channels that fill a load of 16 bytes.
constexpr int64_t kMinChannels = 8;
// What storages' addresses are multiples of (cuda/build/compile_kernels.cc).
constexpr int kAlignment = CudaDevice::kAlignment;

const std::map<std::string_view, StepKind> kKinds = {
    {"pointwise", StepKind::kPointwise}, {"rowwise", StepKind::kRowwise},
    {"reduce", StepKind::kReduce},       {"gemm", StepKind::kGemm},
    {"conv", StepKind::kConv},           {"attention", StepKind::kAttention},
    {"pool", StepKind::kPool},           {"gather", StepKind::kGather},
    {"reference", StepKind::kReference},
};

// Bytes that the addresses of all operands are multiples of.
int64_t FindAlignment(const KernelSite& site) {
  int64_t alignment = kAlignment;
  for (const auto* tensors : {&site.inputs, &site.outputs}) {
    for (const PlanTensor& tensor : *tensors) {
      int64_t size = static_cast<int64_t>(DTypeSize(tensor.dtype));
      bool known = tensor.offset.is_static();
      alignment = std::gcd(alignment, known ? tensor.offset.value() * size : size);
    }
  }
  return alignment;
}

// The kind of the kernel that a node would be alone.
std::string_view KindOf(const OpDef& op) {
  if (op.Is(kPointwise)) return "pointwise";
  if (op.Is(kRowwise)) return "rowwise";
  if (op.Is(kReduction)) return "reduce";
  return StructuredKind(op);
}

// A graph of the node alone, as fuse makes it: absent inputs stay absent, and numbers that a
// pointwise node reads are part of it.
Graph MakeBodyOf(const Graph& graph, const Node& node) {
  Graph body;
  body.symbols = graph.symbols;
  std::vector<ValueId> inputs;
  std::map<int, ValueId> made;
  for (ValueId id : node.inputs) {
    if (!id.valid()) {
      inputs.emplace_back();
      continue;
    }
    auto [it, inserted] = made.emplace(id.index, ValueId());
    const Value& value = graph.value(id);
    if (inserted) {
      bool is_number = node.op->Is(kPointwise) && value.kind == ValueKind::kLiteral &&
                       value.data.size == DTypeSize(value.type.dtype);
      it->second = is_number ? body.AddLiteral(value.type, value.data)
                             : body.AddInput(fmt::format("x{}", made.size()), value.type);
    }
    inputs.push_back(it->second);
  }
  std::vector<TensorType> types;
  for (ValueId id : node.outputs) types.push_back(graph.type(id));
  NodeId id = body.AddNodeWithTypes(*node.op, std::move(inputs), node.attrs, std::move(types));
  body.SetOutputs(body.node(id).outputs);
  return body;
}

// Whether the node reads literals alone, however indirectly: then fold_literals computes it.
bool IsFolded(const Graph& graph, const Node& node) {
  std::vector<const Node*> stack = {&node};
  std::set<const Node*> seen;
  while (!stack.empty()) {
    const Node* next = stack.back();
    stack.pop_back();
    if (!seen.insert(next).second) continue;
    if (next->op->Is(kOpaque)) return false;
    for (ValueId id : next->outputs) {
      if (!IsStatic(graph.type(id).dims)) return false;
    }
    for (ValueId id : next->inputs) {
      if (!id.valid() || graph.value(id).kind == ValueKind::kLiteral) continue;
      const Node* producer = graph.FindProducer(id);
      if (producer == nullptr) return false;
      stack.push_back(producer);
    }
  }
  return true;
}

std::vector<KernelOperand> MakeDenseOperands(const Graph& body, std::span<const ValueId> values) {
  std::vector<KernelOperand> operands;
  for (ValueId id : values) {
    const TensorType& type = body.type(id);
    operands.push_back({.dtype = type.dtype, .dims = type.dims, .strides = type.strides()});
  }
  return operands;
}

// Whether a kernel of sm_90a's warpgroups that finishes the body's results is faster than a
// library's product and a launch for that, which reads and writes all results: the product alone is
// slower by its depth. On an H100 72 us beside 41 + 54 (100352 x 384 x 96, GELU), 48 beside 33 + 19
// (4096 x 3072 x 768), but 292 beside 180 + 67 (4096 x 8192 x 2048, SiLU and a product).
bool IsLargeProduct(const Graph& body, const Attrs& variant) {
  constexpr int64_t kMaxDepth = 1024;
  if (variant.GetString("form") != "wgmma") return false;
  const Node& product = body.node(body.first_node());
  const Dims& b = body.type(product.inputs[1]).dims;
  if (!IsStatic(b)) return false;
  if (product.op->name == "conv") {
    return NumElements(Dims(b.begin() + 1, b.end())).value() <= kMaxDepth;
  }
  // Either order of the matrix must do: here it is not known yet.
  int64_t depth = b[b.size() - 2].value();
  return depth <= kMaxDepth && depth % 8 == 0 && b.back().value() % 8 == 0;
}

// Whether our own kernel is as good as a library's for the body's product, so that any pointwise
// node behind it is better part of it: depthwise convolutions, convolutions of few tiles of results
// (of ResNet-50's at batch 1, 39 of 53 on an H100), and products of few rows with a small matrix,
// which take less than a launch.
bool HasOwnKernel(const Target& target, std::string_view kind, const Graph& body) {
  std::vector<KernelOperand> inputs = MakeDenseOperands(body, body.inputs());
  std::vector<KernelOperand> outputs = MakeDenseOperands(body, body.outputs());
  std::vector<Attrs> variants = FindCudaVariants(kind, body, inputs, outputs, target);
  if (variants.empty()) return false;
  if (IsLargeProduct(body, variants[0])) return true;
  if (kind == "conv") {
    std::string form = variants[0].GetString("form");
    return form == "depthwise" || form == "mma";
  }
  constexpr int64_t kMaxRows = 8, kMaxElements = 1 << 20;
  const Node& product = body.node(body.first_node());
  const Dims &a = body.type(product.inputs[0]).dims, &b = body.type(product.inputs[1]).dims;
  Dim rows = NumElements(Dims(a.begin(), a.end() - 1)), elements = NumElements(b);
  return b.size() == 2 && IsFloat(body.type(product.outputs[0]).dtype) && rows.is_static() &&
         rows.value() <= kMaxRows && elements.is_static() && elements.value() <= kMaxElements;
}

}  // namespace

CudaTactics::CudaTactics(Target target, CudaDevice* device, const TacticLimits& limits)
    : target_(std::move(target)), device_(device), limits_(limits) {}

std::string CudaTactics::key() const {
  if (device_ == nullptr) return "cuda " + target_.arch;
  CudaScope scope(device_->driver(), device_->context());
  return fmt::format("cuda {}, {}, {}", target_.arch, device_->model(), device_->libraries().key());
}

std::vector<Tactic> CudaTactics::FindTactics(const KernelSite& site) const {
  auto kind = kKinds.find(site.kernel->attrs.GetString("kind"));
  if (kind == kKinds.end()) return {};
  std::vector<Tactic> own = FindOwnTactics(site, kind->second);
  // Engines of cuDNN 9.19 take 20 times as long for depthwise convolutions on an H100, and some are
  // refused where a plan is loaded.
  bool is_depthwise = !own.empty() && own[0].attrs.GetString("form") == "depthwise";
  std::vector<Tactic> library =
      is_depthwise ? std::vector<Tactic>{} : FindLibraryTactics(site, kind->second);
  // In turn: those of a long list that are measured are the best guesses of
  // both sorts.
  std::vector<Tactic> tactics;
  for (size_t i = 0; i < std::max(library.size(), own.size()); ++i) {
    if (i < library.size()) tactics.push_back(std::move(library[i]));
    if (i < own.size()) tactics.push_back(std::move(own[i]));
  }
  if (device_ == nullptr && tactics.size() > 1) tactics.resize(1);
  return tactics;
}

std::vector<Tactic> CudaTactics::FindLibraryTactics(const KernelSite& site, StepKind kind) const {
  bool is_gemm = kind == StepKind::kGemm;
  if (!is_gemm && kind != StepKind::kConv && kind != StepKind::kAttention) return {};
  Tactic tactic{.kind = kind, .attrs = {{"library", std::string(is_gemm ? "cublaslt" : "cudnn")}}};
  if (is_gemm) tactic.attrs.Set("alignment", Dim(FindAlignment(site)));
  if (limits_.workspace_size > 0) tactic.attrs.Set("workspace", Dim(limits_.workspace_size));
  bool tf32 = is_gemm ? limits_.tf32_matmul : kind == StepKind::kConv && limits_.tf32_conv;
  const Graph& body = *site.kernel->body;
  DType multiplied = body.type(body.node(body.first_node()).inputs[0]).dtype;
  if (tf32 && multiplied == DType::kFloat32) tactic.attrs.Set("tf32", true);
  MeasureSite measured(site, tactic);
  std::optional<CudnnProblem> problem;
  if (is_gemm ? !IsCublasLtSite(measured.site())
              : !(problem = FindCudnnProblem(measured.site())).has_value()) {
    return {};
  }
  if (device_ == nullptr) return {tactic};  // the library's own first guess, at load

  CudaScope scope(device_->driver(), device_->context());
  std::vector<Tactic> tactics;
  if (is_gemm) {
    const CublasLt* cublaslt = device_->libraries().FindCublasLt();
    if (cublaslt == nullptr) return {};
    tactic.attrs.Set("version", Dim(cublaslt->version()));
    int count = CountGemmCandidates(measured.site(), *cublaslt);
    for (int i = 0; i < count; ++i) {
      tactics.push_back(tactic);
      tactics.back().attrs.Set("candidate", Dim(i));
    }
    return tactics;
  }
  const Cudnn* cudnn = device_->libraries().FindCudnn();
  if (cudnn == nullptr) return {};
  tactic.attrs.Set("version", Dim(cudnn->version()));
  for (std::string& engine : cudnn->FindEngines(problem->graph, kMaxEngines)) {
    tactics.push_back(tactic);
    tactics.back().attrs.Set("engine", std::move(engine));
  }
  // The layer that reads an image has engines of its own, which compute nothing behind it.
  const CudnnGraph& graph = problem->graph;
  bool reads_image = graph.anchor == CudnnGraph::kConv && !graph.pointwise.empty() &&
                     graph.operands[0].dims[1] < kMinChannels;
  if (reads_image && !tactics.empty()) {
    tactic.attrs.Set("split", true);
    tactics.insert(tactics.begin() + 1, tactic);
  }
  // Without an engine for the whole, the step may find one for each half.
  if (tactics.empty() && !problem->graph.pointwise.empty() &&
      PrepareCudnn(measured.site(), device_->libraries()) != nullptr) {
    tactics.push_back(tactic);
  }
  return tactics;
}

std::vector<Tactic> CudaTactics::FindOwnTactics(const KernelSite& site, StepKind kind) const {
  std::vector<KernelOperand> inputs = MakeKernelOperands(site.inputs, kAlignment, false);
  std::vector<KernelOperand> outputs = MakeKernelOperands(site.outputs, kAlignment, false);
  std::vector<Tactic> tactics;
  for (Attrs& variant : FindCudaVariants(site.kernel->attrs.GetString("kind"), *site.kernel->body,
                                         inputs, outputs, target_)) {
    tactics.push_back({.kind = kind, .attrs = std::move(variant)});
  }
  return tactics;
}

void CudaTactics::Prepare(std::span<const Trial> trials) const {
  std::vector<CudaKernel> kernels;
  for (const auto& [site, tactic] : trials) {
    if (tactic->attrs.Find("form") != nullptr) {
      kernels.push_back(WriteTrialKernel(*site, *tactic, target_));
    }
  }
  PrecompileKernels(kernels, target_);
}

double CudaTactics::Measure(const KernelSite& site, const Tactic& tactic, int num_runs) const {
  if (device_ == nullptr) return 0;  // the first guess is kept
  return MeasureCudaTactic(site, tactic, target_, *device_, num_runs);
}

bool CanRunOnCuda(const Target& target, std::string_view kind, const Graph& body) {
  if (kind != "gemm" && kind != "conv") return true;
  // One node alone is a kernel in any case; a longer body is one where a library has it, or where
  // our own kernel is the better one anyway.
  if (body.nodes().size() == 1) return true;
  return (kind == "gemm" ? IsCublasLtBody(body) : IsCudnnConvBody(body)) ||
         HasOwnKernel(target, kind, body);
}

std::string FindReasonOnCuda(const Target& target, const Graph& graph, const Node& node) {
  if (node.op->Is(kOpaque)) return node.attrs.GetString("reason");
  if (node.op->Is(kView) || node.op->name == "concat" || node.op->decompose != nullptr) return "";
  if (IsFolded(graph, node)) return "";
  Graph body = MakeBodyOf(graph, node);
  std::vector<KernelOperand> inputs = MakeDenseOperands(body, body.inputs());
  std::vector<KernelOperand> outputs = MakeDenseOperands(body, body.outputs());
  if (!FindCudaVariants(KindOf(*node.op), body, inputs, outputs, target).empty()) return "";
  return fmt::format("the CUDA engine has no kernel for {} of this form", node.op->name);
}

}  // namespace stator
