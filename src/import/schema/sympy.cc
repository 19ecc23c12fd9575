#include "import/schema/sympy.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>
#include <vector>

namespace stator {
namespace {

// Hostile text must not blow up: Dim expands products of sums.
constexpr int kMaxDepth = 32;
constexpr int kMaxTerms = 64;
constexpr size_t kMaxText = 512;

// Recursive descent over: expression := call | integer | name; call := path '(' args ')';
// args := (expression | word '=' word) {',' ...}.
class SympyParser {
 public:
  explicit SympyParser(std::string_view text) : text_(text) {}

  std::optional<Dim> ParseAll() {
    std::optional<Dim> dim = Expression(0);
    SkipSpace();
    return pos_ == text_.size() ? dim : std::nullopt;
  }

 private:
  void SkipSpace() {
    while (pos_ < text_.size() && text_[pos_] == ' ') ++pos_;
  }
  bool Take(char c) {
    SkipSpace();
    if (pos_ >= text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }
  std::string_view Word() {
    SkipSpace();
    size_t start = pos_;
    auto is_word = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
    };
    while (pos_ < text_.size() && is_word(text_[pos_])) ++pos_;
    return text_.substr(start, pos_ - start);
  }

  std::optional<Dim> Integer() {
    bool negative = Take('-');
    std::string_view word = Word();
    if (word.empty() || word.size() > 13) return std::nullopt;
    int64_t value = 0;
    for (char c : word) {
      if (!std::isdigit(static_cast<unsigned char>(c))) return std::nullopt;
      value = value * 10 + (c - '0');
    }
    if (value > kMaxSize) return std::nullopt;
    return Dim(negative ? -value : value);
  }

  static std::optional<Dim> MakeSymbol(std::string_view name) {
    static const std::set<std::string_view> kReserved = {"min", "max", "floordiv", "mod"};
    bool valid = !name.empty() && name.size() <= 32 && !kReserved.contains(name) &&
                 !std::isdigit(static_cast<unsigned char>(name[0])) &&
                 name.find('.') == std::string_view::npos;
    return valid ? std::optional(Dim::Symbol(name)) : std::nullopt;
  }

  // After "Symbol(": 'name' and assumptions such as positive=True.
  std::optional<Dim> Symbol() {
    if (!Take('\'')) return std::nullopt;
    std::string_view name = Word();
    if (!Take('\'')) return std::nullopt;
    while (Take(',')) {
      if (Word().empty() || !Take('=') || Word().empty()) return std::nullopt;
    }
    return Take(')') ? MakeSymbol(name) : std::nullopt;
  }

  std::optional<Dim> Expression(int depth) {
    SkipSpace();
    if (depth > kMaxDepth || ++num_terms_ > kMaxTerms || pos_ >= text_.size()) return std::nullopt;
    if (text_[pos_] == '-' || std::isdigit(static_cast<unsigned char>(text_[pos_]))) {
      return Integer();
    }
    std::string_view path = Word();
    std::string_view function = path.substr(path.rfind('.') + 1);
    if (!Take('(')) return MakeSymbol(path);
    if (function == "Symbol") return Symbol();
    if (function == "Integer") {
      std::optional<Dim> integer = Integer();
      return Take(')') ? integer : std::nullopt;
    }
    std::vector<Dim> args;
    do {
      std::optional<Dim> arg = Expression(depth + 1);
      if (!arg || arg->ToString().size() > kMaxText) return std::nullopt;
      args.push_back(*arg);
    } while (Take(','));
    return Take(')') ? Apply(function, args) : std::nullopt;
  }

  static std::optional<Dim> Apply(std::string_view function, const std::vector<Dim>& args) {
    using Binary = Dim (*)(const Dim&, const Dim&);
    auto fold = [&args](Binary op) {
      std::optional<Dim> result = args[0];
      for (size_t i = 1; i < args.size() && result; ++i) result = Combine(op, *result, args[i]);
      return result;
    };
    if (function == "Add") return fold([](const Dim& a, const Dim& b) { return a + b; });
    if (function == "Mul") return fold([](const Dim& a, const Dim& b) { return a * b; });
    if (function == "Min") return fold(Min);
    if (function == "Max") return fold(Max);
    if (args.size() != 2 || args[1] == Dim(0)) return std::nullopt;
    if (function == "FloorDiv" || function == "CleanDiv") return FloorDiv(args[0], args[1]);
    if (function == "CeilDiv") return FloorDiv(args[0] + args[1] - Dim(1), args[1]);
    if (function == "Mod" || function == "PythonMod") return Mod(args[0], args[1]);
    if (function == "Pow" || function == "PowByNatural") {
      if (!args[1].is_static() || args[1].value() < 0 || args[1].value() > 4) return std::nullopt;
      std::optional<Dim> power = Dim(1);
      for (int64_t i = 0; i < args[1].value() && power; ++i) {
        power = Combine([](const Dim& a, const Dim& b) { return a * b; }, *power, args[0]);
      }
      return power;
    }
    return std::nullopt;
  }

  // `op`, unless the operands are so large that its integers may overflow.
  static std::optional<Dim> Combine(Dim (*op)(const Dim&, const Dim&), const Dim& a, const Dim& b) {
    constexpr int kMaxDigits = 9;
    bool symbolic = !a.is_static() || !b.is_static();
    if (symbolic && (CountDigits(a) > kMaxDigits || CountDigits(b) > kMaxDigits)) {
      return std::nullopt;
    }
    int64_t unused;
    if (!symbolic && __builtin_mul_overflow(a.value(), b.value(), &unused)) return std::nullopt;
    Dim result = op(a, b);
    bool large = result.is_static() ? std::abs(result.value()) > kMaxSize
                                    : result.ToString().size() > kMaxText;
    return large ? std::nullopt : std::optional(result);
  }

  // Digits of the longest integer in the text of `dim`.
  static int CountDigits(const Dim& dim) {
    int longest = 0, run = 0;
    for (char c : dim.ToString()) {
      run = std::isdigit(static_cast<unsigned char>(c)) ? run + 1 : 0;
      longest = std::max(longest, run);
    }
    return longest;
  }

  std::string_view text_;
  size_t pos_ = 0;
  int num_terms_ = 0;
};

}  // namespace

std::optional<Dim> FindSympyDim(std::string_view text) { return SympyParser(text).ParseAll(); }

}  // namespace stator
