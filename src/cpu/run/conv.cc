#include "cpu/run/conv.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cpu/run/post_ops.h"
#include "cpu/run/split_step.h"
#include "cpu/run/sum_terms.h"
#include "ir/type.h"
#include "ops/tensor.h"

namespace stator {
namespace {

using dnnl::memory;

enum class Layout { kGiven, kChannelsLast, kAny, kBlocked, kTerms };

std::optional<Layout> FindLayout(std::string_view name) {
  for (size_t i = 0; i < std::size(kConvLayouts); ++i) {
    if (kConvLayouts[i] == name) return static_cast<Layout>(i);
  }
  return std::nullopt;
}

// Strides of a dense tensor in this order of dims.
Sizes OrderedStrides(const Sizes& dims, const DimOrder& order) {
  Sizes strides(dims.size());
  int64_t next = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    size_t dim = order.empty() ? i : order[i];
    strides[dim] = next;
    next *= dims[dim];
  }
  return strides;
}

memory::desc ChannelsLastDesc(DType dtype, const Sizes& dims) {
  DimOrder order = ChannelsLastOrder(static_cast<int>(dims.size()));
  return MakeDesc(dtype, dims, OrderedStrides(dims, order));
}

// The layout of the primitives that add the products of a block of channels to the sum of those of
// the blocks before, where others add them all in one chain.
memory::desc BlockedDesc(DType dtype, const Sizes& dims) {
  using Tag = memory::format_tag;
  Tag tag = dims.size() == 3 ? Tag::aBc16b : dims.size() == 4 ? Tag::aBcd16b : Tag::aBcde16b;
  return memory::desc(dims, OneDnnType(dtype), tag);
}

// How an activation lies. Strides of dims of size 1 say nothing: they become those of a dense
// channels-last or row-major tensor if the others fit one, as the primitives expect them.
memory::desc ActivationDesc(const TensorRef& tensor) {
  for (const DimOrder& order : {ChannelsLastOrder(tensor.rank()), DimOrder{}}) {
    Sizes dense = OrderedStrides(tensor.dims, order);
    bool fits = true;
    for (int i = 0; i < tensor.rank(); ++i) {
      fits = fits && (tensor.dims[i] == 1 || tensor.strides[i] == dense[i]);
    }
    if (fits) return MakeDesc(tensor.dtype, tensor.dims, dense);
  }
  return MakeDesc(tensor.dtype, tensor.dims, tensor.strides);
}

// A vector of channels in the dims of an activation.
memory::desc ChannelsDesc(const TensorRef& tensor, int rank, int64_t channels) {
  memory::dims dims(rank, 1), strides(rank, 1);
  dims[1] = channels;
  for (int i = 0; i < tensor.rank(); ++i) {
    if (tensor.dims[i] == channels) strides[1] = tensor.strides[i];
  }
  strides[0] = channels * strides[1];
  return MakeDesc(tensor.dtype, dims, strides);
}

struct Window {
  memory::dims stride, dilation, padding_begin, padding_end;
};

// A row of an image: the tensor with a height of 1 before its last dim.
TensorRef AsRow(TensorRef tensor) {
  tensor.strides.insert(tensor.strides.end() - 1, tensor.dims.back() * tensor.strides.back());
  tensor.dims.insert(tensor.dims.end() - 1, 1);
  return tensor;
}

Window AsRow(Window window) {
  window.stride.insert(window.stride.begin(), 1);
  for (memory::dims* none : {&window.dilation, &window.padding_begin, &window.padding_end}) {
    none->insert(none->begin(), 0);
  }
  return window;
}

dnnl::primitive_desc MakePrimitive(bool transposed, const Window& window, const memory::desc& x,
                                   const memory::desc& w, const memory::desc& bias,
                                   const memory::desc& out, const dnnl::primitive_attr& attr) {
  const dnnl::engine& engine = OneDnnEngine();
  constexpr auto kInference = dnnl::prop_kind::forward_inference;
  if (transposed) {
    return dnnl::deconvolution_forward::primitive_desc(
        engine, kInference, dnnl::algorithm::deconvolution_direct, x, w, bias, out, window.stride,
        window.dilation, window.padding_begin, window.padding_end, attr);
  }
  return dnnl::convolution_forward::primitive_desc(
      engine, kInference, dnnl::algorithm::convolution_direct, x, w, bias, out, window.stride,
      window.dilation, window.padding_begin, window.padding_end, attr);
}

class ConvMaker {
 public:
  ConvMaker(const StepSite& site, const FusedBody& fused, Layout layout)
      : site_(site),
        fused_(fused),
        layout_(layout),
        attrs_(fused.anchor->attrs),
        x_(site.inputs[fused.operands[0]]),
        w_(site.inputs[fused.operands[1]]),
        out_(site.outputs[0]),
        transposed_(attrs_.GetBool("transposed")),
        groups_(attrs_.GetInt("groups")),
        is_row_(x_.rank() == 3 && groups_ > 1 && groups_ == x_.dims[1]) {
    if (is_row_) {
      x_ = AsRow(x_);
      w_ = AsRow(w_);
      out_ = AsRow(out_);
    }
  }

  std::unique_ptr<PreparedStep> Run() const {
    std::unique_ptr<PreparedStep> step;
    if (Multiplies(out_.dtype)) step = Make(out_.dtype);
    if (!step && out_.dtype != DType::kFloat32) step = Make(DType::kFloat32);
    return step;
  }

 private:
  // The step whose primitive multiplies numbers of this type.
  std::unique_ptr<PreparedStep> Make(DType dtype) const {
    memory::desc x = WantedDesc(x_, dtype), out = WantedDesc(out_, dtype), weights = WeightsDesc();
    Fusion fusion;
    // Where the primitive likes its operands as they lie, "any" would be "given" over again.
    fusion.must_reorder = layout_ == Layout::kAny && w_.data != nullptr;
    fusion.arguments = {
        {DNNL_ARG_SRC, MakeInput(site_, fused_.operands[0], ActivationDesc(x_))},
        {DNNL_ARG_WEIGHTS, MakeInput(site_, fused_.operands[1], weights)},
        {DNNL_ARG_DST, MakeOutput(ActivationDesc(out_))},
    };
    memory::desc bias;
    if (fused_.operands.size() > 2 && fused_.operands[2] >= 0) {
      const TensorRef& operand = site_.inputs[fused_.operands[2]];
      bias = MakeDesc(DType::kFloat32, operand.dims, {1});
      memory::desc given = MakeDesc(operand.dtype, operand.dims, operand.strides);
      fusion.arguments.push_back({DNNL_ARG_BIAS, MakeInput(site_, fused_.operands[2], given)});
    }
    fusion.weights = MakeAnyDesc(dtype, weights.get_dims());
    fusion.make = [=, window = GetWindow(), transposed = transposed_](
                      const memory::desc& w, const dnnl::primitive_attr& attr) {
      return MakePrimitive(transposed, window, x, w, bias, out, attr);
    };
    if (layout_ == Layout::kTerms && !SplitIntoTerms(bias, out, fusion)) return nullptr;
    AddPostOps(site_, fused_, 0, PostOpDescs(), out, fusion);
    return FindFusedStep(site_, fused_, 0, std::move(fusion));
  }

  bool SplitIntoTerms(const memory::desc& bias, const memory::desc& out, Fusion& fusion) const {
    if (transposed_ || groups_ != 1 || out_.dtype != DType::kFloat32) return false;
    return SplitSum(fusion, [=, dims = x_.dims, window = GetWindow()](
                                int64_t channels, bool has_bias, const memory::desc& w,
                                const dnnl::primitive_attr& attr) {
      memory::dims narrow = dims;
      narrow[1] = channels;
      memory::desc x = ChannelsLastDesc(DType::kFloat32, narrow);
      return MakePrimitive(false, window, x, w, has_bias ? bias : memory::desc(), out, attr);
    });
  }

  memory::desc WantedDesc(const TensorRef& tensor, DType dtype) const {
    if (layout_ == Layout::kAny) return MakeAnyDesc(dtype, tensor.dims);
    if (layout_ == Layout::kBlocked) return BlockedDesc(dtype, tensor.dims);
    bool given = layout_ == Layout::kGiven && tensor.dtype == dtype;
    return given ? ActivationDesc(tensor) : ChannelsLastDesc(dtype, tensor.dims);
  }

  // w as [groups,] out channels, in channels, kernel. A transposed w has in channels first.
  memory::desc WeightsDesc() const {
    memory::dims dims = w_.dims, strides = w_.strides;
    int64_t group_stride = dims[0] / groups_ * strides[0];
    dims[0] /= groups_;
    if (transposed_) {
      std::swap(dims[0], dims[1]);
      std::swap(strides[0], strides[1]);
    }
    if (groups_ > 1) {
      dims.insert(dims.begin(), groups_);
      strides.insert(strides.begin(), group_stride);
    }
    return MakeDesc(w_.dtype, dims, strides);
  }

  std::vector<memory::desc> PostOpDescs() const {
    std::vector<memory::desc> descs;
    for (const PostOp& post_op : fused_.post_ops) {
      descs.emplace_back();
      if (!post_op.is_binary()) continue;
      const TensorRef& operand = site_.inputs[post_op.input];
      descs.back() = post_op.per_channel ? ChannelsDesc(operand, out_.rank(), out_.dims[1])
                                         : ActivationDesc(is_row_ ? AsRow(operand) : operand);
    }
    return descs;
  }

  Window GetWindow() const {
    Window window{.stride = attrs_.GetInts("stride"),
                  .dilation = attrs_.GetInts("dilation"),
                  .padding_begin = attrs_.GetInts("padding"),
                  .padding_end = attrs_.GetInts("padding")};
    std::vector<int64_t> output_padding = attrs_.GetInts("output_padding");
    for (size_t i = 0; i < window.stride.size(); ++i) {
      if (transposed_) window.padding_end[i] -= output_padding[i];
      window.dilation[i] -= 1;  // oneDNN counts the elements in between
    }
    return is_row_ ? AsRow(std::move(window)) : window;
  }

  const StepSite& site_;
  const FusedBody& fused_;
  Layout layout_;
  const Attrs& attrs_;
  TensorRef x_, w_, out_;
  bool transposed_;
  int64_t groups_;
  // oneDNN has its code for depthwise convolutions of images alone: one of signals is made one.
  bool is_row_;
};

std::unique_ptr<PreparedStep> FindInAnyLayout(const StepSite& site) {
  std::unique_ptr<PreparedStep> step;
  for (size_t i = 0; i < std::size(kConvLayouts) && !step; ++i) {
    step = FindConv(site, kConvLayouts[i]);
  }
  return step;
}

}  // namespace

bool HasBlockedConvs() { return dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core; }

std::unique_ptr<PreparedStep> FindConv(const StepSite& site, std::string_view layout_name) {
  std::optional<Layout> layout = FindLayout(layout_name);
  std::optional<FusedBody> fused = FindFusedBody(site.body);
  if (!layout || !fused || fused->anchor->op->name != "conv") return nullptr;
  if (!CanOneDnnRun(site) || (layout == Layout::kBlocked && !HasBlockedConvs())) return nullptr;
  return ConvMaker(site, *fused, *layout).Run();
}

std::unique_ptr<PreparedStep> PrepareConv(const StepSite& site) {
  const Attr* layout = site.step->attrs.Find("layout");
  std::unique_ptr<PreparedStep> step;
  if (layout != nullptr) step = FindConv(site, std::get<std::string>(*layout));
  // A plan made for another instruction set may name a layout that this one has no code for.
  if (!step) step = FindInAnyLayout(site);
  if (!step) step = FindSplit(site, FindInAnyLayout);
  return step ? std::move(step) : PrepareReference(site);
}

}  // namespace stator
