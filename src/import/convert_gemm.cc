// Converters of matrix products and convolutions.
#include "import/conversion.h"
#include "import/promote.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// torch.matmul: a vector on either side is a row or column whose dim is dropped again.
ValueId Matmul(Conversion& c, ValueId a, ValueId b) {
  bool row = c.type(a).rank() == 1, column = c.type(b).rank() == 1;
  if (row) a = c.Unsqueeze(a, 0);
  if (column) b = c.Unsqueeze(b, 1);
  ValueId y = c.Add("matmul", {a, b});
  if (column) y = c.Squeeze(y, c.type(y).rank() - 1);
  if (row) y = c.Squeeze(y, c.type(y).rank() - (column ? 1 : 2));
  return y;
}

bool Scales(const Conversion& c, std::string_view name) {
  return c.Has(name) && !(c.GetScalar(name).is_static() && c.GetScalar(name).value() == 1);
}

// `value` times the number in the argument `name`, which is 1 by default.
ValueId Scale(Conversion& c, ValueId value, std::string_view name) {
  if (!Scales(c, name)) return value;
  Operand product[] = {{.value = value, .scalar = {}}, {.value = {}, .scalar = c.GetScalar(name)}};
  return AddPromoted(c, "mul", product, c.type(value).dtype);
}

// mm, bmm, mv, dot, matmul: `arguments` names the two operands.
Values ConvertMatmul(Conversion& c, std::string_view second) {
  return {Matmul(c, c.Tensor("self"), c.Tensor(second))};
}

Values ConvertOuter(Conversion& c, std::string_view) {
  Operand factors[] = {{.value = c.Unsqueeze(c.Tensor("self"), 1), .scalar = {}},
                       {.value = c.Tensor("vec2"), .scalar = {}}};
  return {AddPromoted(c, "mul", factors, ResultType(c, factors))};
}

// Whether `self` is one row of the result, as the bias of a linear layer is.
bool IsRowOf(const Conversion& c) {
  const Dims &bias = c.type(c.Tensor("self")).dims, &result = c.output_type(0).dims;
  return bias.size() == 1 && result.size() > 1 && bias[0] == result.back();
}

// beta * self + alpha * (a @ b); with beta = 0 self is not read, so its NaN does not spread.
Values ConvertAddMatmul(Conversion& c, std::string_view operands) {
  size_t comma = operands.find(',');
  // A bias that is a row is added before the product is rounded; of another, the sum would be
  // rounded twice.
  if (Scales(c, "alpha") || Scales(c, "beta") || !IsRowOf(c)) c.ComputeWide();
  ValueId a = c.Tensor(operands.substr(0, comma)), b = c.Tensor(operands.substr(comma + 1));
  ValueId product = Scale(c, Matmul(c, a, b), "alpha");
  if (c.Has("beta") && c.Float("beta") == 0) return {product};
  return {c.Add("add", {Scale(c, c.Tensor("self"), "beta"), product})};
}

Values ConvertLinear(Conversion& c, std::string_view) {
  ValueId weight = c.Tensor("weight");
  if (c.type(weight).rank() == 2) weight = c.Transpose(weight, 0, 1);
  ValueId y = Matmul(c, c.Tensor("input"), weight);
  ValueId bias = c.FindTensor("bias");
  return {bias.valid() ? c.Add("add", {y, bias}) : y};
}

// ---- convolution
// A list with one integer per spatial dim; one integer stands for all.
std::vector<int64_t> SpatialInts(const Conversion& c, std::string_view name, int count,
                                 int64_t fallback) {
  if (!c.Has(name)) return std::vector<int64_t>(count, fallback);
  std::vector<int64_t> values = c.Ints(name);
  if (values.size() == 1) values.resize(count, values[0]);
  return values;
}

// padding="same": as many zeros as keep the size; an odd one goes to the end (PyTorch conv2d docs).
ValueId PadSame(Conversion& c, ValueId x, const Dims& kernel, const std::vector<int64_t>& dilation,
                std::vector<int64_t>& padding) {
  Dims pads(2 * c.type(x).rank(), Dim(0));
  bool uneven = false;
  for (size_t i = 0; i < kernel.size(); ++i) {
    int64_t total = dilation[i] * (kernel[i].value() - 1);
    padding[i] = total / 2;
    if (total % 2 != 0) uneven = true;
    pads[2 * (i + 2)] = total / 2;
    pads[2 * (i + 2) + 1] = total - total / 2;
  }
  if (!uneven) return x;
  std::fill(padding.begin(), padding.end(), 0);
  return c.Add("pad", {x}, {{"pads", pads}, {"mode", std::string("constant")}, {"value", 0.0}});
}

// conv1d..3d, conv_transpose1d..3d, convolution: `op` is "transposed", or "" to read the argument.
Values ConvertConv(Conversion& c, std::string_view op) {
  ValueId x = c.Tensor("input"), w = c.Tensor("weight");
  int count = c.type(w).rank() - 2;
  bool transposed = op == "transposed" || c.Bool("transposed", false);
  bool single = c.type(x).rank() == count + 1;  // without a batch dim
  if (single) x = c.Unsqueeze(x, 0);
  std::vector<int64_t> dilation = SpatialInts(c, "dilation", count, 1);
  std::vector<int64_t> padding(std::max(count, 0), 0);
  if (op == "string_padding") {
    const Dims& dims = c.type(w).dims;
    Dims kernel(dims.begin() + 2, dims.end());
    c.Require(IsStatic(kernel) && static_cast<int>(dilation.size()) == count &&
                  c.type(x).rank() == count + 2,
              "a convolution of symbolic kernel size");
    std::string mode = c.String("padding", "valid");
    if (mode == "same")
      x = PadSame(c, x, kernel, dilation, padding);
    else if (mode != "valid")
      c.Reject("padding \"{}\"", mode);
  } else {
    padding = SpatialInts(c, "padding", count, 0);
  }
  std::vector<int64_t> output_padding(std::max(count, 0), 0);
  if (transposed) output_padding = SpatialInts(c, "output_padding", count, 0);
  Values inputs = {x, w};
  if (c.Has("bias")) inputs.push_back(c.Tensor("bias"));
  ValueId y = c.Add("conv", std::move(inputs),
                    {{"stride", ToDims(SpatialInts(c, "stride", count, 1))},
                     {"padding", ToDims(padding)},
                     {"dilation", ToDims(dilation)},
                     {"groups", Dim(c.Int("groups", 1))},
                     {"transposed", transposed},
                     {"output_padding", ToDims(output_padding)}});
  return {single ? c.Squeeze(y, 0) : y};
}

constexpr Converter kRows[] = {
    {"aten.mm.default", ConvertMatmul, "mat2"},
    {"aten.bmm.default", ConvertMatmul, "mat2"},
    {"aten.mv.default", ConvertMatmul, "vec"},
    {"aten.dot.default", ConvertMatmul, "tensor"},
    {"aten.matmul.default", ConvertMatmul, "other"},
    {"aten.linalg_matmul.default", ConvertMatmul, "other"},
    {"aten.outer.default", ConvertOuter},
    {"aten.addmm.default", ConvertAddMatmul, "mat1,mat2"},
    {"aten.baddbmm.default", ConvertAddMatmul, "batch1,batch2"},
    {"aten.addmv.default", ConvertAddMatmul, "mat,vec"},
    {"aten.linear.default", ConvertLinear},
    {"aten.convolution.default", ConvertConv},
    {"aten._convolution.default", ConvertConv},
    {"aten.conv1d.default", ConvertConv},
    {"aten.conv2d.default", ConvertConv},
    {"aten.conv3d.default", ConvertConv},
    {"aten.conv1d.padding", ConvertConv, "string_padding"},
    {"aten.conv2d.padding", ConvertConv, "string_padding"},
    {"aten.conv3d.padding", ConvertConv, "string_padding"},
    {"aten.conv_transpose1d.default", ConvertConv, "transposed"},
    {"aten.conv_transpose2d.input", ConvertConv, "transposed"},
    {"aten.conv_transpose3d.input", ConvertConv, "transposed"},
};

}  // namespace

std::span<const Converter> GemmConverters() { return kRows; }

}  // namespace stator
