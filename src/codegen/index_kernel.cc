// Kernels that move or make elements: gathers, padding, flips, triangles, ranges. A thread per
// element of the output, or per vector where whole rows are moved.
//
// An index out of range is clamped into it: a kernel cannot raise, and must not read elsewhere.
#include <algorithm>
#include <functional>

#include "base/error.h"
#include "codegen/families.h"
#include "codegen/window_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kBlock = 128;

class IndexWriter {
 public:
  IndexWriter(const CudaSite& site, int vec)
      : site_(site),
        body_(*FindOneNode(site)),
        text_(site, Types(site)),
        rank_(site.outputs[0].dims.size()),
        vec_(vec),
        output_(text_, body_, Names(), vec, true),
        op_(body_.anchor->op->name),
        attrs_(body_.anchor->attrs),
        position_(PositionType(site)) {}

  CudaKernel Write() {
    output_.WritePosition(kBlock);
    output_.WriteResults(WriteElement());
    return text_.Finish(op_, {output_.FindGrid(kBlock)}, kBlock);
  }

 private:
  // Elements that are moved are unsigned integers; indices keep their type.
  static std::vector<std::string> Types(const CudaSite& site) {
    std::vector<std::string> types;
    DType moved = site.outputs[0].dtype;
    for (size_t i = 0; i < site.inputs.size(); ++i) {
      bool is_index = i > 0;
      types.push_back(is_index ? ElementType(site.inputs[i].dtype) : MovedType(moved));
    }
    types.push_back(MovedType(moved));
    return types;
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (size_t d = 0; d < rank_; ++d) names.push_back(fmt::format("o{}", d));
    return names;
  }

  // Writes what is needed and returns the output's element.
  std::string WriteElement() {
    if (op_ == "embedding") return WriteEmbedding();
    if (op_ == "gather" || op_ == "index_select") return WriteGather();
    if (op_ == "index") return WriteIndex();
    if (op_ == "pad") return WritePad();
    if (op_ == "flip") return WriteFlip();
    if (op_ == "roll") return WriteRoll();
    if (op_ == "tril" || op_ == "triu") return WriteTriangle();
    if (op_ == "full") return Moved(NumberText(dtype(), attrs_.GetFloat("value")));
    return WriteArange();
  }

  DType dtype() const { return site_.outputs[0].dtype; }
  const KernelOperand& input(size_t i) const { return site_.inputs[body_.operands[i]]; }
  std::string at(size_t i) const { return text_.input_at(body_.operands[i]); }

  // The bits of a number of the output's dtype.
  std::string Moved(const std::string& number) const {
    return fmt::format("BitsOf<{}>(CastTo<{}>({}({})))", MovedType(dtype()), ElementType(dtype()),
                       ComputeType(dtype()), number);
  }

  // Declares `name`: the index read at these terms, in [0, size).
  void WriteIndexRead(std::string_view name, size_t i, const std::vector<KernelText::Term>& terms,
                      const Dim& size, bool from_end = false) {
    std::string count = text_.Size(size);
    std::string raw = fmt::format("i64({}[{}])", at(i), text_.Offset(terms));
    if (from_end) {
      text_.Line("const i64 {}_given = {};", name, raw);
      raw = fmt::format("({0}_given < 0 ? {0}_given + {1} : {0}_given)", name, count);
    }
    text_.Line("const Index {} = Index(max(0, min({} - 1, {})));", name, count, raw);
  }

  std::string WriteEmbedding() {
    std::vector<KernelText::Term> terms;
    for (size_t d = 0; d + 1 < rank_; ++d)
      terms.push_back({fmt::format("o{}", d), input(1).strides[d]});
    WriteIndexRead("row", 1, terms, input(0).dims[0]);
    std::string offset = text_.Offset(
        {{"row", input(0).strides[0]}, {fmt::format("o{}", rank_ - 1), input(0).strides[1]}});
    if (vec_ == 1) return fmt::format("{}[{}]", at(0), offset);
    text_.Line("const auto x_vec = Load<{}>({});", vec_, KernelText::At(at(0), offset));
    return "x_vec[j]";
  }

  std::string WriteGather() {
    size_t dim = attrs_.GetInt("dim");
    std::vector<KernelText::Term> terms;
    if (op_ == "index_select") {
      terms.push_back({fmt::format("o{}", dim), input(1).strides[0]});
    } else {
      for (size_t d = 0; d < rank_; ++d)
        terms.push_back({fmt::format("o{}", d), input(1).strides[d]});
    }
    WriteIndexRead("position", 1, terms, input(0).dims[dim]);
    std::vector<KernelText::Term> from;
    for (size_t d = 0; d < rank_; ++d) {
      from.push_back({d == dim ? "position" : fmt::format("o{}", d), input(0).strides[d]});
    }
    return fmt::format("{}[{}]", at(0), text_.Offset(from));
  }

  // Advanced indexing (ops/index.cc): the indices' dims stand where the indexed dims are, or in
  // front when a dim in between is not indexed.
  std::string WriteIndex() {
    size_t rank = input(0).dims.size();
    std::vector<size_t> indexed, kept;
    for (size_t d = 0; d < rank; ++d) {
      bool given = d + 1 < body_.operands.size() && body_.operands[d + 1] >= 0;
      (given ? indexed : kept).push_back(d);
    }
    size_t num_index_dims = rank_ - kept.size(), num_before = 0;
    if (!indexed.empty() && indexed.back() - indexed.front() + 1 == indexed.size()) {
      num_before = indexed.front();
    }
    std::vector<KernelText::Term> from;
    for (size_t i = 0; i < kept.size(); ++i) {
      size_t d = i < num_before ? i : i + num_index_dims;
      from.push_back({fmt::format("o{}", d), input(0).strides[kept[i]]});
    }
    for (size_t d : indexed) {
      const KernelOperand& index = input(d + 1);
      Dims index_domain(site_.outputs[0].dims.begin() + num_before,
                        site_.outputs[0].dims.begin() + num_before + num_index_dims);
      Dims strides = BroadcastStrides(index, index_domain);
      std::vector<KernelText::Term> terms;
      for (size_t i = 0; i < num_index_dims; ++i) {
        terms.push_back({fmt::format("o{}", num_before + i), strides[i]});
      }
      std::string name = fmt::format("position{}", d);
      WriteIndexRead(name, d + 1, terms, input(0).dims[d], true);
      from.push_back({name, input(0).strides[d]});
    }
    return fmt::format("{}[{}]", at(0), text_.Offset(from));
  }

  std::string WritePad() {
    const Dims& pads = attrs_.GetDims("pads");
    const std::string& mode = attrs_.GetString("mode");
    std::vector<KernelText::Term> from;
    std::string inside;
    for (size_t d = 0; d < rank_; ++d) {
      std::string size = text_.Size(input(0).dims[d]), begin = text_.Size(pads[2 * d]);
      if (pads[2 * d] == Dim(0) && pads[2 * d + 1] == Dim(0)) {
        from.push_back({fmt::format("o{}", d), input(0).strides[d]});
        continue;
      }
      if (vec_ > 1) {  // FindPadVec: the dim of the neighbours, with nothing in front
        inside = fmt::format("o{} + j < {}", d, size);
        from.push_back({fmt::format("(o{} + j)", d), input(0).strides[d]});
        continue;
      }
      std::string source = fmt::format("{}(o{}) - {}", position_, d, begin);
      if (mode == "replicate") source = fmt::format("max(0, min({} - 1, i64({})))", size, source);
      if (mode == "reflect") {
        text_.Line("const {} distance{} = abs({});", position_ == "int" ? "int" : "i64", d, source);
        source =
            fmt::format("distance{0} < {1} ? distance{0} : 2 * ({1} - 1) - distance{0}", d, size);
      }
      text_.Line("const {} source{} = {};", position_, d, source);
      if (mode == "constant") {
        inside += fmt::format("{}source{} >= 0 && source{} < {}", inside.empty() ? "" : " && ", d,
                              d, size);
      }
      from.push_back({fmt::format("Index(source{})", d), input(0).strides[d]});
    }
    std::string element = fmt::format("{}[{}]", at(0), text_.Offset(from));
    if (inside.empty()) return element;
    return fmt::format("{} ? {} : {}", inside, element,
                       Moved(NumberText(dtype(), attrs_.GetFloat("value"))));
  }

  std::string WriteFlip() {
    std::vector<int64_t> axes = attrs_.GetInts("axes");
    std::vector<KernelText::Term> from;
    for (size_t d = 0; d < rank_; ++d) {
      bool flipped = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
      std::string size = text_.Size(input(0).dims[d]);
      from.push_back({flipped ? fmt::format("({} - 1 - o{})", size, d) : fmt::format("o{}", d),
                      input(0).strides[d]});
    }
    return fmt::format("{}[{}]", at(0), text_.Offset(from));
  }

  std::string WriteRoll() {
    std::vector<int64_t> shifts = attrs_.GetInts("shifts");
    std::vector<KernelText::Term> from;
    for (size_t d = 0; d < rank_; ++d) {
      std::string name = fmt::format("o{}", d);
      const Dim& size = input(0).dims[d];
      if (shifts[d] != 0 && !(size == Dim(0))) {
        std::string shift = text_.Size(Mod(Dim(shifts[d]), size));
        text_.Line("const Index from{0} = o{0} < {1} ? o{0} + {2} - {1} : o{0} - {1};", d, shift,
                   text_.Size(size));
        name = fmt::format("from{}", d);
      }
      from.push_back({name, input(0).strides[d]});
    }
    if (vec_ == 1) return fmt::format("{}[{}]", at(0), text_.Offset(from));
    text_.Line("const auto x_vec = Load<{}>({});", vec_, KernelText::At(at(0), text_.Offset(from)));
    return "x_vec[j]";
  }

  std::string WriteTriangle() {
    std::vector<KernelText::Term> from;
    for (size_t d = 0; d < rank_; ++d) from.push_back({fmt::format("o{}", d), input(0).strides[d]});
    std::string diagonal = text_.Size(attrs_.GetDim("diagonal"));
    std::string kept = fmt::format("i64(o{}) - i64(o{}) {} {}", rank_ - 1, rank_ - 2,
                                   op_ == "triu" ? ">=" : "<=", diagonal);
    return fmt::format("{} ? {}[{}] : {}(0)", kept, at(0), text_.Offset(from), MovedType(dtype()));
  }

  std::string WriteArange() {
    double start = attrs_.GetFloat("start"), step = attrs_.GetFloat("step");
    DType wide = IsFloat(dtype()) ? DType::kFloat64 : DType::kInt64;
    std::string number = fmt::format("{0}({1}) + {0}({2}) * {0}(o0)", ComputeType(wide),
                                     NumberText(wide, start), NumberText(wide, step));
    return fmt::format("BitsOf<{}>(CastTo<{}>({}))", MovedType(dtype()), ElementType(dtype()),
                       number);
  }

  const CudaSite& site_;
  AnchoredBody body_;
  KernelText text_;
  size_t rank_;
  int vec_;
  OutputText output_;
  std::string_view op_;
  const Attrs& attrs_;
  std::string position_;
};

bool IsIndexOp(std::string_view op) {
  constexpr std::string_view kOps[] = {"embedding", "gather", "index_select", "index",
                                       "pad",       "flip",   "roll",         "tril",
                                       "triu",      "full",   "arange"};
  return std::find(std::begin(kOps), std::end(kOps), op) != std::end(kOps);
}

// Neighbours that are written at once where one dim alone gets zeros, behind what it has.
int FindPadVec(const CudaSite& site, const AnchoredBody& body, int max_vec) {
  const Attrs& attrs = body.anchor->attrs;
  const Dims& pads = attrs.GetDims("pads");
  auto is_zero = [](const Dim& dim) { return dim == Dim(0); };
  if (attrs.GetString("mode") != "constant" ||
      std::ranges::count_if(pads, std::not_fn(is_zero)) != 1) {
    return 1;
  }
  auto padded = std::ranges::find_if(pads, std::not_fn(is_zero)) - pads.begin();
  return padded % 2 == 0 ? 1 : OutputText::FindVec(site, body, padded / 2, max_vec);
}

// Neighbours that a pad, an embedding, or a roll of other dims, moves at once.
int FindRowVec(const CudaSite& site, const AnchoredBody& body, int max_vec) {
  std::string_view op = body.anchor->op->name;
  if (op == "pad") return FindPadVec(site, body, max_vec);
  bool moves_rows = op == "embedding" || (op == "roll" && !site.outputs[0].dims.empty() &&
                                          body.anchor->attrs.GetInts("shifts").back() == 0);
  if (!moves_rows) return 1;
  const KernelOperand& x = site.inputs[body.operands[0]];
  int vec = OutputText::FindVec(site, body, site.outputs[0].dims.size() - 1, max_vec);
  auto fits = [&](int each) {
    int64_t bytes = std::min<int64_t>(16, each * static_cast<int64_t>(DTypeSize(x.dtype)));
    return x.strides.back() == Dim(1) && x.alignment % bytes == 0 &&
           std::all_of(x.strides.begin(), x.strides.end() - 1,
                       [&](const Dim& stride) { return IsMultiple(stride, each); });
  };
  while (vec > 1 && !fits(vec)) vec /= 2;
  return vec;
}

std::vector<Attrs> FindIndexVariants(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindOneNode(site);
  if (!body || !IsIndexOp(body->anchor->op->name)) return {};
  return {{{"vec", Dim(FindRowVec(site, *body, 8))}}};
}

CudaKernel MakeIndexKernel(const CudaSite& site, const Attrs& variant) {
  int vec = FindRowVec(site, *FindOneNode(site), static_cast<int>(variant.GetInt("vec")));
  return IndexWriter(site, vec).Write();
}

}  // namespace

const KernelFamily kIndexFamily = {"index", FindIndexVariants, MakeIndexKernel};

}  // namespace stator
