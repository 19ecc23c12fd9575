#include "ir/print.h"

#include <cstring>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int64_t kMaxListedElements = 16;

double LoadElement(DType dtype, const std::byte* data) {
  return DispatchDType(dtype, [&](auto element) {
    std::memcpy(&element, data, sizeof(element));
    return static_cast<double>(element);
  });
}

std::string ElementToString(DType dtype, const std::byte* data) {
  if (dtype == DType::kInt64) {  // beyond 2^53 a double would round
    int64_t element;
    std::memcpy(&element, data, sizeof(element));
    return std::to_string(element);
  }
  double value = LoadElement(dtype, data);
  return IsFloat(dtype) ? FloatToString(value) : fmt::format("{}", static_cast<int64_t>(value));
}

std::string LiteralToString(const Value& value, const PrintOptions& options) {
  const ConstantData& data = value.data;
  size_t size = DTypeSize(value.type.dtype);
  int64_t count = static_cast<int64_t>(data.size / size);
  if (count <= kMaxListedElements) {
    std::string text = "[";
    for (int64_t i = 0; i < count; ++i) {
      text += (i ? ", " : "") + ElementToString(value.type.dtype, data.bytes + i * size);
    }
    return text + "]";
  }
  if (!options.literal_bytes) return "hash \"" + Hash128(data.bytes, data.size).ToString() + "\"";
  std::string text = "hex \"";
  for (size_t i = 0; i < data.size; ++i) {
    text += fmt::format("{:02x}", static_cast<unsigned>(data.bytes[i]));
  }
  return text + "\"";
}

class Printer {
 public:
  Printer(const Graph& graph, const PrintOptions& options, std::string indent)
      : graph_(graph), options_(options), indent_(std::move(indent)), names_(graph.num_values()) {}

  std::string Print() {
    NameValues();
    std::string text = indent_ + "graph @" + graph_.name + "(";
    for (ValueId id : graph_.inputs()) {
      text += (text.back() == '(' ? "" : ", ") + Typed(id);
    }
    text += ")";
    for (size_t i = 0; i < graph_.symbols.size(); ++i) {
      const SymbolRange& symbol = graph_.symbols[i];
      text +=
          fmt::format("{} {} in [{}, {}]", i ? "," : " where", symbol.name, symbol.min, symbol.max);
    }
    text += " {\n";
    for (ValueId id : used_constants_) {
      const Value& value = graph_.value(id);
      bool weight = value.kind == ValueKind::kWeight;
      text += fmt::format("{}  {} {} = {}\n", indent_, weight ? "weight" : "literal", Typed(id),
                          weight ? AttrToString(value.name) : LiteralToString(value, options_));
    }
    for (NodeId id : graph_.nodes()) text += PrintNode(graph_.node(id));
    text += indent_ + "  return";
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      text += (i ? ", " : " ") + Name(graph_.outputs()[i]);
    }
    return text + "\n" + indent_ + "}\n";
  }

 private:
  void NameValues() {
    std::map<std::string, int> taken;
    for (ValueId id : graph_.inputs()) {
      std::string name = graph_.value(id).name.empty() ? "in" : graph_.value(id).name;
      for (char& c : name) {
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') c = '_';
      }
      // Inputs must not look like the names below, nor like each other.
      if (std::isdigit(static_cast<unsigned char>(name[0])) || LooksConstant(name))
        name = "_" + name;
      int count = taken[name]++;
      names_[id.index] = count == 0 ? "%" + name : fmt::format("%{}__{}", name, count);
    }
    int num_weights = 0, num_literals = 0, num_nodes = 0;
    auto name_constant = [&](ValueId id) {
      if (!id.valid() || !graph_.IsConstant(id) || !names_[id.index].empty()) return;
      bool weight = graph_.value(id).kind == ValueKind::kWeight;
      names_[id.index] =
          weight ? fmt::format("%w{}", num_weights++) : fmt::format("%c{}", num_literals++);
      used_constants_.push_back(id);
    };
    for (NodeId id : graph_.nodes()) {
      for (ValueId input : graph_.node(id).inputs) name_constant(input);
      for (ValueId output : graph_.node(id).outputs) {
        names_[output.index] = fmt::format("%{}", num_nodes++);
      }
    }
    for (ValueId output : graph_.outputs()) name_constant(output);
  }

  static bool LooksConstant(const std::string& name) {
    return name.size() > 1 && (name[0] == 'w' || name[0] == 'c') &&
           name.find_first_not_of("0123456789", 1) == std::string::npos;
  }

  std::string Name(ValueId id) const { return id.valid() ? names_[id.index] : "none"; }
  std::string Typed(ValueId id) const { return Name(id) + ": " + graph_.type(id).ToString(); }

  std::string PrintNode(const Node& node) const {
    std::string line = indent_ + "  ";
    for (size_t i = 0; i < node.outputs.size(); ++i)
      line += (i ? ", " : "") + Name(node.outputs[i]);
    line += (node.outputs.empty() ? "" : " = ") + std::string(node.op->name) + "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) line += (i ? ", " : "") + Name(node.inputs[i]);
    line += ")";
    if (!node.attrs.empty()) line += fmt::format(" {}", node.attrs.ToString());
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      line += (i ? ", " : " : ") + graph_.type(node.outputs[i]).ToString();
    }
    std::string origin = options_.origins ? node.origin.ToString() : "";
    if (!origin.empty()) {
      line += std::string(line.size() < 60 ? 60 - line.size() : 2, ' ') + "// " + origin;
    }
    line += "\n";
    if (node.body) line += Printer(*node.body, options_, indent_ + "    ").Print();
    return line;
  }

  const Graph& graph_;
  const PrintOptions& options_;
  std::string indent_;
  std::vector<std::string> names_;
  std::vector<ValueId> used_constants_;
};

}  // namespace

std::string PrintGraph(const Graph& graph, const PrintOptions& options) {
  return Printer(graph, options, "").Print();
}

std::string DescribeNode(const Graph& graph, const Node& node) {
  auto name = [&](ValueId id) {
    if (!id.valid()) return std::string("none");
    const Value& value = graph.value(id);
    return value.name.empty() ? fmt::format("%{}", id.index) : "%" + value.name;
  };
  std::string text;
  for (ValueId id : node.outputs) text += (text.empty() ? "" : ", ") + name(id);
  text += " = " + std::string(node.op->name) + "(";
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    text += (i ? ", " : "") + name(node.inputs[i]);
    if (node.inputs[i].valid()) text += ": " + graph.type(node.inputs[i]).ToString();
  }
  text += ")";
  if (!node.attrs.empty()) text += fmt::format(" {}", node.attrs.ToString());
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    text += (i ? ", " : " : ") + graph.type(node.outputs[i]).ToString();
  }
  return text;
}

}  // namespace stator
