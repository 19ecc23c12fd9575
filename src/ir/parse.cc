#include "ir/parse.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/verify.h"

namespace stator {
namespace {

constexpr int kMaxDepth = 8;  // bodies within bodies
constexpr int kMaxRank = 32;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Graph ParseWholeGraph() {
    Graph graph = ParseOneGraph(0, {});
    SkipBlank();
    if (pos_ != text_.size()) Bad("text after the graph");
    return graph;
  }

  TensorType ParseWholeType() {
    TensorType type = Type();
    SkipBlank();
    if (pos_ != text_.size()) Bad("text after the type");
    return type;
  }

  Attrs ParseWholeAttrs() {
    Attrs attrs = OptionalAttrs();
    SkipBlank();
    if (pos_ != text_.size()) Bad("text after the attributes");
    return attrs;
  }

 private:
  // ---- characters and words
  template <typename... Args>
  [[noreturn]] void Bad(fmt::format_string<Args...> format, Args&&... args) const {
    size_t end = std::min(pos_, text_.size());
    int64_t line = 1 + std::count(text_.begin(), text_.begin() + end, '\n');
    size_t newline = text_.substr(0, end).rfind('\n');
    size_t column = end - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
    Fail(ErrorKind::kInvalidArgument, "graph text, line {}, column {}: {}", line, column,
         fmt::format(format, std::forward<Args>(args)...));
  }

  char Peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }

  void SkipSpace() {
    while (Peek() == ' ' || Peek() == '\t') ++pos_;
  }

  // Skips white space, line ends and comment lines.
  void SkipBlank() {
    while (true) {
      while (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r') ++pos_;
      if (text_.substr(pos_).substr(0, 2) != "//") return;
      while (pos_ < text_.size() && Peek() != '\n') ++pos_;
    }
  }

  bool Take(std::string_view token) {
    SkipSpace();
    if (text_.substr(pos_).substr(0, token.size()) != token) return false;
    pos_ += token.size();
    return true;
  }

  void Expect(std::string_view token) {
    if (!Take(token)) Bad("expected `{}`", token);
  }

  static bool IsWordChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

  std::string_view FindWord() {
    SkipSpace();
    size_t start = pos_;
    while (IsWordChar(Peek())) ++pos_;
    return text_.substr(start, pos_ - start);
  }

  std::string_view Word(std::string_view what) {
    std::string_view word = FindWord();
    if (word.empty()) Bad("expected {}", what);
    return word;
  }

  bool TakeWord(std::string_view word) {
    size_t start = pos_;
    if (FindWord() == word) return true;
    pos_ = start;
    return false;
  }

  // ---- values of attributes and types
  int64_t Integer() {
    SkipSpace();
    int64_t value = 0;
    auto [end, error] = std::from_chars(text_.data() + pos_, text_.data() + text_.size(), value);
    if (error != std::errc()) Bad("expected an integer");
    pos_ = end - text_.data();
    return value;
  }

  Dim OneDim() {
    // A size runs to the next comma or bracket outside parentheses.
    SkipSpace();
    size_t end = pos_;
    int depth = 0;
    while (end < text_.size()) {
      char c = text_[end];
      if (c == '(') ++depth;
      if (c == ')' && depth-- == 0) break;
      if (depth == 0 && (c == ',' || c == ']' || c == '}')) break;
      if (c == '\n') break;
      ++end;
    }
    std::string_view text = text_.substr(pos_, end - pos_);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    std::optional<Dim> dim = Dim::Find(text);
    if (!dim) Bad("expected a size");
    pos_ = end;
    return *dim;
  }

  Dims DimList() {
    Dims dims;
    Expect("[");
    if (Take("]")) return dims;
    do {
      dims.push_back(OneDim());
    } while (Take(","));
    Expect("]");
    return dims;
  }

  TensorType Type() {
    TensorType type;
    std::string_view name = Word("a type");
    std::optional<DType> dtype = FindDType(name);
    if (!dtype) Bad("unknown dtype `{}`", name);
    type.dtype = *dtype;
    type.dims = DimList();
    if (type.rank() > kMaxRank) Bad("rank {} is above {}", type.rank(), kMaxRank);
    if (Peek() == '@') {
      ++pos_;
      for (char c : Word("an order of dims")) {
        type.order.push_back(std::isdigit(static_cast<unsigned char>(c)) ? c - '0' : c - 'a' + 10);
      }
      type.order = CanonicalOrder(type.order);
    }
    return type;
  }

  std::string String() {
    Expect("\"");
    std::string value;
    while (Peek() != '"') {
      if (pos_ >= text_.size() || Peek() == '\n') Bad("string without end");
      if (Peek() == '\\') {
        ++pos_;
        value += Peek() == 'n' ? '\n' : Peek();
      } else {
        value += Peek();
      }
      ++pos_;
    }
    ++pos_;
    return value;
  }

  std::optional<double> FindFloat() {
    SkipSpace();
    size_t end = pos_;
    while (end < text_.size() &&
           (IsWordChar(text_[end]) || text_[end] == '.' || text_[end] == '-' || text_[end] == '+'))
      ++end;
    std::string_view word = text_.substr(pos_, end - pos_);
    std::string_view digits = word.starts_with('-') ? word.substr(1) : word;
    bool numeric = digits == "inf" || digits == "nan" ||
                   (!digits.empty() && std::isdigit(static_cast<unsigned char>(digits[0])) &&
                    digits.find_first_of(".e") != std::string_view::npos &&
                    digits.find_first_not_of("0123456789.e+-") == std::string_view::npos);
    if (!numeric) return std::nullopt;
    double value = 0;
    auto [last, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (last != word.data() + word.size() || error == std::errc::invalid_argument) {
      return std::nullopt;
    }
    pos_ = end;
    return value;
  }

  Attr OneAttr() {
    SkipSpace();
    if (Peek() == '"') return String();
    if (Peek() == '[') return DimList();
    if (TakeWord("true")) return true;
    if (TakeWord("false")) return false;
    size_t start = pos_;
    if (std::optional<DType> dtype = FindDType(FindWord())) return *dtype;
    pos_ = start;
    if (std::optional<double> value = FindFloat()) return *value;
    return OneDim();
  }

  Attrs OptionalAttrs() {
    Attrs attrs;
    if (!Take("{")) return attrs;
    if (Take("}")) return attrs;
    do {
      std::string name(Word("an attribute's name"));
      Expect("=");
      if (attrs.Find(name) != nullptr) Bad("attribute `{}` twice", name);
      attrs.Set(name, OneAttr());
    } while (Take(","));
    Expect("}");
    return attrs;
  }

  // ---- graphs
  using Names = std::map<std::string, ValueId, std::less<>>;

  Graph ParseOneGraph(int depth, const std::vector<SymbolRange>& outer_symbols) {
    if (depth > kMaxDepth) Bad("bodies are nested deeper than {}", kMaxDepth);
    SkipBlank();
    if (!TakeWord("graph")) Bad("expected `graph`");
    Expect("@");
    Graph graph;
    graph.name = Word("a name");
    graph.symbols = outer_symbols;
    Names names;
    Expect("(");
    if (!Take(")")) {
      do {
        Expect("%");
        std::string name(Word("an input's name"));
        Expect(":");
        Bind(names, name, graph.AddInput(name, Type()));
      } while (Take(","));
      Expect(")");
    }
    if (TakeWord("where")) {
      graph.symbols.clear();
      do {
        SymbolRange symbol{.name = std::string(Word("a symbol"))};
        if (!TakeWord("in")) Bad("expected `in`");
        Expect("[");
        symbol.min = Integer();
        Expect(",");
        symbol.max = Integer();
        Expect("]");
        graph.symbols.push_back(symbol);
      } while (Take(","));
    }
    Expect("{");
    while (true) {
      SkipBlank();
      if (TakeWord("return")) break;
      if (TakeWord("weight")) {
        ParseConstant(graph, names, true);
      } else if (TakeWord("literal")) {
        ParseConstant(graph, names, false);
      } else {
        ParseNode(graph, names, depth);
      }
    }
    std::vector<ValueId> outputs;
    SkipSpace();
    if (Peek() == '%') {
      do {
        outputs.push_back(Operand(names));
      } while (Take(","));
    }
    graph.SetOutputs(std::move(outputs));
    SkipBlank();
    Expect("}");
    return graph;
  }

  void Bind(Names& names, const std::string& name, ValueId id) {
    if (!names.emplace(name, id).second) Bad("%{} is defined twice", name);
  }

  ValueId Operand(const Names& names) {
    if (TakeWord("none")) return {};
    Expect("%");
    std::string_view name = Word("a value's name");
    auto it = names.find(name);
    if (it == names.end()) Bad("%{} is not defined", name);
    return it->second;
  }

  void ParseConstant(Graph& graph, Names& names, bool weight) {
    Expect("%");
    std::string name(Word("a name"));
    Expect(":");
    TensorType type = Type();
    if (!IsStatic(type.dims)) Bad("constant of symbolic size");
    Expect("=");
    if (weight) {
      Bind(names, name, graph.AddWeight(String(), std::move(type)));
      return;
    }
    if (TakeWord("hex")) {
      Bind(names, name, graph.AddLiteral(type, MakeConstantData(HexBytes(type))));
      return;
    }
    if (TakeWord("hash")) Bad("a literal shown by its hash cannot be read back");
    Bind(names, name, graph.AddLiteral(type, MakeConstantData(ListedBytes(type))));
  }

  size_t ByteSize(const TensorType& type) const {
    int64_t bytes = static_cast<int64_t>(DTypeSize(type.dtype));
    for (const Dim& dim : type.dims) {
      if (dim.value() < 0 || __builtin_mul_overflow(bytes, dim.value(), &bytes)) {
        Bad("size of {} is out of range", type.ToString());
      }
    }
    return static_cast<size_t>(bytes);
  }

  std::vector<std::byte> HexBytes(const TensorType& type) {
    std::string digits = String();
    if (digits.size() != 2 * ByteSize(type))
      Bad("{} hex digits for {}", digits.size(), type.ToString());
    std::vector<std::byte> bytes(digits.size() / 2);
    for (size_t i = 0; i < bytes.size(); ++i) {
      unsigned value = 0;
      auto [end, error] = std::from_chars(&digits[2 * i], &digits[2 * i] + 2, value, 16);
      if (error != std::errc() || end != &digits[2 * i] + 2) Bad("bad hex digits");
      bytes[i] = static_cast<std::byte>(value);
    }
    return bytes;
  }

  // "[1, 2]"; one element fills the tensor.
  std::vector<std::byte> ListedBytes(const TensorType& type) {
    constexpr size_t kMaxBytes = size_t{1} << 26;  // of the whole text: few characters make many
    size_t total = ByteSize(type), size = DTypeSize(type.dtype);
    filled_bytes_ += std::min(total, kMaxBytes + 1);
    if (filled_bytes_ > kMaxBytes) Bad("literal {} is too large for text", type.ToString());
    std::vector<std::byte> listed;
    Expect("[");
    if (!Take("]")) {
      do {
        AppendElement(type.dtype, listed);
        if (listed.size() > std::max(total, size)) Bad("too many elements for {}", type.ToString());
      } while (Take(","));
      Expect("]");
    }
    if (listed.size() == total) return listed;
    if (listed.size() != size) Bad("{} elements for {}", listed.size() / size, type.ToString());
    std::vector<std::byte> bytes(total);
    for (size_t i = 0; i < total; i += size) std::memcpy(&bytes[i], listed.data(), size);
    return bytes;
  }

  void AppendElement(DType dtype, std::vector<std::byte>& bytes) {
    std::optional<double> value = FindFloat();
    int64_t integer = 0;
    if (!value) {
      if (TakeWord("true")) {
        integer = 1;
      } else if (!TakeWord("false")) {
        integer = Integer();
      }
      value = static_cast<double>(integer);
    } else if (!IsFloat(dtype)) {
      Bad("a fraction in a literal of {}", DTypeName(dtype));
    }
    DispatchDType(dtype, [&](auto element) {
      using T = decltype(element);
      if constexpr (std::is_integral_v<T>) {
        element = static_cast<T>(integer);
      } else if constexpr (std::is_same_v<T, double>) {
        element = *value;
      } else {
        element = T(static_cast<float>(*value));
      }
      bytes.resize(bytes.size() + sizeof(T));
      std::memcpy(&bytes[bytes.size() - sizeof(T)], &element, sizeof(T));
    });
  }

  // "%1, %2 = op(%0, none) {attrs} : type, type   // name · file:line"
  void ParseNode(Graph& graph, Names& names, int depth) {
    std::vector<std::string> results;
    SkipSpace();
    if (Peek() == '%') {
      do {
        Expect("%");
        results.emplace_back(Word("a name"));
      } while (Take(","));
      Expect("=");
    }
    std::string_view op_name = Word("an op");
    const OpDef* op = FindOp(op_name);
    if (op == nullptr) Bad("there is no op `{}`", op_name);
    std::vector<ValueId> inputs;
    Expect("(");
    if (!Take(")")) {
      do {
        inputs.push_back(Operand(names));
      } while (Take(","));
      Expect(")");
    }
    Attrs attrs = OptionalAttrs();
    std::vector<TensorType> types;
    if (Take(":")) {
      do {
        types.push_back(Type());
      } while (Take(","));
    }
    Origin origin = OptionalOrigin();
    NodeId id = AddParsedNode(graph, *op, std::move(inputs), std::move(attrs), std::move(types),
                              std::move(origin));
    if (graph.node(id).outputs.size() != results.size()) {
      Bad("{} results for {} outputs of `{}`", results.size(), graph.node(id).outputs.size(),
          op_name);
    }
    if (op->Is(kKernel)) {
      graph.mutable_node(id).body =
          std::make_shared<const Graph>(ParseOneGraph(depth + 1, graph.symbols));
    }
    for (size_t i = 0; i < results.size(); ++i) Bind(names, results[i], graph.node(id).outputs[i]);
  }

  NodeId AddParsedNode(Graph& graph, const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                       std::vector<TensorType> types, Origin origin) {
    if (types.empty() && (op.Is(kOpaque) || op.Is(kKernel))) Bad("op `{}` needs types", op.name);
    try {
      if (types.empty()) {
        return graph.AddNode(op, std::move(inputs), std::move(attrs), std::move(origin));
      }
      CheckSchema(op, inputs.size(), attrs);
      return graph.AddNodeWithTypes(op, std::move(inputs), std::move(attrs), std::move(types),
                                    std::move(origin));
    } catch (const Error& error) {
      Bad("{}", error.message());
    }
  }

  Origin OptionalOrigin() {
    SkipSpace();
    if (text_.substr(pos_).substr(0, 2) != "//") return {};
    size_t end = std::min(text_.find('\n', pos_), text_.size());
    std::string_view comment = text_.substr(pos_ + 2, end - pos_ - 2);
    pos_ = end;
    while (comment.starts_with(' ')) comment.remove_prefix(1);
    constexpr std::string_view kSeparator = " · ";
    size_t split = comment.find(kSeparator);
    if (split == std::string_view::npos) {
      bool is_location = comment.find(':') != std::string_view::npos;
      return is_location ? Origin{.name = {}, .location = std::string(comment)}
                         : Origin{.name = std::string(comment), .location = {}};
    }
    return {.name = std::string(comment.substr(0, split)),
            .location = std::string(comment.substr(split + kSeparator.size()))};
  }

  std::string_view text_;
  size_t pos_ = 0;
  size_t filled_bytes_ = 0;  // of literals whose elements are listed
};

}  // namespace

Graph ParseGraph(std::string_view text) {
  Graph graph = Parser(text).ParseWholeGraph();
  try {
    VerifyGraph(graph);
  } catch (const Error& error) {  // the text's fault, not ours
    throw Error(ErrorKind::kInvalidArgument, error.message(), error.node());
  }
  return graph;
}

TensorType ParseType(std::string_view text) { return Parser(text).ParseWholeType(); }
Attrs ParseAttrs(std::string_view text) { return Parser(text).ParseWholeAttrs(); }

}  // namespace stator
