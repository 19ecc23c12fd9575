// Pooling: each thread computes one output position of a channel, or, where channels lie next to
// each other in memory, of `vec` of them.
#include "base/error.h"
#include "codegen/families.h"
#include "codegen/window_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kBlock = 128;

bool IsPool(std::string_view op) {
  return op == "max_pool" || op == "max_pool_indices" || op == "avg_pool" ||
         op == "adaptive_avg_pool";
}

std::optional<AnchoredBody> FindPool(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || !IsPool(body->anchor->op->name)) return std::nullopt;
  return body;
}

std::vector<Attrs> FindPoolVariants(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindPool(site);
  if (!body) return {};
  int vec = FindChannelVec(site, *body, 8);
  std::vector<Attrs> variants = {{{"vec", Dim(vec)}}};
  if (vec > 2) variants.push_back({{"vec", Dim(vec / 2)}});
  return variants;
}

class PoolWriter {
 public:
  PoolWriter(const CudaSite& site, const Attrs& variant)
      : site_(site),
        body_(*FindPool(site)),
        text_(site),
        x_(site.inputs[body_.operands[0]]),
        num_spatial_(x_.dims.size() - 2),
        vec_(FindChannelVec(site, body_, static_cast<int>(variant.GetInt("vec")))),
        output_(text_, body_, WindowNames(x_.dims.size()), vec_),
        op_(body_.anchor->op->name),
        type_(x_.dtype == DType::kFloat64 ? "double" : "float"),
        position_(PositionType(site)) {}

  CudaKernel Write() {
    output_.WritePosition(kBlock);
    bool is_max = op_ == "max_pool" || op_ == "max_pool_indices";
    if (op_ == "adaptive_avg_pool") {
      WriteAdaptiveBounds();
    } else {
      WriteBounds(is_max);
    }
    is_max ? WriteMax() : WriteMean();
    return text_.Finish(EntryName("pool", site_.body), {output_.FindGrid(kBlock)}, kBlock);
  }

 private:
  std::string Size(size_t i) { return text_.Size(x_.dims[i + 2]); }

  // first<i>: the window's first position along spatial dim i, padding included.
  void WriteBounds(bool is_max) {
    const Attrs& attrs = body_.anchor->attrs;
    kernel_ = WindowAttr(attrs, "kernel", num_spatial_);
    stride_ = WindowAttr(attrs, "stride", num_spatial_);
    padding_ = WindowAttr(attrs, "padding", num_spatial_);
    dilation_ = WindowAttr(attrs, "dilation", num_spatial_);
    for (size_t i = 0; i < num_spatial_; ++i) {
      text_.Line("const {} first{} = {}(p{}) * {} - {};", position_, i, position_, i, stride_[i],
                 padding_[i]);
      if (is_max) continue;
      text_.Line("const {0} begin{1} = max({0}(0), first{1});", position_, i);
      text_.Line("const {0} end{1} = min({0}({2}), first{1} + {3});", position_, i, Size(i),
                 kernel_[i]);
    }
  }

  void WriteAdaptiveBounds() {
    for (size_t i = 0; i < num_spatial_; ++i) {
      std::string out = text_.Size(site_.outputs[0].dims[i + 2]);
      text_.Line("const {0} begin{1} = {0}(static_cast<long long>(p{1}) * {2} / {3});", position_,
                 i, Size(i), out);
      text_.Line(
          "const {0} end{1} = {0}((static_cast<long long>(p{1} + 1) * {2} + {3} - 1) / {3});",
          position_, i, Size(i), out);
    }
  }

  // Offset of x at (n, c, `position`<i>).
  std::string OffsetOfX() {
    std::vector<KernelText::Term> terms = {{"n", x_.strides[0]}, {"c", x_.strides[1]}};
    for (size_t i = 0; i < num_spatial_; ++i) {
      terms.push_back({fmt::format("Index(q{})", i), x_.strides[i + 2]});
    }
    return text_.Offset(terms);
  }

  // Statements for each channel `j` of the position, `value` being its element.
  void WriteElement(const std::vector<std::string>& statements) {
    std::string at = text_.input_at(body_.operands[0]);
    text_.Line("const auto x_vec = Load<{}>({});", vec_, KernelText::At(at, OffsetOfX()));
    text_.OpenLoop("j", vec_);
    text_.Line("const {} value = ToCompute(x_vec[j]);", type_);
    for (const std::string& statement : statements) text_.Line("{}", statement);
    text_.Close();
  }

  void WriteMax() {
    bool indices = op_ == "max_pool_indices";
    text_.Line("{} best[{}];", type_, vec_);
    if (indices) text_.Line("long long index[{}];", vec_);
    text_.OpenLoop("j", vec_);
    text_.Line("best[j] = -kInfinity;");
    if (indices) text_.Line("index[j] = -1;");
    text_.Close();
    std::string inside, flat;
    for (size_t i = 0; i < num_spatial_; ++i) {
      text_.Open("for (int k{0} = 0; k{0} < {1}; ++k{0})", i, kernel_[i]);
      text_.Line("const {0} q{1} = first{1} + k{1}{2};", position_, i,
                 dilation_[i] == 1 ? "" : fmt::format(" * {}", dilation_[i]));
      text_.Line("if (q{0} < 0 || q{0} >= {1}) continue;", i, Size(i));
      std::string q = fmt::format("q{}", i);
      flat = flat.empty() ? "static_cast<long long>(" + q + ")"
                          : fmt::format("({}) * {} + {}", flat, Size(i), q);
    }
    if (indices) {
      WriteElement({"const bool first = index[j] < 0;",
                    "if (!first && !(value > best[j]) && value == value) continue;",
                    "best[j] = value;", "index[j] = " + flat + ";"});
    } else {
      WriteElement({"best[j] = maximum(best[j], value);"});
    }
    for (size_t i = 0; i < num_spatial_; ++i) text_.Close();
    if (vec_ == 1) text_.Line("constexpr int j = 0;");
    output_.WriteResults(indices ? "Int<i64>(index[j])" : "best[j]");
  }

  void WriteMean() {
    text_.Line("{} sum[{}] = {{}};", type_, vec_);
    std::string volume;
    for (size_t i = 0; i < num_spatial_; ++i) {
      text_.Open("for ({0} q{1} = begin{1}; q{1} < end{1}; ++q{1})", position_, i);
      volume += fmt::format("{}max({}(0), end{} - begin{})", i == 0 ? "" : " * ", position_, i, i);
    }
    WriteElement({"sum[j] += value;"});
    for (size_t i = 0; i < num_spatial_; ++i) text_.Close();
    WriteDivisor(volume);
    if (vec_ == 1) text_.Line("constexpr int j = 0;");
    output_.WriteResults("sum[j] / divisor");
  }

  void WriteDivisor(const std::string& volume) {
    std::string divisor = volume;
    if (op_ == "avg_pool") {
      const Attrs& attrs = body_.anchor->attrs;
      int64_t override = attrs.GetInt("divisor_override");
      if (override != 0) {
        divisor = std::to_string(override);
      } else if (attrs.GetBool("count_include_pad")) {
        divisor = "";
        for (size_t i = 0; i < num_spatial_; ++i) {
          divisor +=
              fmt::format("{}(min(first{} + {}, {}({}) + {}) - first{})", i == 0 ? "" : " * ", i,
                          kernel_[i], position_, Size(i), padding_[i], i);
        }
      }
      // A window of padding alone is 0.
      if (divisor != volume) divisor = fmt::format("{} == 0 ? 1 : {}", volume, divisor);
    }
    if (divisor == volume && op_ == "avg_pool")
      divisor = fmt::format("max({}(1), {})", position_, volume);
    text_.Line("const {0} divisor = static_cast<{0}>({1});", type_, divisor);
  }

  const CudaSite& site_;
  AnchoredBody body_;
  KernelText text_;
  const KernelOperand& x_;
  size_t num_spatial_;
  int vec_;
  OutputText output_;
  std::string_view op_;
  std::string type_, position_;
  std::vector<int64_t> kernel_, stride_, padding_, dilation_;
};

CudaKernel MakePoolKernel(const CudaSite& site, const Attrs& variant) {
  return PoolWriter(site, variant).Write();
}

}  // namespace

const KernelFamily kPoolFamily = {"pool", FindPoolVariants, MakePoolKernel};

}  // namespace stator
