// Reads a plan's text form, as plan/text.cc writes it.
//
// Errors: CorruptFile with the line, VersionMismatch for another version. Constants that are shown
// by their size keep it and have no data.

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "ir/parse.h"
#include "plan/plan.h"

namespace stator {
namespace {

// One line, read word by word.
class Line {
 public:
  Line(std::string_view text, int number) : rest_(text), number_(number) {}

  [[noreturn]] void Bad(std::string_view expected) const {
    Fail(ErrorKind::kCorruptFile, "plan text, line {}: expected {} at `{}`", number_, expected,
         rest_.substr(0, 40));
  }

  void SkipSpace() {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
  }

  bool Take(std::string_view token) {
    SkipSpace();
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }

  void Expect(std::string_view token) {
    if (!Take(token)) Bad(fmt::format("`{}`", token));
  }

  void ExpectEnd() {
    SkipSpace();
    if (!rest_.empty()) Bad("the line's end");
  }

  std::string_view Word() {
    SkipSpace();
    size_t size = 0;
    while (size < rest_.size() &&
           (std::isalnum(static_cast<unsigned char>(rest_[size])) || rest_[size] == '_')) {
      ++size;
    }
    return TakePrefix(size);
  }

  int64_t Integer(int64_t max) {
    SkipSpace();
    int64_t value = 0;
    auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc() || value < 0 || value > max) Bad("an integer");
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }

  int SmallInt() { return static_cast<int>(Integer(INT32_MAX)); }

  std::string String() {
    Expect("\"");
    std::string value;
    while (!rest_.starts_with('"')) {
      bool escaped = rest_.starts_with('\\');
      if (escaped) rest_.remove_prefix(1);
      if (rest_.empty()) Bad("`\"`");
      value += escaped && rest_[0] == 'n' ? '\n' : rest_[0];
      rest_.remove_prefix(1);
    }
    rest_.remove_prefix(1);
    return value;
  }

  // The size before `end`, which is taken as well.
  Dim DimBefore(std::string_view end) {
    SkipSpace();
    size_t size = rest_.find(end);
    if (size == std::string_view::npos) Bad(fmt::format("a size and `{}`", end));
    std::optional<Dim> dim = Dim::Find(rest_.substr(0, size));
    if (!dim) Bad("a size");
    rest_.remove_prefix(size + end.size());
    return *dim;
  }

  TensorType Type() {
    SkipSpace();
    size_t size = rest_.find(']');
    if (size == std::string_view::npos) Bad("a type");
    return ParseType(TakePrefix(size + 1));
  }

  // "strides [3, 1]", read as the sizes of a type.
  Dims Strides() {
    Expect("strides");
    SkipSpace();
    size_t size = rest_.find(']');
    if (size == std::string_view::npos) Bad("strides");
    return ParseType("f32" + std::string(TakePrefix(size + 1))).dims;
  }

  std::vector<int> Indices() {
    std::vector<int> indices;
    Expect("(");
    if (Take(")")) return indices;
    do {
      indices.push_back(SmallInt());
    } while (Take(","));
    Expect(")");
    return indices;
  }

  ConstantData Data() {
    if (Take("hex")) return HexData();
    ConstantData data{.bytes = nullptr, .size = static_cast<size_t>(Integer(INT64_MAX))};
    Expect("bytes");
    if (Take("hash")) String();
    return data;
  }

  Attrs AllAttrs() {
    SkipSpace();
    return ParseAttrs(TakePrefix(rest_.size()));
  }

 private:
  std::string_view TakePrefix(size_t size) {
    std::string_view prefix = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return prefix;
  }

  ConstantData HexData() {
    std::string digits = String();
    if (digits.size() % 2 != 0) Bad("an even number of hex digits");
    std::vector<std::byte> bytes(digits.size() / 2);
    for (size_t i = 0; i < bytes.size(); ++i) {
      unsigned value = 0;
      auto [end, error] = std::from_chars(&digits[2 * i], &digits[2 * i] + 2, value, 16);
      if (error != std::errc() || end != &digits[2 * i] + 2) Bad("hex digits");
      bytes[i] = static_cast<std::byte>(value);
    }
    return MakeConstantData(std::move(bytes));
  }

  std::string_view rest_;
  int number_;
};

class PlanTextReader {
 public:
  explicit PlanTextReader(std::string_view text) : text_(text) {}

  Plan Read() {
    Line head = NextLine();
    head.Expect("plan");
    plan_.name = head.String();
    head.Expect("version");
    int64_t version = head.Integer(INT32_MAX);
    if (version != kPlanVersion) {
      Fail(ErrorKind::kVersionMismatch, "plan text: version {}, this build reads {}", version,
           kPlanVersion);
    }
    head.Expect("target");
    plan_.target = head.String();
    if (head.Take("aux_streams")) plan_.aux_streams = static_cast<int>(head.Integer(INT32_MAX));
    head.ExpectEnd();
    while (!text_.empty()) ReadItem();
    return std::move(plan_);
  }

 private:
  Line NextLine() {
    size_t size = std::min(text_.find('\n'), text_.size());
    Line line(text_.substr(0, size), ++number_);
    text_.remove_prefix(std::min(size + 1, text_.size()));
    return line;
  }

  void ReadItem() {
    Line line = NextLine();
    try {
      ReadItem(line);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kCorruptFile) throw;
      Fail(ErrorKind::kCorruptFile, "plan text, line {}: {}", number_, error.message());
    }
  }

  void ReadItem(Line& line) {
    std::string_view what = line.Word();
    if (what == "symbol") {
      plan_.symbols.push_back(ReadSymbol(line));
    } else if (what == "input") {
      plan_.inputs.push_back(ReadPort(Numbered(line, plan_.inputs.size())));
    } else if (what == "output") {
      plan_.outputs.push_back(ReadPort(Numbered(line, plan_.outputs.size())));
    } else if (what == "weight") {
      plan_.weights.push_back(ReadWeight(Numbered(line, plan_.weights.size())));
    } else if (what == "literal") {
      plan_.literals.push_back(Numbered(line, plan_.literals.size()).Data());
    } else if (what == "code") {
      plan_.code.push_back(ReadCode(Numbered(line, plan_.code.size())));
    } else if (what == "derived") {
      plan_.derived.push_back(ReadBuffer(Numbered(line, plan_.derived.size())));
    } else if (what == "arena") {
      plan_.arena.push_back(ReadBuffer(Numbered(line, plan_.arena.size())));
    } else if (what == "tensor") {
      plan_.tensors.push_back(ReadTensor(Numbered(line, plan_.tensors.size())));
    } else if (what == "prologue") {
      plan_.prologue.push_back(ReadStep(Numbered(line, plan_.prologue.size())));
    } else if (what == "step") {
      plan_.steps.push_back(ReadStep(Numbered(line, plan_.steps.size())));
    } else {
      line.Bad("an item of a plan");
    }
    line.ExpectEnd();
  }

  static Line& Numbered(Line& line, size_t number) {
    if (line.Integer(INT64_MAX) != static_cast<int64_t>(number)) {
      line.Bad(fmt::format("number {} before it", number));
    }
    line.Expect("=");
    return line;
  }

  static SymbolRange ReadSymbol(Line& line) {
    SymbolRange symbol{.name = std::string(line.Word())};
    line.Expect("in");
    line.Expect("[");
    symbol.min = line.Integer(INT64_MAX);
    line.Expect(",");
    symbol.max = line.Integer(INT64_MAX);
    line.Expect("]");
    return symbol;
  }

  static PlanPort ReadPort(Line& line) {
    PlanPort port{.name = line.String()};
    TensorType type = line.Type();
    port.dtype = type.dtype;
    port.dims = type.dims;
    port.strides = line.Strides();
    return port;
  }

  static PlanWeight ReadWeight(Line& line) {
    PlanWeight weight{.name = line.String()};
    TensorType type = line.Type();
    weight.dtype = type.dtype;
    weight.dims = EvalDims(type.dims, {});
    weight.data = line.Data();
    return weight;
  }

  static PlanCode ReadCode(Line& line) {
    PlanCode code{.arch = line.String(), .entry = line.String()};
    code.binary = line.Data();
    return code;
  }

  static PlanBuffer ReadBuffer(Line& line) {
    PlanBuffer buffer{.bytes = line.DimBefore(" bytes, steps")};
    buffer.first_step = line.SmallInt();
    line.Expect("to");
    buffer.last_step = line.SmallInt();
    return buffer;
  }

  static PlanTensor ReadTensor(Line& line) {
    PlanTensor tensor;
    std::string_view word = line.Word();
    int kind = 0;
    while (kind < kNumStorageKinds && StorageKindName(static_cast<StorageKind>(kind)) != word) {
      ++kind;
    }
    if (kind == kNumStorageKinds) line.Bad("a storage before it");
    tensor.storage = static_cast<StorageKind>(kind);
    tensor.index = line.SmallInt();
    line.Expect("+");
    tensor.offset = line.DimBefore(" :");
    TensorType type = line.Type();
    tensor.dtype = type.dtype;
    tensor.dims = type.dims;
    tensor.strides = line.Strides();
    return tensor;
  }

  Step ReadStep(Line& line) {
    Step step;
    std::string_view kind = line.Word();
    int index = 0;
    while (index < kNumStepKinds && StepKindName(static_cast<StepKind>(index)) != kind) ++index;
    if (index == kNumStepKinds) line.Bad("a step kind before it");
    step.kind = static_cast<StepKind>(index);
    step.inputs = line.Indices();
    line.Expect("->");
    step.outputs = line.Indices();
    line.Expect("from");
    step.origin = line.String();
    step.attrs = line.AllAttrs();
    while (text_.starts_with("  ")) {
      size_t size = std::min(text_.find('\n'), text_.size());
      step.body += std::string(text_.substr(2, size - 2)) + "\n";
      NextLine();
    }
    return step;
  }

  std::string_view text_;
  int number_ = 0;
  Plan plan_;
};

}  // namespace

Plan PlanFromText(std::string_view text) {
  Plan plan = PlanTextReader(text).Read();
  CheckPlan(plan);
  return plan;
}

}  // namespace stator
