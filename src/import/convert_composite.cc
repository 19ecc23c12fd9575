// Converters of ops that torch's decompositions make of others: what a program holds that was saved
// without run_decompositions().
#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <set>

#include "import/conversion.h"
#include "import/promote.h"
#include "ops/rules.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

ValueId Sum(Conversion& c, ValueId x, const std::vector<int>& axes, bool keepdim = false) {
  return c.Add("sum", {x}, {{"axes", ToDims(axes)}, {"keepdim", keepdim}});
}

// ---- einsum
//
// A dim has a label: a letter of the equation, or a number of its own for each dim of "...".
using Labels = std::vector<int>;
constexpr int kEllipsis = 256;

struct Term {
  ValueId value;
  Labels labels;
};

bool Has(const Labels& labels, int label) {
  return std::ranges::find(labels, label) != labels.end();
}

class Einsum {
 public:
  Einsum(Conversion& c, std::string equation) : c_(c) {
    std::erase(equation, ' ');
    size_t arrow = equation.find("->");
    std::string inputs = equation.substr(0, arrow);
    for (size_t start = 0; start <= inputs.size();) {
      size_t comma = std::min(inputs.find(',', start), inputs.size());
      texts_.push_back(inputs.substr(start, comma - start));
      start = comma + 1;
    }
    if (arrow != std::string::npos) output_ = equation.substr(arrow + 2);
  }

  ValueId Convert(const Values& tensors) {
    c_.Require(texts_.size() == tensors.size() && !tensors.empty(), "an einsum of this form");
    Values terms = tensors;
    for (size_t i = 0; i < terms.size(); ++i)
      num_ellipsis_ = std::max(num_ellipsis_, Spare(i, terms[i]));
    std::vector<Term> all;
    for (size_t i = 0; i < terms.size(); ++i) {
      all.push_back({.value = terms[i], .labels = Read(texts_[i], Spare(i, terms[i]))});
      std::set<int> unique(all.back().labels.begin(), all.back().labels.end());
      c_.Require(unique.size() == all.back().labels.size() &&
                     static_cast<int>(unique.size()) == c_.type(terms[i]).rank(),
                 "an einsum along a diagonal");
      NoteSizes(all.back());
    }
    Labels result = FindResult(all);
    Term joined = all[0];
    for (size_t i = 1; i < all.size(); ++i) {
      Labels kept = result;
      for (size_t j = i + 1; j < all.size(); ++j) {
        kept.insert(kept.end(), all[j].labels.begin(), all[j].labels.end());
      }
      joined = Join(joined, all[i], kept);
    }
    joined = SumOut(joined, result);
    return Order(joined, result);
  }

 private:
  // Dims of an operand that its "..." stands for.
  int Spare(size_t i, ValueId value) const {
    bool has = texts_[i].find("...") != std::string::npos;
    int num_letters = static_cast<int>(texts_[i].size()) - (has ? 3 : 0);
    int spare = c_.type(value).rank() - num_letters;
    c_.Require(spare >= 0 && (has || spare == 0), "an einsum of this form");
    return spare;
  }

  Labels Read(const std::string& text, int spare) const {
    Labels labels;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '.') {
        labels.push_back(static_cast<unsigned char>(text[i]));
        continue;
      }
      for (int k = num_ellipsis_ - spare; k < num_ellipsis_; ++k) labels.push_back(kEllipsis + k);
      i += 2;
    }
    return labels;
  }

  void NoteSizes(const Term& term) {
    for (size_t i = 0; i < term.labels.size(); ++i) {
      const Dim& size = c_.type(term.value).dims[i];
      auto [it, inserted] = sizes_.emplace(term.labels[i], size);
      c_.Require(inserted || it->second == size, "an einsum that broadcasts sizes");
    }
  }

  // Without an arrow: "..." first, then the letters that occur once.
  Labels FindResult(const std::vector<Term>& terms) const {
    if (output_) return Read(*output_, num_ellipsis_);
    std::map<int, int> counts;
    for (const Term& term : terms) {
      for (int label : term.labels) ++counts[label];
    }
    Labels labels;
    for (int k = 0; k < num_ellipsis_; ++k) labels.push_back(kEllipsis + k);
    for (const auto& [label, count] : counts) {
      if (label < kEllipsis && count == 1) labels.push_back(label);
    }
    return labels;
  }

  Term SumOut(const Term& term, const Labels& kept) const {
    std::vector<int> axes;
    Labels labels;
    for (size_t i = 0; i < term.labels.size(); ++i) {
      if (Has(kept, term.labels[i])) {
        labels.push_back(term.labels[i]);
      } else {
        axes.push_back(static_cast<int>(i));
      }
    }
    return axes.empty() ? term : Term{Sum(c_, term.value, axes), labels};
  }

  ValueId Order(const Term& term, const Labels& labels) const {
    c_.Require(labels.size() == term.labels.size(), "an einsum of this form");
    std::vector<int> perm;
    for (int label : labels) {
      auto it = std::ranges::find(term.labels, label);
      c_.Require(it != term.labels.end(), "an einsum of this form");
      perm.push_back(static_cast<int>(it - term.labels.begin()));
    }
    return c_.Permute(term.value, perm);
  }

  Dims SizesOf(const Labels& labels) const {
    Dims dims;
    for (int label : labels) dims.push_back(sizes_.at(label));
    return dims;
  }

  // A product over the labels of both, summed over those that nobody else needs.
  Term Join(Term a, Term b, const Labels& kept) const {
    Labels kept_by_a = kept, kept_by_b = kept;
    kept_by_a.insert(kept_by_a.end(), b.labels.begin(), b.labels.end());
    kept_by_b.insert(kept_by_b.end(), a.labels.begin(), a.labels.end());
    a = SumOut(a, kept_by_a);
    b = SumOut(b, kept_by_b);
    Labels stack, rows, inner, columns;
    for (int label : a.labels) {
      (!Has(b.labels, label) ? rows : Has(kept, label) ? stack : inner).push_back(label);
    }
    for (int label : b.labels) {
      if (!Has(a.labels, label)) columns.push_back(label);
    }
    auto concat = [](std::initializer_list<const Labels*> parts) {
      Labels all;
      for (const Labels* part : parts) all.insert(all.end(), part->begin(), part->end());
      return all;
    };
    Dim num_rows = NumElements(SizesOf(rows)), num_columns = NumElements(SizesOf(columns));
    Dim num_inner = NumElements(SizesOf(inner));
    Dims left = SizesOf(stack), right = left;
    left.insert(left.end(), {num_rows, num_inner});
    right.insert(right.end(), {num_inner, num_columns});
    ValueId lhs = c_.Reshape(Order(a, concat({&stack, &rows, &inner})), left);
    ValueId rhs = c_.Reshape(Order(b, concat({&stack, &inner, &columns})), right);
    ValueId product = c_.Add(inner.empty() ? "mul" : "matmul", {lhs, rhs});
    Labels labels = concat({&stack, &rows, &columns});
    return {.value = c_.Reshape(product, SizesOf(labels)), .labels = labels};
  }

  Conversion& c_;
  std::vector<std::string> texts_;
  std::optional<std::string> output_;
  int num_ellipsis_ = 0;
  std::map<int, Dim> sizes_;
};

Values ConvertEinsum(Conversion& c, std::string_view) {
  return {Einsum(c, c.String("equation", "")).Convert(c.Tensors("tensors"))};
}

// chain_matmul: from the left.
Values ConvertChain(Conversion& c, std::string_view) {
  Values matrices = c.Tensors("matrices");
  ValueId product = matrices.at(0);
  for (size_t i = 1; i < matrices.size(); ++i) product = c.Add("matmul", {product, matrices[i]});
  return {product};
}

// kron: every element of self times other.
Values ConvertKron(Conversion& c, std::string_view) {
  DType dtype = c.output_type().dtype;
  ValueId a = c.Cast(c.Tensor("self"), dtype), b = c.Cast(c.Tensor("other"), dtype);
  size_t rank = std::max(c.type(a).dims.size(), c.type(b).dims.size());
  Dims a_dims = c.type(a).dims, b_dims = c.type(b).dims, a_split, b_split;
  a_dims.insert(a_dims.begin(), rank - a_dims.size(), Dim(1));
  b_dims.insert(b_dims.begin(), rank - b_dims.size(), Dim(1));
  for (size_t i = 0; i < rank; ++i) {
    a_split.insert(a_split.end(), {a_dims[i], Dim(1)});
    b_split.insert(b_split.end(), {Dim(1), b_dims[i]});
  }
  ValueId product = c.Add("mul", {c.Reshape(a, a_split), c.Reshape(b, b_split)});
  return {c.Reshape(product, c.output_type().dims)};
}

// y[.., k] = sum over i and j of x1[.., i] w[k, i, j] x2[.., j]. The caller computes wide: the sums
// over i are rounded nowhere.
ValueId Bilinear(Conversion& c, ValueId x1, ValueId w, ValueId x2) {
  const Dims dims = c.type(w).dims;
  Dims outer(c.type(x1).dims.begin(), c.type(x1).dims.end() - 1);
  Dim num = NumElements(outer);
  ValueId rows = c.Reshape(c.Permute(w, {1, 0, 2}), {dims[1], dims[0] * dims[2]});
  ValueId part = c.Add("matmul", {c.Reshape(x1, {num, dims[1]}), rows});
  part = c.Reshape(part, {num, dims[0], dims[2]});
  ValueId y = Sum(c, c.Add("mul", {part, c.Reshape(x2, {num, Dim(1), dims[2]})}), {2});
  outer.push_back(dims[0]);
  return c.Reshape(y, outer);
}

Values ConvertBilinear(Conversion& c, std::string_view) {
  c.ComputeWide();
  ValueId y = Bilinear(c, c.Tensor("input1"), c.Tensor("weight"), c.Tensor("input2"));
  ValueId bias = c.FindTensor("bias");
  return {bias.valid() ? c.Add("add", {y, bias}) : y};
}

// _trilinear in the form that bilinear decomposes into.
Values ConvertTrilinear(Conversion& c, std::string_view) {
  using Axes = std::vector<int64_t>;
  bool fits = c.Ints("expand1") == Axes{1, 3} && c.Ints("expand2") == Axes{0} &&
              c.Ints("expand3") == Axes{1, 2} && c.Ints("sumdim") == Axes{2, 3};
  c.Require(fits, "a product of three tensors other than a bilinear layer's");
  c.ComputeWide();
  return {Bilinear(c, c.Tensor("i1"), c.Tensor("i2"), c.Tensor("i3"))};
}

// msort: the values sorted along dim 0.
Values ConvertMsort(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  if (c.type(self).rank() == 0) return {self};
  return {c.Add("sort", {self}, {{"dim", Dim(0)}, {"descending", false}})};
}

// ---- joins and views
// hstack, vstack, dstack: cat along dim 1 (0 for vectors), 0 and 2 of tensors with that many dims.
Values ConvertStackDims(Conversion& c, std::string_view op) {
  int min_rank = op == "h" ? 1 : op == "v" ? 2 : 3;
  Values parts;
  for (ValueId part : c.Tensors("tensors")) {
    part = c.Cast(part, c.output_type().dtype);
    int rank = c.type(part).rank();
    if (rank == 0) part = c.Unsqueeze(part, 0);
    if (rank <= 1 && min_rank >= 2) part = c.Unsqueeze(part, 0);
    if (rank <= 2 && min_rank == 3) part = c.Unsqueeze(part, c.type(part).rank());
    parts.push_back(part);
  }
  int dim = op == "v" ? 0 : op == "d" ? 2 : c.type(parts.at(0)).rank() == 1 ? 0 : 1;
  return {parts.size() == 1 ? parts[0] : c.Add("concat", std::move(parts), {{"dim", Dim(dim)}})};
}

// take_along_dim: gather, whose other dims broadcast; without a dim, of the flattened tensors.
Values ConvertTakeAlong(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self"), index = c.Tensor("indices");
  c.Require(c.type(index).dtype == DType::kInt64 || c.type(index).dtype == DType::kInt32,
            "an index of another dtype");
  if (!c.Has("dim")) {
    self = c.Reshape(self, {c.type(self).num_elements()});
    index = c.Reshape(index, {c.type(index).num_elements()});
  }
  int rank = c.type(self).rank(), dim = c.Has("dim") ? c.DimIndex("dim", rank) : 0;
  c.Require(rank == c.type(index).rank(), "indices of another rank");
  Dims self_dims = c.type(self).dims, index_dims = c.type(index).dims;
  for (int i = 0; i < rank; ++i) {
    if (i == dim) continue;
    Dim size = self_dims[i] == Dim(1) ? index_dims[i] : self_dims[i];
    self_dims[i] = index_dims[i] = size;
  }
  index = c.Expand(index, index_dims);
  return {c.Add("gather", {c.Expand(self, self_dims), index}, {{"dim", Dim(dim)}})};
}

Values ConvertRot90(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank();
  std::vector<int64_t> dims = c.Has("dims") ? c.Ints("dims") : std::vector<int64_t>{0, 1};
  c.Require(dims.size() == 2, "rot90 in other than two dims");
  int first = WrapDim(dims[0], rank), second = WrapDim(dims[1], rank);
  auto flip = [&](ValueId x, std::vector<int> axes) {
    return c.Add("flip", {x}, {{"axes", ToDims(axes)}});
  };
  switch ((c.Int("k", 1) % 4 + 4) % 4) {
    case 1: return {c.Transpose(flip(self, {second}), first, second)};
    case 2: return {flip(self, {first, second})};
    case 3: return {c.Transpose(flip(self, {first}), first, second)};
    default: return {self};
  }
}

// Zeros but for `x` on a diagonal of two new last dims.
ValueId EmbedDiagonal(Conversion& c, ValueId x, int64_t offset) {
  const Dims dims = c.type(x).dims;
  Dim size = dims.back() + Dim(std::abs(offset));
  auto range = [&](double start) {
    return c.Add("arange", {},
                 {{"dtype", DType::kInt64}, {"start", start}, {"step", 1.0}, {"size", size}});
  };
  ValueId rows = c.Reshape(range(static_cast<double>(offset)), {size, Dim(1)});
  ValueId on = c.Add("eq", {rows, range(0)});
  // Column j (offset < 0) or row i holds x[i].
  Dims padded = dims;
  padded.back() = size;
  ValueId whole = x;
  if (offset != 0) {
    Dims pads(2 * dims.size(), Dim(0));
    pads.back() = Dim(std::abs(offset));
    whole = c.Add("pad", {x}, {{"pads", pads}, {"mode", "constant"}, {"value", 0.0}});
  }
  whole = c.Unsqueeze(whole, static_cast<int>(dims.size()) - (offset < 0 ? 1 : 0));
  return c.Add("where", {on, whole, c.Literal(c.type(x).dtype, 0)});
}

Values ConvertDiagEmbed(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int rank = c.type(self).rank() + 1;
  int dim1 = c.DimIndex("dim1", rank, -2), dim2 = c.DimIndex("dim2", rank, -1);
  ValueId y = EmbedDiagonal(c, self, c.Int("offset", 0));
  std::vector<int> perm(rank, -1);
  perm.at(dim1) = rank - 2;
  perm.at(dim2) = rank - 1;
  int next = 0;
  for (int& from : perm) {
    if (from < 0) from = next++;
  }
  return {c.Permute(y, perm)};
}

Values ConvertDiag(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  c.Require(c.type(self).rank() == 1, "diag of a matrix");
  return {EmbedDiagonal(c, self, c.Int("diagonal", 0))};
}

// one_hot: ones written at the classes, one out of range being an error.
Values ConvertOneHot(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  int64_t num_classes = c.Int("num_classes", -1);
  c.Require(num_classes > 0, "one_hot of as many classes as only the data tells");
  Dims dims = c.type(self).dims, column = dims;
  dims.push_back(Dim(num_classes));
  column.push_back(Dim(1));
  Scalar one{.kind = Scalar::Kind::kInt, .number = 0, .size = Dim(1)};
  Scalar zero{.kind = Scalar::Kind::kInt, .number = 0, .size = Dim(0)};
  return {c.Add("scatter",
                {c.Full(dims, DType::kInt64, zero), c.Reshape(self, column),
                 c.Full(column, DType::kInt64, one)},
                {{"dim", Dim(static_cast<int64_t>(dims.size()) - 1)}})};
}

// ---- windows as columns
struct Window {
  std::vector<int64_t> kernel, dilation, padding, stride;
  explicit Window(const Conversion& c)
      : kernel(c.Ints("kernel_size")),
        dilation(c.Ints("dilation")),
        padding(c.Ints("padding")),
        stride(c.Ints("stride")) {
    for (auto* each : {&kernel, &dilation, &padding, &stride}) {
      c.Require(each->size() == 2, "windows of other than two dims");
    }
    constexpr int64_t kMaxWindow = 256;
    c.Require(kernel[0] * kernel[1] <= kMaxWindow, "a large window");
  }
};

// im2col: a strided slice of the padded image for each element of the window.
Values ConvertUnfold(Conversion& c, std::string_view) {
  ValueId self = c.Tensor("self");
  Window window(c);
  bool is_stack = c.type(self).rank() == 4;
  if (!is_stack) self = c.Unsqueeze(self, 0);
  const Dims out = c.output_type().dims;
  Dims pads(8, Dim(0));
  for (int i = 0; i < 4; ++i) pads[4 + i] = Dim(window.padding[i / 2]);
  ValueId x = c.Add("pad", {self}, {{"pads", pads}, {"mode", "constant"}, {"value", 0.0}});
  const Dims dims = c.type(x).dims;
  Values parts;
  for (int64_t i = 0; i < window.kernel[0]; ++i) {
    for (int64_t j = 0; j < window.kernel[1]; ++j) {
      ValueId part = x;
      const int64_t at[] = {i, j};
      for (int d = 0; d < 2; ++d) {
        int64_t start = at[d] * window.dilation[d];
        Dim span = dims[2 + d] - Dim(window.dilation[d] * (window.kernel[d] - 1));
        part = c.Slice(part, 2 + d, start, Dim(start) + span, window.stride[d]);
      }
      parts.push_back(c.Unsqueeze(part, 2));
    }
  }
  ValueId y = parts.size() == 1 ? parts[0] : c.Add("concat", std::move(parts), {{"dim", Dim(2)}});
  return {c.Reshape(y, out)};
}

// ---- arithmetic
// a / b where b is a number of the tensor's dtype.
ValueId Scaled(Conversion& c, ValueId x, double factor) {
  return c.Add("mul", {x, c.Literal(c.type(x).dtype, factor)});
}

Values ConvertDegrees(Conversion& c, std::string_view op) {
  double factor = op == "rad" ? std::numbers::pi / 180 : 180 / std::numbers::pi;
  c.ComputeWide();
  ValueId x = c.Tensor("self");
  if (!c.is_wide()) x = c.Cast(x, c.output_type().dtype);
  return {Scaled(c, x, factor)};
}

// |a - b| <= atol + rtol |b|, or equal; infinities are close to themselves alone.
Values ConvertIsClose(Conversion& c, std::string_view) {
  ValueId a = c.Tensor("self"), b = c.Tensor("other");
  DType dtype = c.type(a).dtype;
  c.Require(dtype == c.type(b).dtype && (dtype == DType::kFloat32 || dtype == DType::kFloat64),
            "isclose of other than two tensors of float32 or float64");
  ValueId allowed = c.Add("add", {Scaled(c, c.Add("abs", {b}), c.Float("rtol", 1e-5)),
                                  c.Literal(dtype, c.Float("atol", 1e-8))});
  ValueId actual = c.Add("abs", {c.Add("sub", {a, b})});
  ValueId finite = c.Add("lt", {actual, c.Literal(dtype, INFINITY)});
  ValueId near = c.Add("logical_and", {finite, c.Add("le", {actual, allowed})});
  ValueId close = c.Add("logical_or", {c.Add("eq", {a, b}), near});
  if (!c.Bool("equal_nan", false)) return {close};
  ValueId nans = c.Add("logical_and", {c.Add("isnan", {a}), c.Add("isnan", {b})});
  return {c.Add("logical_or", {close, nans})};
}

// Both operands' unit vectors along a dim, multiplied and summed; lengths below eps count as eps.
Values ConvertCosine(Conversion& c, std::string_view) {
  const Dims dims = c.output_type().dims;
  DType dtype = c.output_type().dtype;
  ValueId a = c.Cast(c.Tensor("x1"), dtype), b = c.Cast(c.Tensor("x2"), dtype);
  int rank = std::max(c.type(a).rank(), c.type(b).rank());
  int dim = c.DimIndex("dim", rank, 1);
  ValueId eps = c.Literal(dtype, c.Float("eps", 1e-8));
  Dims full = BroadcastDims(c.type(a).dims, c.type(b).dims);
  auto unit = [&](ValueId x) {
    x = c.Expand(x, full);
    ValueId length = c.Add("sqrt", {Sum(c, c.Add("square", {x}), {dim}, true)});
    return c.Add("div", {x, c.Add("maximum", {length, eps})});
  };
  return {c.Reshape(Sum(c, c.Add("mul", {unit(a), unit(b)}), {dim}), dims)};
}

constexpr Converter kRows[] = {
    {"aten.einsum.default", ConvertEinsum},
    {"aten.chain_matmul.default", ConvertChain},
    {"aten.kron.default", ConvertKron},
    {"aten.bilinear.default", ConvertBilinear},
    {"aten._trilinear.default", ConvertTrilinear},
    {"aten.msort.default", ConvertMsort},
    {"aten.hstack.default", ConvertStackDims, "h"},
    {"aten.vstack.default", ConvertStackDims, "v"},
    {"aten.row_stack.default", ConvertStackDims, "v"},
    {"aten.dstack.default", ConvertStackDims, "d"},
    {"aten.take_along_dim.default", ConvertTakeAlong},
    {"aten.rot90.default", ConvertRot90},
    {"aten.diag_embed.default", ConvertDiagEmbed},
    {"aten.diag.default", ConvertDiag, "", Alias::kUnknown},
    {"aten.one_hot.default", ConvertOneHot},
    {"aten.im2col.default", ConvertUnfold},
    {"aten.deg2rad.default", ConvertDegrees, "rad"},
    {"aten.rad2deg.default", ConvertDegrees, "deg"},
    {"aten.isclose.default", ConvertIsClose},
    {"aten.cosine_similarity.default", ConvertCosine},
};

}  // namespace

std::span<const Converter> CompositeConverters() { return kRows; }

}  // namespace stator
