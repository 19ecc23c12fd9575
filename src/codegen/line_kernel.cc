// Kernels of one node that runs along one dim in order: running sums and products, scatter. A
// thread per line of that dim, so that of equal indices the last one wins.
#include <algorithm>

#include "base/error.h"
#include "codegen/families.h"
#include "codegen/output_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kBlock = 128;

std::optional<AnchoredBody> FindLine(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindOneNode(site);
  if (!body) return std::nullopt;
  std::string_view op = body->anchor->op->name;
  if (op != "cumsum" && op != "cumprod" && op != "scatter") return std::nullopt;
  if (body->anchor->attrs.Find("reduce") != nullptr) return std::nullopt;  // scatter into sums
  return body;
}

std::vector<Attrs> FindLineVariants(const CudaSite& site) {
  if (!FindLine(site)) return {};
  return {Attrs{}};
}

class LineWriter {
 public:
  explicit LineWriter(const CudaSite& site)
      : site_(site),
        body_(*FindLine(site)),
        text_(site),
        op_(body_.anchor->op->name),
        dim_(body_.anchor->attrs.GetInt("dim")) {}

  CudaKernel Write() {
    const KernelOperand& y = site_.outputs[0];
    LoopDims lines;
    std::vector<std::string> names;
    for (size_t d = 0; d < y.dims.size(); ++d) {
      if (d == dim_) continue;
      lines.dims.push_back(y.dims[d]);
      names.push_back(fmt::format("o{}", d));
    }
    text_.Line("const Index line = Index(blockIdx.x) * {} + threadIdx.x;", kBlock);
    text_.Line("if (line >= {}) return;", text_.Size(lines.count()));
    WriteCoordinates(text_, lines, "line", names, std::vector<bool>(names.size(), true));
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
    if (op_ == "scatter") {
      WriteScatter();
    } else {
      WriteScan(op_ == "cumprod");
    }
    return text_.Finish(op_, {CeilDiv(lines.count(), kBlock)}, kBlock);
  }

 private:
  // The operand's element at the line, `position` along it.
  std::string Element(const std::string& at, const KernelOperand& operand,
                      const std::string& position) {
    std::vector<KernelText::Term> terms;
    for (size_t d = 0; d < operand.dims.size(); ++d) {
      terms.push_back({d == dim_ ? position : fmt::format("o{}", d), operand.strides[d]});
    }
    return fmt::format("{}[{}]", at, text_.Offset(terms));
  }
  std::string Input(size_t i, const std::string& position) {
    int operand = body_.operands[i];
    return Element(text_.input_at(operand), site_.inputs[operand], position);
  }
  std::string Output(const std::string& position) {
    return Element(text_.output_at(0), site_.outputs[0], position);
  }

  void WriteScan(bool product) {
    DType dtype = site_.outputs[0].dtype;
    text_.Line("{} total = {};", ComputeType(dtype), product ? 1 : 0);
    text_.Open("for (Index i = 0; i < {}; ++i)", text_.Size(site_.outputs[0].dims[dim_]));
    text_.Line("total = total {} ToCompute({});", product ? "*" : "+", Input(0, "i"));
    text_.Line("{} = CastTo<{}>(total);", Output("i"), ElementType(dtype));
    text_.Close();
  }

  void WriteScatter() {
    const KernelOperand& index = site_.inputs[body_.operands[1]];
    std::string size = text_.Size(site_.outputs[0].dims[dim_]);
    text_.Open("for (Index i = 0; i < {}; ++i)", size);
    text_.Line("{} = {};", Output("i"), Input(0, "i"));
    text_.Close();
    std::string inside = "true";
    for (size_t d = 0; d < index.dims.size(); ++d) {
      if (d == dim_ || index.dims[d] == site_.outputs[0].dims[d]) continue;
      inside += fmt::format(" && o{} < {}", d, text_.Size(index.dims[d]));
    }
    text_.Open("for (Index i = 0; {} && i < {}; ++i)", inside, text_.Size(index.dims[dim_]));
    // One out of range is clamped: a kernel cannot raise.
    text_.Line("const Index position = Index(max(0, min({} - 1, i64({}))));", size, Input(1, "i"));
    text_.Line("{} = {};", Output("position"), Input(2, "i"));
    text_.Close();
  }

  const CudaSite& site_;
  AnchoredBody body_;
  KernelText text_;
  std::string_view op_;
  size_t dim_;
};

CudaKernel MakeLineKernel(const CudaSite& site, const Attrs&) { return LineWriter(site).Write(); }

}  // namespace

const KernelFamily kLineFamily = {"line", FindLineVariants, MakeLineKernel};

}  // namespace stator
