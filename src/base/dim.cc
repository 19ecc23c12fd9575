#include "base/dim.h"

#include <algorithm>
#include <cctype>
#include <tuple>

#include "base/error.h"

namespace stator {

enum AtomKind { kSymbol, kFloorDiv, kMod, kMin, kMax };

// Sizes may come from hostile files: overflow is an error, never undefined. The smallest integer
// counts as overflow too, so that every result can be negated.
static int64_t Add(int64_t lhs, int64_t rhs) {
  if (__builtin_add_overflow(lhs, rhs, &lhs) || lhs == INT64_MIN) {
    Fail(ErrorKind::kInvalidArgument, "a size is beyond 2^63");
  }
  return lhs;
}

static int64_t Mul(int64_t lhs, int64_t rhs) {
  if (__builtin_mul_overflow(lhs, rhs, &lhs) || lhs == INT64_MIN) {
    Fail(ErrorKind::kInvalidArgument, "a size is beyond 2^63");
  }
  return lhs;
}

// An indivisible factor. Ordered and compared by its canonical text.
struct Dim::Atom {
  int kind;
  std::string text;  // the symbol's name, or "floordiv(a, b)"
  Dim lhs, rhs;
};

using AtomRef = std::shared_ptr<const Dim::Atom>;
// A product of atoms, sorted by text; its key is the texts.
using Monomial = std::vector<AtomRef>;

static std::string MonomialText(const Monomial& monomial) {
  std::string text;
  for (const AtomRef& atom : monomial) text += (text.empty() ? "" : "*") + atom->text;
  return text;
}

struct Dim::Polynomial {
  int64_t constant = 0;
  std::map<std::string, std::pair<int64_t, Monomial>> terms;  // by MonomialText

  void Add(const Monomial& monomial, int64_t coefficient) {
    if (monomial.empty()) {
      constant = stator::Add(constant, coefficient);
      return;
    }
    std::string key = MonomialText(monomial);
    auto [it, inserted] = terms.try_emplace(key, coefficient, monomial);
    if (!inserted) it->second.first = stator::Add(it->second.first, coefficient);
    if (it->second.first == 0) terms.erase(it);
  }
};

namespace {

constexpr size_t kMaxTerms = 256;

int64_t FloorDivInt(int64_t lhs, int64_t rhs) {
  if (rhs == 0) Fail(ErrorKind::kInvalidArgument, "a size is divided by zero");
  int64_t quotient = lhs / rhs;
  return quotient - ((lhs % rhs != 0) && ((lhs < 0) != (rhs < 0)));
}

int64_t EvalAtom(int kind, int64_t lhs, int64_t rhs) {
  switch (kind) {
    case kFloorDiv: return FloorDivInt(lhs, rhs);
    case kMod: return lhs - rhs * FloorDivInt(lhs, rhs);
    case kMin: return std::min(lhs, rhs);
    default: return std::max(lhs, rhs);
  }
}

constexpr std::string_view kAtomNames[] = {"", "floordiv", "mod", "min", "max"};

Monomial Product(Monomial lhs, const Monomial& rhs) {
  lhs.insert(lhs.end(), rhs.begin(), rhs.end());
  std::sort(lhs.begin(), lhs.end(),
            [](const AtomRef& x, const AtomRef& y) { return x->text < y->text; });
  return lhs;
}

// Empty when `factors` are not all in the product.
std::optional<Monomial> Quotient(Monomial product, const Monomial& factors) {
  for (const AtomRef& factor : factors) {
    auto it = std::find_if(product.begin(), product.end(),
                           [&](const AtomRef& atom) { return atom->text == factor->text; });
    if (it == product.end()) return std::nullopt;
    product.erase(it);
  }
  return product;
}

// The quotient by a divisor of several terms, when long division leaves nothing.
std::optional<Dim::Polynomial> DivideExactly(Dim::Polynomial rest, const Dim::Polynomial& divisor) {
  constexpr int kMaxSteps = 16;
  auto find_lead = [](const Dim::Polynomial& polynomial) {
    return std::max_element(polynomial.terms.begin(), polynomial.terms.end(),
                            [](const auto& x, const auto& y) {
                              size_t a = x.second.second.size(), b = y.second.second.size();
                              return std::tie(a, x.first) < std::tie(b, y.first);
                            })
        ->second;
  };
  auto [by_coefficient, by_monomial] = find_lead(divisor);
  Dim::Polynomial quotient;
  for (int step = 0; !rest.terms.empty(); ++step) {
    auto [coefficient, product] = find_lead(rest);
    std::optional<Monomial> monomial = Quotient(std::move(product), by_monomial);
    if (step == kMaxSteps || !monomial || coefficient % by_coefficient != 0) return std::nullopt;
    coefficient /= by_coefficient;
    quotient.Add(*monomial, coefficient);
    for (const auto& [key, term] : divisor.terms) {
      rest.Add(Product(*monomial, term.second), -Mul(coefficient, term.first));
    }
    rest.Add(*monomial, -Mul(coefficient, divisor.constant));
  }
  return rest.constant == 0 ? std::optional(quotient) : std::nullopt;
}

// floordiv(floordiv(a, m) + c, n) is floordiv(a + m*c, m*n) for m, n > 0.
std::optional<Dim> FlattenFloorDiv(const Dim::Polynomial& lhs, const Dim& rhs) {
  if (lhs.terms.size() != 1 || !rhs.is_static() || rhs.value() <= 0) return std::nullopt;
  const auto& [coefficient, monomial] = lhs.terms.begin()->second;
  if (coefficient != 1 || monomial.size() != 1 || monomial[0]->kind != kFloorDiv) {
    return std::nullopt;
  }
  const Dim& divisor = monomial[0]->rhs;
  if (!divisor.is_static() || divisor.value() <= 0) return std::nullopt;
  return FloorDiv(monomial[0]->lhs + divisor * Dim(lhs.constant), divisor * rhs);
}

}  // namespace

Dim::Polynomial Dim::AsPolynomial() const {
  if (polynomial_) return *polynomial_;
  Polynomial polynomial;
  polynomial.constant = constant_;
  return polynomial;
}

Dim Dim::FromPolynomial(Polynomial polynomial) {
  if (polynomial.terms.empty()) return Dim(polynomial.constant);
  if (polynomial.terms.size() > kMaxTerms) {  // a short product of sums may have very many
    Fail(ErrorKind::kInvalidArgument, "a size of more than {} terms", kMaxTerms);
  }
  Dim dim;
  dim.polynomial_ = std::make_shared<const Polynomial>(std::move(polynomial));
  return dim;
}

Dim MakeAtom(int kind, std::string name, const Dim& lhs, const Dim& rhs) {
  if (kind == kFloorDiv) {
    Dim::Polynomial numerator = lhs.AsPolynomial(), denominator = rhs.AsPolynomial();
    if (std::optional<Dim> flat = FlattenFloorDiv(numerator, rhs)) return *flat;
    if (!denominator.terms.empty()) {
      if (auto quotient = DivideExactly(std::move(numerator), denominator)) {
        return Dim::FromPolynomial(std::move(*quotient));
      }
    }
  }
  auto atom = std::make_shared<Dim::Atom>(Dim::Atom{kind, std::move(name), lhs, rhs});
  Dim::Polynomial polynomial;
  polynomial.Add({atom}, 1);
  return Dim::FromPolynomial(std::move(polynomial));
}

Dim Dim::Symbol(std::string_view name) { return MakeAtom(kSymbol, std::string(name), 0, 0); }

int64_t Dim::value() const {
  STATOR_CHECK(is_static(), "size {} is symbolic where an integer is needed", ToString());
  return constant_;
}

int64_t Dim::Eval(const SymbolValues& symbols) const {
  if (is_static()) return constant_;
  int64_t sum = polynomial_->constant;
  for (const auto& [key, term] : polynomial_->terms) {
    int64_t product = term.first;
    for (const AtomRef& atom : term.second) {
      if (atom->kind == kSymbol) {
        auto it = symbols.find(atom->text);
        if (it == symbols.end())
          Fail(ErrorKind::kInvalidArgument, "symbolic size `{}` has no value", atom->text);
        product = Mul(product, it->second);
      } else {
        int64_t value = EvalAtom(atom->kind, atom->lhs.Eval(symbols), atom->rhs.Eval(symbols));
        product = Mul(product, value);
      }
    }
    sum = stator::Add(sum, product);
  }
  return sum;
}

void Dim::CollectSymbols(std::set<std::string>& symbols) const {
  if (is_static()) return;
  for (const auto& [key, term] : polynomial_->terms) {
    for (const AtomRef& atom : term.second) {
      if (atom->kind == kSymbol) symbols.insert(atom->text);
      atom->lhs.CollectSymbols(symbols);
      atom->rhs.CollectSymbols(symbols);
    }
  }
}

std::string Dim::ToString() const {
  if (is_static()) return std::to_string(constant_);
  std::string text;
  auto append = [&text](int64_t coefficient, const std::string& product) {
    if (!text.empty()) {
      text += coefficient < 0 ? " - " : " + ";
      coefficient = std::abs(coefficient);
    }
    if (product.empty()) {
      text += std::to_string(coefficient);
    } else if (coefficient == 1) {
      text += product;
    } else {
      text += std::to_string(coefficient) + "*" + product;
    }
  };
  for (const auto& [key, term] : polynomial_->terms) append(term.first, key);
  if (polynomial_->constant != 0) append(polynomial_->constant, "");
  return text;
}

Dim operator+(const Dim& lhs, const Dim& rhs) {
  if (lhs.is_static() && rhs.is_static()) return Dim(Add(lhs.constant_, rhs.constant_));
  Dim::Polynomial sum = lhs.AsPolynomial();
  Dim::Polynomial other = rhs.AsPolynomial();
  sum.constant = Add(sum.constant, other.constant);
  for (const auto& [key, term] : other.terms) sum.Add(term.second, term.first);
  return Dim::FromPolynomial(std::move(sum));
}

Dim operator*(const Dim& lhs, const Dim& rhs) {
  if (lhs.is_static() && rhs.is_static()) return Dim(Mul(lhs.constant_, rhs.constant_));
  Dim::Polynomial a = lhs.AsPolynomial(), b = rhs.AsPolynomial(), product;
  a.terms[""] = {a.constant, {}};
  b.terms[""] = {b.constant, {}};
  for (const auto& [key_a, term_a] : a.terms) {
    for (const auto& [key_b, term_b] : b.terms) {
      if (term_a.first == 0 || term_b.first == 0) continue;
      product.Add(Product(term_a.second, term_b.second), Mul(term_a.first, term_b.first));
    }
  }
  return Dim::FromPolynomial(std::move(product));
}

Dim operator-(const Dim& lhs, const Dim& rhs) { return lhs + Dim(-1) * rhs; }

bool operator==(const Dim& lhs, const Dim& rhs) {
  if (lhs.is_static() != rhs.is_static()) return false;
  if (lhs.is_static()) return lhs.constant_ == rhs.constant_;
  return lhs.polynomial_ == rhs.polynomial_ || lhs.ToString() == rhs.ToString();
}

// p / (c*m) for a single-term divisor: every term of p must hold the factors of m, and a
// coefficient that c divides.
std::optional<Dim> Dim::FindExactQuotient(const Dim& divisor) const {
  Polynomial numerator = AsPolynomial(), denominator = divisor.AsPolynomial(), quotient;
  if (is_static() || denominator.terms.size() + (denominator.constant != 0) != 1) {
    return std::nullopt;
  }
  int64_t coefficient = denominator.constant;
  Monomial factors;
  if (!denominator.terms.empty()) {
    std::tie(coefficient, factors) = denominator.terms.begin()->second;
    if (numerator.constant != 0) return std::nullopt;
  }
  if (numerator.constant % coefficient != 0) return std::nullopt;
  quotient.constant = numerator.constant / coefficient;
  for (auto& [key, term] : numerator.terms) {
    auto [term_coefficient, monomial] = term;
    if (term_coefficient % coefficient != 0) return std::nullopt;
    std::optional<Monomial> rest = Quotient(monomial, factors);
    if (!rest) return std::nullopt;
    quotient.Add(*rest, term_coefficient / coefficient);
  }
  return FromPolynomial(std::move(quotient));
}

static Dim MakeBinary(int kind, const Dim& lhs, const Dim& rhs) {
  if (lhs.is_static() && rhs.is_static()) return EvalAtom(kind, lhs.value(), rhs.value());
  return MakeAtom(kind, fmt::format("{}({}, {})", kAtomNames[kind], lhs.ToString(), rhs.ToString()),
                  lhs, rhs);
}

Dim FloorDiv(const Dim& lhs, const Dim& rhs) {
  if (rhs == Dim(1)) return lhs;
  if (lhs == rhs) return 1;
  if (std::optional<Dim> quotient = lhs.FindExactQuotient(rhs)) return *quotient;
  return MakeBinary(kFloorDiv, lhs, rhs);
}

Dim Mod(const Dim& lhs, const Dim& rhs) {
  if (rhs == Dim(1) || lhs == rhs || lhs.FindExactQuotient(rhs)) return 0;
  return MakeBinary(kMod, lhs, rhs);
}

Dim Min(const Dim& lhs, const Dim& rhs) { return lhs == rhs ? lhs : MakeBinary(kMin, lhs, rhs); }
Dim Max(const Dim& lhs, const Dim& rhs) { return lhs == rhs ? lhs : MakeBinary(kMax, lhs, rhs); }

namespace {

// Recursive descent over: sum := ['-'] product {('+'|'-') product}; product := factor {'*' factor};
// factor := integer | symbol | name '(' sum ',' sum ')' | '(' sum ')'.
class DimParser {
 public:
  explicit DimParser(std::string_view text) : text_(text) {}

  std::optional<Dim> ParseAll() {
    std::optional<Dim> dim = Sum(0);
    SkipSpace();
    return pos_ == text_.size() ? dim : std::nullopt;
  }

 private:
  static constexpr int kMaxDepth = 64;

  void SkipSpace() {
    while (pos_ < text_.size() && text_[pos_] == ' ') ++pos_;
  }
  bool Take(char c) {
    SkipSpace();
    if (pos_ >= text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }

  std::optional<Dim> Sum(int depth) {
    if (depth > kMaxDepth) return std::nullopt;
    bool negative = Take('-');
    std::optional<Dim> sum = Product(depth);
    if (!sum) return sum;
    if (negative) sum = Dim(0) - *sum;
    while (true) {
      bool plus = Take('+');
      if (!plus && !Take('-')) return sum;
      std::optional<Dim> next = Product(depth);
      if (!next) return next;
      sum = plus ? *sum + *next : *sum - *next;
    }
  }

  std::optional<Dim> Product(int depth) {
    std::optional<Dim> product = Factor(depth);
    while (product && Take('*')) {
      std::optional<Dim> next = Factor(depth);
      if (!next) return next;
      product = *product * *next;
    }
    return product;
  }

  std::optional<Dim> Factor(int depth) {
    if (Take('(')) {
      std::optional<Dim> inner = Sum(depth + 1);
      return Take(')') ? inner : std::nullopt;
    }
    size_t start = pos_;
    while (pos_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[pos_])) || text_[pos_] == '_'))
      ++pos_;
    std::string_view word = text_.substr(start, pos_ - start);
    if (word.empty() || word.size() > 64) return std::nullopt;
    if (std::isdigit(static_cast<unsigned char>(word[0]))) return Integer(word);
    if (!Take('(')) return Dim::Symbol(word);
    std::optional<Dim> lhs = Sum(depth + 1);
    if (!lhs || !Take(',')) return std::nullopt;
    std::optional<Dim> rhs = Sum(depth + 1);
    if (!rhs || !Take(')')) return std::nullopt;
    if (word == "min") return Min(*lhs, *rhs);
    if (word == "max") return Max(*lhs, *rhs);
    if (*rhs == Dim(0)) return std::nullopt;
    if (word == "floordiv") return FloorDiv(*lhs, *rhs);
    if (word == "mod") return Mod(*lhs, *rhs);
    return std::nullopt;
  }

  static std::optional<Dim> Integer(std::string_view word) {
    int64_t value = 0;
    for (char c : word) {
      if (!std::isdigit(static_cast<unsigned char>(c))) return std::nullopt;
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, c - '0', &value))
        return std::nullopt;
    }
    return Dim(value);
  }

  std::string_view text_;
  size_t pos_ = 0;
};

}  // namespace

std::optional<Dim> Dim::Find(std::string_view text) { return DimParser(text).ParseAll(); }

std::string DimsToString(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + dims[i].ToString();
  return text + "]";
}

Dim NumElements(const Dims& dims) {
  Dim product = 1;
  for (const Dim& dim : dims) product = product * dim;
  return product;
}

bool IsStatic(const Dims& dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Dim& dim) { return dim.is_static(); });
}

std::vector<int64_t> EvalDims(const Dims& dims, const SymbolValues& symbols) {
  std::vector<int64_t> values;
  values.reserve(dims.size());
  for (const Dim& dim : dims) values.push_back(dim.Eval(symbols));
  return values;
}

Dims ContiguousStrides(const Dims& dims) {
  Dims strides(dims.size());
  Dim stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride = stride * dims[i];
  }
  return strides;
}

}  // namespace stator
