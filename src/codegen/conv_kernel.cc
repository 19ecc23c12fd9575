// Direct convolution: each thread computes one output element, or, of a depthwise convolution whose
// channels lie next to each other, `vec` neighbouring channels.
//
// For depthwise convolutions, which read little per output; for all others the plain way that
// serves where no library does. Sums in float, in double for f64.
#include "base/error.h"
#include "codegen/families.h"
#include "codegen/window_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kBlock = 128;

struct Conv {
  AnchoredBody body;
  size_t num_spatial = 0;
  bool depthwise = false;  // one input and one output channel per group
};

std::optional<Conv> FindConv(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "conv") return std::nullopt;
  const Attrs& attrs = body->anchor->attrs;
  const Dims &x = site.inputs[body->operands[0]].dims, &w = site.inputs[body->operands[1]].dims;
  Dim groups = attrs.GetDim("groups");
  bool depthwise = !attrs.GetBool("transposed") && x[1] == groups && w[0] == groups;
  return Conv{.body = *body, .num_spatial = x.size() - 2, .depthwise = depthwise};
}

int FindConvVec(const CudaSite& site, const Conv& conv, int max_vec) {
  return conv.depthwise ? FindChannelVec(site, conv.body, max_vec) : 1;
}

std::vector<Attrs> FindConvVariants(const CudaSite& site) {
  std::optional<Conv> conv = FindConv(site);
  if (!conv) return {};
  int vec = FindConvVec(site, *conv, 8);
  std::vector<Attrs> variants = {{{"vec", Dim(vec)}}};
  if (vec > 2) variants.push_back({{"vec", Dim(vec / 2)}});
  return variants;
}

class ConvWriter {
 public:
  ConvWriter(const CudaSite& site, const Attrs& variant)
      : site_(site),
        conv_(*FindConv(site)),
        text_(site),
        vec_(FindConvVec(site, conv_, static_cast<int>(variant.GetInt("vec")))),
        output_(text_, conv_.body, WindowNames(conv_.num_spatial + 2), vec_),
        x_(Operand(0)),
        w_(Operand(1)),
        type_(x_.dtype == DType::kFloat64 ? "double" : "float"),
        position_(PositionType(site)) {}

  CudaKernel Write() {
    output_.WritePosition(kBlock);
    WriteStart();
    WriteWindow();
    if (vec_ == 1) text_.Line("constexpr int j = 0;");
    output_.WriteResults("sum[j]");
    return text_.Finish(EntryName(conv_.depthwise ? "depthwise" : "direct", site_.body),
                        {output_.FindGrid(kBlock)}, kBlock);
  }

 private:
  const KernelOperand& Operand(size_t i) const { return site_.inputs[conv_.body.operands[i]]; }
  std::string At(size_t i) const { return text_.input_at(conv_.body.operands[i]); }

  // The sums start with the bias.
  void WriteStart() {
    bool has_bias = conv_.body.operands.size() > 2 && conv_.body.operands[2] >= 0;
    text_.Line("{} sum[{}];", type_, vec_);
    text_.OpenLoop("j", vec_);
    if (has_bias) {
      std::string channel = vec_ == 1 ? "c" : "(c + j)";
      text_.Line("sum[j] = ToCompute({}[{}]);", At(2),
                 text_.Offset({{channel, Operand(2).strides[0]}}));
    } else {
      text_.Line("sum[j] = 0;");
    }
    text_.Close();
  }

  // Loops over the window's positions: k<i> in w, q<i> in x.
  void WriteWindow() {
    const Attrs& attrs = conv_.body.anchor->attrs;
    std::vector<int64_t> stride = attrs.GetInts("stride"), padding = attrs.GetInts("padding"),
                         dilation = attrs.GetInts("dilation");
    bool transposed = attrs.GetBool("transposed");
    for (size_t i = 0; i < conv_.num_spatial; ++i) {
      text_.Open("for (int k{0} = 0; k{0} < {1}; ++k{0})", i, text_.Size(w_.dims[i + 2]));
      if (transposed) {
        text_.Line("const {0} scaled{1} = {0}(p{1}) + {2} - k{1} * {3};", position_, i, padding[i],
                   dilation[i]);
        text_.Line("if (scaled{0} < 0 || scaled{0} % {1} != 0) continue;", i, stride[i]);
        text_.Line("const {0} q{1} = scaled{1} / {2};", position_, i, stride[i]);
      } else {
        text_.Line("const {0} q{1} = {0}(p{1}) * {2} - {3} + k{1} * {4};", position_, i, stride[i],
                   padding[i], dilation[i]);
      }
      text_.Line("if (q{0} < 0 || q{0} >= {1}) continue;", i, text_.Size(x_.dims[i + 2]));
    }
    if (conv_.depthwise) {
      WriteDepthwise();
    } else {
      WriteChannels(transposed);
    }
    for (size_t i = 0; i < conv_.num_spatial; ++i) text_.Close();
  }

  std::string OffsetOfX(const std::string& channel) {
    std::vector<KernelText::Term> terms = {{"n", x_.strides[0]}, {channel, x_.strides[1]}};
    for (size_t i = 0; i < conv_.num_spatial; ++i) {
      terms.push_back({fmt::format("Index(q{})", i), x_.strides[i + 2]});
    }
    return text_.Offset(terms);
  }

  std::string OffsetOfW(const std::string& first, const std::string& second) {
    std::vector<KernelText::Term> terms = {{first, w_.strides[0]}, {second, w_.strides[1]}};
    for (size_t i = 0; i < conv_.num_spatial; ++i) {
      terms.push_back({fmt::format("k{}", i), w_.strides[i + 2]});
    }
    return text_.Offset(terms);
  }

  void WriteDepthwise() {
    text_.Line("const auto x_vec = Load<{}>({});", vec_, KernelText::At(At(0), OffsetOfX("c")));
    text_.OpenLoop("j", vec_);
    text_.Line("sum[j] += ToCompute(x_vec[j]) * ToCompute({}[{}]);", At(1),
               OffsetOfW(vec_ == 1 ? "c" : "(c + j)", "0"));
    text_.Close();
  }

  void WriteChannels(bool transposed) {
    Dim groups = conv_.body.anchor->attrs.GetDim("groups");
    Dim in = FloorDiv(x_.dims[1], groups), out = FloorDiv(site_.outputs[0].dims[1], groups);
    text_.Line("const Index group = c / {};", text_.Size(out));
    text_.Open("for (Index l = 0; l < {}; ++l)", text_.Size(in));
    text_.Line("const Index ci = group * {} + l;", text_.Size(in));
    std::string w_offset = transposed
                               ? OffsetOfW("ci", fmt::format("(c - group * {})", text_.Size(out)))
                               : OffsetOfW("c", "l");
    text_.Line("sum[0] += ToCompute({}[{}]) * ToCompute({}[{}]);", At(0), OffsetOfX("ci"), At(1),
               w_offset);
    text_.Close();
  }

  const CudaSite& site_;
  Conv conv_;
  KernelText text_;
  int vec_;
  OutputText output_;
  const KernelOperand &x_, &w_;
  std::string type_, position_;
};

CudaKernel MakeConvKernel(const CudaSite& site, const Attrs& variant) {
  return ConvWriter(site, variant).Write();
}

}  // namespace

const KernelFamily kConvFamily = {"direct", FindConvVariants, MakeConvKernel};

}  // namespace stator
