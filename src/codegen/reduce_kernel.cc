// Reductions: pointwise nodes, then one reduction over some of the dims.
//
// Form "inner", where the reduced dims are the contiguous ones: `threads` threads run along the
// elements of one result. Form "outer": neighbouring threads have neighbouring results, and the
// elements of a result are shared out among `slices` rows of threads, which join their parts in
// shared memory, and, where results are few, among the `split` blocks of a cluster, which do so
// too. Sums are kept in float, in double for f64; integers wrap in their own dtype. The variance
// takes two passes, the mean first.
#include <algorithm>

#include "base/error.h"
#include "codegen/body_text.h"
#include "codegen/families.h"
#include "codegen/vector_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kWarp = 32;

struct Reduction {
  const Node* node = nullptr;
  ValueId x, y;
  LoopDims kept, reduced, all;  // operands in the order outputs, inputs
  bool inner = false;
};

std::optional<Reduction> FindReduction(const CudaSite& site) {
  Reduction found;
  if (!HasPlainConstants(site.body) || site.outputs.size() != 1) return std::nullopt;
  for (NodeId id : site.body.nodes()) {
    const Node& node = site.body.node(id);
    if (node.op->Is(kPointwise)) continue;
    if (!node.op->Is(kReduction) || found.node != nullptr) return std::nullopt;
    found.node = &node;
  }
  if (found.node == nullptr) return std::nullopt;
  found.x = found.node->inputs[0];
  found.y = found.node->outputs[0];
  if (site.body.outputs()[0] != found.y) return std::nullopt;

  const Dims& domain = site.body.type(found.x).dims;
  std::vector<int64_t> axes = found.node->attrs.GetInts("axes");
  auto is_reduced = [&](size_t d) {
    return std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
  };
  Dims kept, reduced;
  for (size_t d = 0; d < domain.size(); ++d) (is_reduced(d) ? reduced : kept).push_back(domain[d]);
  std::vector<Dims> kept_strides(1), reduced_strides(1, Dims(reduced.size(), Dim(0)));
  bool keepdim = found.node->attrs.GetBool("keepdim");
  for (size_t d = 0; d < domain.size(); ++d) {
    if (keepdim && !is_reduced(d)) kept_strides[0].push_back(site.outputs[0].strides[d]);
  }
  if (!keepdim) kept_strides[0] = site.outputs[0].strides;
  for (const KernelOperand& input : site.inputs) {
    Dims strides = BroadcastStrides(input, domain), of_kept, of_reduced;
    for (size_t d = 0; d < domain.size(); ++d) {
      (is_reduced(d) ? of_reduced : of_kept).push_back(strides[d]);
    }
    for (const Dim& stride : of_reduced) found.inner = found.inner || stride == Dim(1);
    kept_strides.push_back(std::move(of_kept));
    reduced_strides.push_back(std::move(of_reduced));
  }
  // In the order in which the dims are written: the position of what is found counts them so.
  found.kept = MergeDims(kept, std::move(kept_strides));
  found.reduced = MergeInOrder(reduced, std::move(reduced_strides));
  found.all = found.kept;
  found.all.dims.insert(found.all.dims.end(), found.reduced.dims.begin(), found.reduced.dims.end());
  for (size_t k = 0; k < found.all.strides.size(); ++k) {
    Dims& strides = found.all.strides[k];
    strides.insert(strides.end(), found.reduced.strides[k].begin(), found.reduced.strides[k].end());
  }
  return found;
}

// Whether blocks of a cluster can share a result: parts are floats in each other's memory.
bool CanSplit(const CudaSite& site, const Reduction& found) {
  std::string_view op = found.node->op->name;
  return site.target.capability >= 90 && ComputeType(site.body.type(found.x).dtype) == "float" &&
         (op == "sum" || op == "mean" || op == "amax" || op == "amin" || op == "prod");
}

std::vector<Attrs> FindReduceVariants(const CudaSite& site) {
  std::optional<Reduction> found = FindReduction(site);
  if (!found) return {};
  Dim size = found->reduced.count(), count = found->kept.count();
  if (!found->inner) {
    auto make = [](int slices, int split = 1) {
      return Attrs{{"slices", Dim(slices)}, {"split", Dim(split)}, {"threads", Dim(0)}};
    };
    bool is_short = size.is_static() && size.value() <= 16;
    if (is_short) return {make(1), make(8)};
    std::vector<Attrs> variants = {make(8), make(16)};
    constexpr int kCluster = 8;
    Dim blocks = CeilDiv(count, kWarp);
    bool few = blocks.is_static() && size.is_static() &&
               blocks.value() * kCluster <= 2 * site.target.num_sms &&
               size.value() >= 4 * 8 * kCluster;
    if (few && CanSplit(site, *found)) variants.insert(variants.begin(), make(8, kCluster));
    return variants;
  }
  auto make = [](int threads) {
    return Attrs{{"slices", Dim(0)}, {"split", Dim(1)}, {"threads", Dim(threads)}};
  };
  if (!size.is_static()) return {make(128)};
  if (size.value() <= 256) return {make(kWarp)};
  if (size.value() <= 2048) return {make(128), make(kWarp)};
  return {make(512), make(256)};
}

class ReduceWriter {
 public:
  ReduceWriter(const CudaSite& site, const Attrs& variant)
      : site_(site),
        found_(*FindReduction(site)),
        text_(site),
        values_(text_),
        op_(found_.node->op->name),
        dtype_(site.body.type(found_.x).dtype),
        threads_(variant.GetInt("threads")),
        slices_(variant.GetInt("slices")),
        split_(variant.GetInt("split")),
        names_(MakeNames()),
        vectors_(text_, found_.all, 1, "", names_) {
    bool number = op_ != "any" && op_ != "all";
    type_ = number ? ComputeType(dtype_) : "bool";
    if (op_ == "argmax" || op_ == "argmin") type_ = fmt::format("Best<{}>", ComputeType(dtype_));
  }

  CudaKernel Write() {
    WriteResult();
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
    if (op_ == "var") {
      WritePass("mean", "0", "Sum", "mean + {}");
      text_.Line("mean = mean / {};", text_.Size(found_.reduced.count()));
      WritePass("result", "0", "Sum", "result + ({0} - mean) * ({0} - mean)");
    } else {
      WriteOnlyPass();
    }
    std::string first = split_ == 1 ? "slice == 0" : "slice == 0 && part == 0";
    std::string done = threads_ == 0       ? first + " && k < " + text_.Size(found_.kept.count())
                       : threads_ == kWarp ? "threadIdx.x % 32 == 0"
                                           : "threadIdx.x == 0";
    text_.Open("if ({})", done);
    text_.Line("{} = CastTo<{}>({});", vectors_.Target(0), ElementType(site_.outputs[0].dtype),
               ResultText());
    text_.Close();
    int block = static_cast<int>(threads_ == 0       ? kWarp * slices_
                                 : threads_ == kWarp ? kWarp * kRowsPerBlock
                                                     : threads_);
    int64_t results = threads_ == 0 ? kWarp : threads_ == kWarp ? kRowsPerBlock : 1;
    return text_.Finish(
        EntryName("reduce", site_.body), {CeilDiv(found_.kept.count(), results) * split_}, block,
        split_ == 1 ? 0 : 4 * kWarp * static_cast<int>(slices_ + 1), static_cast<int>(split_));
  }

 private:
  static constexpr int64_t kRowsPerBlock = 4;  // of warps

  std::vector<std::string> MakeNames() const {
    std::vector<std::string> names;
    auto add = [&](const LoopDims& loop, std::string_view prefix) {
      for (size_t d = 0; d < loop.dims.size(); ++d) {
        names.push_back(loop.dims.size() == 1 ? std::string(prefix)
                                              : fmt::format("{}{}", prefix, d));
      }
    };
    add(found_.kept, "k");
    add(found_.reduced, "i");
    return names;
  }

  // Which result the thread works on: `k`.
  void WriteResult() {
    std::string count = text_.Size(found_.kept.count());
    if (threads_ == 0) {
      std::string block = "Index(blockIdx.x)";
      if (split_ > 1) {
        text_.Line("const Index part = blockIdx.x % {};", split_);
        block = fmt::format("(blockIdx.x / {})", split_);
      }
      text_.Line("const Index k = {} * 32 + threadIdx.x % 32;", block);
      text_.Line("const Index slice = threadIdx.x / 32;");
    } else if (threads_ == kWarp) {
      text_.Line("const Index k = Index(blockIdx.x) * {} + threadIdx.x / 32;", kRowsPerBlock);
      text_.Line("if (k >= {}) return;", count);
    } else {
      text_.Line("const Index k = blockIdx.x;");
    }
    size_t num_kept = found_.kept.dims.size();
    WriteCoordinates(text_, found_.kept, "k", {names_.begin(), names_.begin() + num_kept},
                     std::vector<bool>(num_kept, true));
  }

  void WriteOnlyPass() {
    std::string lowest = NumberText(dtype_, -INFINITY), highest = NumberText(dtype_, INFINITY);
    if (op_ == "sum" || op_ == "mean") WritePass("result", "0", "Sum", "result + {}");
    if (op_ == "prod") WritePass("result", "1", "Prod", "result * {}");
    if (op_ == "amax") WritePass("result", lowest, "Max", "maximum(result, {})");
    if (op_ == "amin") WritePass("result", highest, "Min", "minimum(result, {})");
    if (op_ == "any") WritePass("result", "false", "Any", "result || {} != 0");
    if (op_ == "all") WritePass("result", "true", "All", "result && {} != 0");
    if (op_ == "argmax" || op_ == "argmin") {
      std::string search = op_ == "argmax" ? "Search<true>" : "Search<false>";
      WritePass("result", type_ + "{0, -1}", search,
                search + "()(result, " + type_ + "{{{}, static_cast<i64>(i)}})");
    }
  }

  // `result`: after this the fold of all elements, in every thread. `step`: what becomes of it for
  // one more element "{}".
  void WritePass(std::string_view result, std::string_view start, std::string_view op,
                 std::string_view step) {
    text_.Line("{} {} = {};", type_, result, start);
    std::string size = text_.Size(found_.reduced.count());
    if (threads_ == 0) {
      text_.Open("if (k < {})", text_.Size(found_.kept.count()));
      std::string first = split_ == 1 ? "slice" : fmt::format("part * {} + slice", slices_);
      text_.Open("for (Index i = {}; i < {}; i += {})", first, size, slices_ * split_);
    } else {
      text_.Open("for (Index i = threadIdx.x{}; i < {}; i += {})", threads_ == kWarp ? " % 32" : "",
                 size, threads_);
    }
    size_t num_kept = found_.kept.dims.size();
    WriteCoordinates(text_, found_.reduced, "i", {names_.begin() + num_kept, names_.end()},
                     std::vector<bool>(found_.reduced.dims.size(), true));
    values_.Enter();
    ValueId x[] = {found_.x};
    for (ValueId source : FindSources(site_.body, x)) {
      for (size_t i = 0; i < site_.inputs.size(); ++i) {
        if (site_.body.inputs()[i] != source) continue;
        values_.Define(source, fmt::format("ToCompute({})", vectors_.Load(i)));
      }
    }
    std::string element = values_.Get(found_.x);
    text_.Line("{} = {};", result, fmt::format(fmt::runtime(step), element));
    values_.Leave();
    text_.Close();
    if (threads_ == 0) text_.Close();
    WriteJoin(result, op);
  }

  void WriteJoin(std::string_view result, std::string_view op) {
    if (threads_ == kWarp) {
      text_.Line("{} = WarpReduce<32>({}, {}());", result, result, op);
      return;
    }
    int64_t parts = threads_ == 0 ? slices_ * kWarp : threads_ / kWarp;
    if (threads_ == 0 && slices_ == 1) return;
    if (split_ == 1) {
      text_.Line("__shared__ {} {}_parts[{}];", type_, result, parts);
    } else {
      text_.Line("float* const {}_parts = reinterpret_cast<float*>(DynamicShared());", result);
    }
    if (threads_ > 0) {
      text_.Line("{} = BlockReduce<{}>({}, {}(), {}_parts);", result, threads_, result, op, result);
      return;
    }
    text_.Line("{}_parts[threadIdx.x] = {};", result, result);
    text_.Line("__syncthreads();");
    text_.Line("{} = {}_parts[threadIdx.x % 32];", result, result);
    text_.OpenLoop("other", slices_ - 1);
    text_.Line("{0} = {1}()({0}, {0}_parts[(other + 1) * 32 + threadIdx.x % 32]);", result, op);
    text_.Close();
    if (split_ > 1) WriteJoinOfCluster(result, op);
  }

  // The parts of the cluster's blocks meet in the first one.
  void WriteJoinOfCluster(std::string_view result, std::string_view op) {
    text_.Line("float* const of_block = {}_parts + {};", result, kWarp * slices_);
    text_.Line("if (slice == 0) of_block[threadIdx.x] = {};", result);
    text_.Line("ClusterSync();");
    text_.Open("if (part == 0 && slice == 0)");
    text_.OpenLoop("other", split_ - 1);
    text_.Line("{0} = {1}()({0}, LoadFromBlock<1>(of_block + threadIdx.x, other + 1)[0]);", result,
               op);
    text_.Close();
    text_.Close();
    text_.Line("ClusterSync();  // the first one reads this block's part");
  }

  std::string ResultText() {
    std::string size = text_.Size(found_.reduced.count());
    if (op_ == "mean") return "result / " + size;
    if (op_ == "argmax" || op_ == "argmin") return "Int<i64>(result.index)";
    if (op_ != "var") return "result";
    double correction = found_.node->attrs.GetFloat("correction");
    std::string number = NumberText(dtype_, correction);
    return fmt::format("result / maximum({}({}) - {}, 0)", type_, size, number);
  }

  const CudaSite& site_;
  Reduction found_;
  KernelText text_;
  BodyText values_;
  std::string_view op_;
  DType dtype_;
  int64_t threads_, slices_, split_;
  std::vector<std::string> names_;
  VectorText vectors_;
  std::string type_;  // in which elements are folded
};

CudaKernel MakeReduceKernel(const CudaSite& site, const Attrs& variant) {
  return ReduceWriter(site, variant).Write();
}

}  // namespace

const KernelFamily kReduceFamily = {"reduce", FindReduceVariants, MakeReduceKernel};

}  // namespace stator
