#include "codegen/kernel_text.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/print.h"

namespace stator {
namespace {

std::string FloatText(double value, bool is_double) {
  if (std::isnan(value))
    return is_double ? "(double)(kInfinity - kInfinity)" : "(kInfinity - kInfinity)";
  if (std::isinf(value)) return fmt::format("{}kInfinity", value < 0 ? "-" : "");
  std::string text =
      is_double ? fmt::format("{}", value) : fmt::format("{}", static_cast<float>(value));
  if (!is_double && std::isinf(static_cast<float>(value))) {
    return fmt::format("{}kInfinity", value < 0 ? "-" : "");
  }
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text + (is_double ? "" : "f");
}

template <typename T>
std::string IntegerText(double value) {
  using Limits = std::numeric_limits<T>;
  T integer = 0;
  if (value <= static_cast<double>(Limits::min())) {
    integer = Limits::min();
  } else if (value >= static_cast<double>(Limits::max())) {
    integer = Limits::max();
  } else if (!std::isnan(value)) {
    integer = static_cast<T>(value);
  }
  if (integer == std::numeric_limits<int64_t>::min()) return "(-9223372036854775807ll - 1)";
  return fmt::format("{}{}", integer, sizeof(T) == 8 ? "ll" : "");
}

bool IsSmallOperand(const KernelOperand& operand) {
  if (!operand.present) return true;
  if (!IsStatic(operand.dims) || !IsStatic(operand.strides)) return false;
  constexpr int64_t kLimit = int64_t{1} << 30;
  int64_t extent = 1, count = 1;
  for (size_t i = 0; i < operand.dims.size(); ++i) {
    int64_t size = operand.dims[i].value(), stride = std::abs(operand.strides[i].value());
    if (size == 0) return true;
    if (size >= kLimit || stride >= kLimit) return false;
    extent += (size - 1) * stride;
    count *= size;
    if (extent >= kLimit || count >= kLimit) return false;
  }
  return true;
}

bool IsWord(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// A name of the IR as one of C++.
std::string Identifier(std::string_view name, std::string_view prefix) {
  std::string text;
  for (char c : name) text += IsWord(c) ? c : '_';
  bool starts_well = !text.empty() && !(text[0] >= '0' && text[0] <= '9');
  return starts_well ? text : std::string(prefix) + text;
}

}  // namespace

std::string ElementType(DType dtype) { return std::string(DTypeName(dtype)); }

std::string ComputeType(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kFloat32: return "float";
    case DType::kFloat64: return "double";
    case DType::kBool: return "bool";
    default: return fmt::format("Int<{}>", DTypeName(dtype));
  }
}

std::string MovedType(DType dtype) { return fmt::format("u{}", 8 * DTypeSize(dtype)); }

std::string NumberText(DType dtype, double value) {
  switch (dtype) {
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kFloat32: return FloatText(value, false);
    case DType::kFloat64: return FloatText(value, true);
    case DType::kBool: return value != 0 ? "true" : "false";
    case DType::kUInt8: return IntegerText<uint8_t>(value);
    case DType::kInt8: return IntegerText<int8_t>(value);
    case DType::kInt16: return IntegerText<int16_t>(value);
    case DType::kInt32: return IntegerText<int32_t>(value);
    case DType::kInt64: return IntegerText<int64_t>(value);
  }
  __builtin_unreachable();
}

std::string DimText(const Dim& dim) {
  std::string text = dim.ToString();
  bool atom = std::all_of(text.begin(), text.end(), IsWord);
  return atom ? text : "(" + text + ")";
}

bool IsSmall(const CudaSite& site) {
  return std::all_of(site.inputs.begin(), site.inputs.end(), IsSmallOperand) &&
         std::all_of(site.outputs.begin(), site.outputs.end(), IsSmallOperand);
}

Dim CeilDiv(const Dim& a, int64_t b) { return FloorDiv(a + (b - 1), b); }

KernelText::KernelText(const CudaSite& site, std::vector<std::string> types)
    : site_(site), types_(std::move(types)) {
  const Graph& body = site.body;
  if (types_.empty()) {
    for (const KernelOperand& operand : site.inputs) types_.push_back(ElementType(operand.dtype));
    for (const KernelOperand& operand : site.outputs) types_.push_back(ElementType(operand.dtype));
  }
  value_names_.resize(body.num_values());
  for (ValueId id : body.inputs()) {
    value_names_[id.index] = Identifier(body.value(id).name, "x");
  }
  int num_results = 0, num_literals = 0;
  for (NodeId id : body.nodes()) {
    const Node& node = body.node(id);
    for (ValueId input : node.inputs) {
      if (input.valid() && body.IsConstant(input) && value_names_[input.index].empty()) {
        value_names_[input.index] = fmt::format("c{}", num_literals++);
      }
    }
    for (ValueId output : node.outputs) {
      value_names_[output.index] = fmt::format("v{}", num_results++);
    }
  }
  for (size_t i = 0; i < site.inputs.size(); ++i) {
    bool named = i < body.inputs().size();
    input_names_.push_back(named ? value_names_[body.inputs()[i].index] : fmt::format("x{}", i));
  }
  for (size_t i = 0; i < site.outputs.size(); ++i) {
    bool named = i < body.outputs().size();
    output_names_.push_back(named ? value_names_[body.outputs()[i].index] : fmt::format("y{}", i));
    // An input that is returned as it is, or a value that is returned twice.
    for (size_t k = 0; k < i; ++k) {
      if (output_names_[k] == output_names_[i]) output_names_[i] += fmt::format("_out{}", i);
    }
    for (const std::string& input : input_names_) {
      if (input == output_names_[i]) output_names_[i] += fmt::format("_out{}", i);
    }
  }
}

void KernelText::AddLine(std::string_view line) {
  bool flush = line.starts_with("#");  // preprocessor lines start where they start
  lines_.append(line.empty() || flush ? 0 : 2 * depth_, ' ');
  lines_ += line;
  lines_ += '\n';
}

void KernelText::Close(std::string_view end) {
  --depth_;
  Line("}}{}", end);
}

void KernelText::OpenBlock() {
  AddLine("{");
  ++depth_;
}

void KernelText::OpenLoop(std::string_view name, int64_t count) {
  if (count == 1) {
    OpenBlock();
    Line("constexpr int {} = 0;", name);
    return;
  }
  AddLine("#pragma unroll");
  Open("for (int {} = 0; {} < {}; ++{})", name, name, count, name);
}

std::string KernelText::Size(const Dim& dim) {
  dim.CollectSymbols(symbols_);
  return DimText(dim);
}

std::string KernelText::Offset(const std::vector<Term>& terms) {
  std::string text;
  for (const Term& term : terms) {
    if (term.stride == Dim(0) || term.index == "0") continue;
    if (!text.empty()) text += " + ";
    text += term.index;
    if (!(term.stride == Dim(1))) text += " * " + Size(term.stride);
  }
  return text.empty() ? "0" : text;
}

std::string KernelText::At(const std::string& pointer, const std::string& offset) {
  return offset == "0" ? pointer : pointer + " + " + offset;
}

CudaKernel KernelText::Finish(std::string_view entry, Dims grid, int block, int smem, int cluster,
                              int blocks) {
  STATOR_CHECK(depth_ == 1, "{} blocks left open", depth_ - 1);
  CudaKernel kernel{.source = {},
                    .entry = fmt::format("{}{}", kEntryPrefix, entry),
                    .grid = std::move(grid),
                    .block = block,
                    .smem = smem,
                    .cluster = cluster,
                    .symbols = {symbols_.begin(), symbols_.end()}};
  kernel.grid.resize(3, Dim(1));
  std::string& text = kernel.source;
  text = fmt::format("#include \"{}\"\n\n", kPreludeName);
  if (!site_.body.outputs().empty()) {
    std::string ir = PrintGraph(site_.body, {.origins = false, .literal_bytes = false});
    for (size_t start = 0; start < ir.size();) {
      size_t end = std::min(ir.find('\n', start), ir.size());
      text += "// " + ir.substr(start, end - start) + "\n";
      start = end + 1;
    }
  }
  text += fmt::format("namespace stator {{\n\nusing Index = {};\n\n",
                      IsSmall(site_) ? "unsigned" : "long long");
  text += before_;
  std::string parameters;
  auto add = [&](std::string parameter) {
    parameters += (parameters.empty() ? "" : ",\n    ") + parameter;
  };
  size_t type = 0;
  for (size_t i = 0; i < site_.inputs.size(); ++i, ++type) {
    if (site_.inputs[i].present) add(fmt::format("const {}* {}", types_[type], input_at(i)));
  }
  for (size_t i = 0; i < site_.outputs.size(); ++i, ++type) {
    add(fmt::format("{}* {}", types_[type], output_at(i)));
  }
  for (const std::string& symbol : symbols_) add(fmt::format("long long {}", symbol));
  std::string together = cluster == 1 ? "" : fmt::format("__cluster_dims__({}) ", cluster);
  std::string bounds =
      blocks == 1 ? fmt::format("{}", block) : fmt::format("{}, {}", block, blocks);
  text += fmt::format(
      "extern \"C\" __global__ void {}__launch_bounds__({}) {}(\n    {}) {{\n{}}}\n\n}}  // "
      "namespace "
      "stator\n",
      together, bounds, kernel.entry, parameters, lines_);
  return kernel;
}

}  // namespace stator
