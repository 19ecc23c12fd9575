#include "cpu/build/cpu_tactics.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "cpu/build/measure.h"
#include "cpu/run/conv.h"
#include "cpu/run/gemm.h"
#include "cpu/run/node_step.h"
#include "cpu/run/onednn.h"
#include "cpu/run/parallel.h"
#include "cpu/run/post_ops.h"
#include "cpu/run/sum_terms.h"
#include "ir/op_def.h"
#include "ops/kernel_kind.h"

namespace stator {
namespace {

Tactic MakeGemm(std::string_view form) {
  return {.kind = StepKind::kGemm, .attrs = {{"form", std::string(form)}}};
}

Tactic MakeConv(std::string_view layout) {
  return {.kind = StepKind::kConv, .attrs = {{"layout", std::string(layout)}}};
}

// Whether sums of so many products to an element are long, and not hidden by the result's rounding.
bool HasLongSums(const KernelSite& site, const Dim& chain) {
  return site.outputs[0].dtype == DType::kFloat32 && chain.is_static() && chain.value() >= kLongSum;
}

// Puts a tactic that adds long sums up in terms second. The others round worse, and so must be that
// much faster.
void PreferTerms(std::vector<Tactic>& tactics, Tactic terms) {
  constexpr double kPenalty = 1.1;
  for (Tactic& tactic : tactics) tactic.penalty = kPenalty;
  tactics.insert(tactics.begin() + 1, std::move(terms));
}

// Cost model of a layer's forms: the order of their shares of the FMA peak, measured over the
// linear layers of transformers. inner_product and conv_h reach 90 % on both instruction sets; one
// row is a matrix-vector product, where memory bounds all, and these two read b where it lies;
// matmul blocks best for large products but packs no weights below AVX-512.
std::vector<Tactic> FindGemms(const KernelSite& site, const FusedBody& fused) {
  const PlanTensor &a = site.inputs[fused.operands[0]], &b = site.inputs[fused.operands[1]];
  bool is_stack = false;
  for (size_t i = 0; i + 2 < b.dims.size(); ++i) is_stack |= !(b.dims[i] == Dim(1));
  if (is_stack || !IsConstant(b)) return {MakeGemm("matmul")};
  // Preparing weights this large takes longer than a choice among forms that memory bounds gains.
  constexpr int64_t kMaxMeasured = int64_t{1} << 24;
  Dim size = NumElements(b.dims);
  if (size.is_static() && size.value() > kMaxMeasured) return {MakeGemm("inner_product")};
  Dim rows = 1;
  for (size_t i = 0; i + 1 < a.dims.size(); ++i) rows = rows * a.dims[i];
  std::vector<Tactic> tactics = {MakeGemm("inner_product"), MakeGemm("matmul")};
  bool many_rows = rows.is_static() && rows.value() >= 512;
  if (many_rows) std::swap(tactics[0], tactics[1]);
  // A convolution's block of output channels, and with it how weights are packed, changes with the
  // number of rows: a size that wants another one would wait for 9 MB of a 768 x 3072 matrix to be
  // packed anew, 170 ms over BERT-base. These two run any number of rows as fast on one packed
  // copy: between 2 and 512 rows none of oneDNN's layouts is more than 3 % faster than panels
  // of 64.
  if (rows == Dim(1)) return tactics;
  if (!site.is_example && rows.is_static()) {
    tactics.insert(many_rows ? tactics.end() : tactics.begin() + 1, MakeGemm("conv_h"));
    tactics.push_back(MakeGemm("conv_w"));
  }
  if (HasLongSums(site, b.dims[b.dims.size() - 2])) PreferTerms(tactics, MakeGemm("terms"));
  return tactics;
}

// Whether blocks may be as fast as other layouts: on small images.
bool SuitsBlocks(const KernelSite& site, const FusedBody& fused) {
  constexpr int64_t kBlock = 16, kMaxPixels = 100;
  const PlanTensor& w = site.inputs[fused.operands[1]];
  const PlanTensor& out = site.outputs[0];
  Dim pixels = 1;
  for (size_t i = 2; i < out.dims.size(); ++i) pixels = pixels * out.dims[i];
  return pixels.is_static() && pixels.value() <= kMaxPixels && w.dims[1].value() % kBlock == 0 &&
         w.dims[0].value() % kBlock == 0;
}

// Cost model of a convolution's layouts: a copy of x and the output costs more than a layout of the
// primitive's own choice gains, unless they lie row-major, where the primitives are slow.
std::vector<Tactic> FindConvs(const KernelSite& site, const FusedBody& fused, bool may_block) {
  const PlanTensor& x = site.inputs[fused.operands[0]];
  bool channels_last = x.strides[1] == Dim(1) || x.dims[1] == Dim(1);
  std::vector<Tactic> tactics;
  if (channels_last) {
    tactics = {MakeConv("given"), MakeConv("any")};
  } else {
    tactics = {MakeConv("any"), MakeConv("channels_last"), MakeConv("given")};
  }
  Dim chain = 1;
  const PlanTensor& w = site.inputs[fused.operands[1]];
  for (size_t i = 1; i < w.dims.size(); ++i) chain = chain * w.dims[i];
  if (fused.anchor->attrs.GetBool("transposed") || !HasLongSums(site, chain)) return tactics;
  PreferTerms(tactics, MakeConv("terms"));
  if (may_block && SuitsBlocks(site, fused)) {
    tactics.insert(tactics.begin() + 2, MakeConv("blocked"));
  }
  return tactics;
}

// Kinds with one tactic each.
const std::map<std::string_view, StepKind> kKinds = {
    {"pointwise", StepKind::kPointwise}, {"rowwise", StepKind::kRowwise},
    {"reduce", StepKind::kReduce},       {"attention", StepKind::kAttention},
    {"pool", StepKind::kPool},           {"gather", StepKind::kGather},
};

}  // namespace

std::string CpuTactics::key() const {
  return fmt::format("{}, {}, {} threads", CpuModelName(), OneDnnName(), NumThreads());
}

std::vector<Tactic> CpuTactics::FindTactics(const KernelSite& site) const {
  const std::string& kind = site.kernel->attrs.GetString("kind");
  if (auto it = kKinds.find(kind); it != kKinds.end()) {
    return {{.kind = it->second, .attrs = {}}};
  }
  if (kind == "gemm" || kind == "conv") {
    if (std::optional<FusedBody> fused = FindFusedBody(*site.kernel->body)) {
      bool may_block = !hardware_compatible_ && HasBlockedConvs();
      return kind == "gemm" ? FindGemms(site, *fused) : FindConvs(site, *fused, may_block);
    }
  }
  return {};
}

double CpuTactics::Measure(const KernelSite& site, const Tactic& tactic, int num_runs) const {
  return MeasureTactic(site, tactic, num_runs);
}

const CpuTactics& GetCpuTactics(bool hardware_compatible) {
  static const CpuTactics of_any_cpu(true), of_this_cpu(false);
  return hardware_compatible ? of_any_cpu : of_this_cpu;
}

bool CanRunOnCpu(std::string_view kind, const Graph& body) {
  if (kind != "gemm" && kind != "conv") return true;
  return FindFusedBody(body).has_value();
}

std::string FindReasonOnCpu(const Graph&, const Node& node) {
  if (node.op->Is(kOpaque)) return node.attrs.GetString("reason");
  if (node.op->reference == nullptr && node.op->decompose == nullptr) {
    return fmt::format("the CPU engine has no kernel for {}", node.op->name);
  }
  return "";
}

bool IsReferenceOnCpu(const Graph& graph, const Node& node) {
  if (HasNodeKernel(node.op->name)) return false;
  std::string_view kind = StructuredKind(*node.op);
  if (kind != "gemm" && kind != "conv") return HasOnlyReference(graph, node);
  DType dtype = graph.type(node.inputs[0]).dtype;  // oneDNN multiplies no others
  return dtype != DType::kFloat32 && dtype != DType::kFloat16 && dtype != DType::kBFloat16;
}

}  // namespace stator
