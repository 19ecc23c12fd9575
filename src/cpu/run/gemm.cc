#include "cpu/run/gemm.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cpu/run/post_ops.h"
#include "cpu/run/split_step.h"
#include "cpu/run/sum_terms.h"
#include "ops/tensor.h"
#include "runtime/strided_rows.h"

namespace stator {
namespace {

using dnnl::memory;

enum class Form { kMatmul, kInnerProduct, kTerms, kConvH, kConvW };

std::optional<Form> FindForm(std::string_view name) {
  for (size_t i = 0; i < std::size(kGemmForms); ++i) {
    if (kGemmForms[i] == name) return static_cast<Form>(i);
  }
  return std::nullopt;
}

// A matrix in memory; strides in elements. A dim of size 1 has the stride of a dense matrix.
struct Matrix {
  int64_t rows, columns;
  int64_t row_stride, column_stride;
};

Matrix MakeMatrix(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  if (rows == 1) row_stride = column_stride == 1 ? columns : 1;
  if (columns == 1) column_stride = 1;
  return {rows, columns, row_stride, column_stride};
}

Matrix LastMatrix(const TensorRef& tensor) {
  int row = tensor.rank() - 2;
  return MakeMatrix(tensor.dims[row], tensor.dims[row + 1], tensor.strides[row],
                    tensor.strides[row + 1]);
}

// All dims but the last seen as rows; empty when their strides do not allow it.
std::optional<Matrix> FindRows(const TensorRef& tensor) {
  std::optional<StridedRows> rows = FindStridedRows(tensor);
  if (!rows) return std::nullopt;
  return MakeMatrix(rows->count, tensor.dims.back(), rows->stride, tensor.strides.back());
}

// ---- operands as one form takes them
// Rows of a layer's input or output.
memory::desc RowsDesc(DType dtype, const Matrix& m, Form form) {
  int64_t all = m.rows * m.row_stride;
  switch (form) {
    case Form::kConvH:
      return MakeDesc(dtype, {1, m.columns, m.rows, 1},
                      {all, m.column_stride, m.row_stride, m.row_stride});
    case Form::kConvW:
      return MakeDesc(dtype, {1, m.columns, 1, m.rows}, {all, m.column_stride, all, m.row_stride});
    default: return MakeDesc(dtype, {m.rows, m.columns}, {m.row_stride, m.column_stride});
  }
}

memory::desc DenseRowsDesc(DType dtype, const Matrix& m, Form form) {
  return RowsDesc(dtype, MakeMatrix(m.rows, m.columns, m.columns, 1), form);
}

memory::desc WeightsDesc(DType dtype, const Matrix& b, Form form) {
  memory::dims dims = {b.columns, b.rows}, strides = {b.column_stride, b.row_stride};
  if (form == Form::kMatmul) {
    std::swap(dims[0], dims[1]);
    std::swap(strides[0], strides[1]);
  } else if (form == Form::kConvH || form == Form::kConvW) {
    dims.insert(dims.end(), {1, 1});
    strides.insert(strides.end(), {1, 1});
  }
  return MakeDesc(dtype, dims, strides);
}

// A stack of matrices with `rank` dims, of which those that are broadcast have size 1.
memory::desc StackDesc(const TensorRef& tensor, int rank) {
  memory::dims dims(rank, 1), strides(rank, 1);
  Matrix matrix = LastMatrix(tensor);
  dims[rank - 2] = matrix.rows;
  dims[rank - 1] = matrix.columns;
  strides[rank - 2] = matrix.row_stride;
  strides[rank - 1] = matrix.column_stride;
  int64_t span = std::max(matrix.rows * matrix.row_stride, matrix.columns * matrix.column_stride);
  for (int to = rank - 3, i = tensor.rank() - 3; to >= 0; --to, --i) {
    bool repeats = i < 0 || tensor.dims[i] == 1 || tensor.strides[i] == 0;
    dims[to] = repeats ? 1 : tensor.dims[i];
    strides[to] = repeats ? span : tensor.strides[i];
    span = std::max(span, dims[to] * strides[to]);
  }
  return MakeDesc(tensor.dtype, dims, strides);
}

// A post-op's operand in the dims of a stack; a vector of channels has rank 1.
memory::desc StackOperandDesc(TensorRef tensor, int rank) {
  while (tensor.rank() < 2) {
    tensor.dims.insert(tensor.dims.begin(), 1);
    tensor.strides.insert(tensor.strides.begin(), tensor.num_elements());
  }
  return StackDesc(tensor, rank);
}

dnnl::primitive_desc MakePrimitive(Form form, const memory::desc& a, const memory::desc& b,
                                   const memory::desc& bias, const memory::desc& out,
                                   const dnnl::primitive_attr& attr) {
  const dnnl::engine& engine = OneDnnEngine();
  constexpr auto kInference = dnnl::prop_kind::forward_inference;
  if (form == Form::kMatmul) {
    return dnnl::matmul::primitive_desc(engine, a, b, bias, out, attr);
  }
  if (form == Form::kInnerProduct || form == Form::kTerms) {
    return dnnl::inner_product_forward::primitive_desc(engine, kInference, a, b, bias, out, attr);
  }
  return dnnl::convolution_forward::primitive_desc(engine, kInference,
                                                   dnnl::algorithm::convolution_direct, a, b, bias,
                                                   out, {1, 1}, {0, 0}, {0, 0}, attr);
}

// Whether elements stand for several: a stride of 0, by which oneDNN's checks of layouts divide.
bool Repeats(const memory::desc& desc) {
  memory::dims dims = desc.get_dims(), strides = desc.get_strides();
  for (size_t i = 0; i < dims.size(); ++i) {
    if (strides[i] == 0 && dims[i] > 1) return true;
  }
  return false;
}

// The body's operands in the terms of one form.
struct Problem {
  memory::desc a, b, out;              // as they lie
  memory::desc dense_a, dense_out;     // as they would lie after a copy
  std::vector<memory::desc> post_ops;  // operands as they lie, one per post-op
};

class GemmMaker {
 public:
  GemmMaker(const StepSite& site, const FusedBody& fused, Form form)
      : site_(site),
        fused_(fused),
        form_(form),
        a_(site.inputs[fused.operands[0]]),
        b_(site.inputs[fused.operands[1]]),
        out_(site.outputs[0]) {}

  // Operands are taken where they lie if the primitive can, else copied.
  std::unique_ptr<PreparedStep> Run() const {
    std::optional<Problem> problem = FindLayer();
    bool is_layer = problem.has_value();
    if (!is_layer) {
      if (form_ != Form::kMatmul) return nullptr;
      problem = MakeStack();
    }
    auto any_b = [&](DType dtype) { return MakeAnyDesc(dtype, problem->b.get_dims()); };
    std::unique_ptr<PreparedStep> step;
    if (Multiplies(out_.dtype)) {
      if (!Repeats(problem->a)) {
        bool packs = (is_layer && Packs()) || Repeats(problem->b);
        step = Make(*problem, problem->a, packs ? any_b(b_.dtype) : problem->b, problem->out);
      }
      if (!step) step = Make(*problem, problem->dense_a, any_b(b_.dtype), problem->dense_out);
    }
    if (!step && out_.dtype != DType::kFloat32) {
      step = Make(*problem, WithType(problem->dense_a, DType::kFloat32), any_b(DType::kFloat32),
                  WithType(problem->dense_out, DType::kFloat32));
    }
    return step;
  }

 private:
  // Whether the primitive may lay b out as it likes. A matrix-vector product reads b once, as fast
  // where it lies as packed (35 us against 36 for 1280 x 1000, 82 against 80 for 768 x 3072), and a
  // packed copy would cost the memory of b again.
  bool Packs() const {
    bool is_vector = out_.num_elements() == out_.dims.back();
    return !is_vector && (b_.data != nullptr || form_ != Form::kMatmul);
  }

  // One matrix b for all rows of a. Empty when a, the output or a post-op's operand is no matrix.
  std::optional<Problem> FindLayer() const {
    for (int i = 0; i < b_.rank() - 2; ++i) {
      if (b_.dims[i] != 1) return std::nullopt;
    }
    std::optional<Matrix> a = FindRows(a_), out = FindRows(out_);
    if (!a || !out || a->rows != out->rows) return std::nullopt;
    Problem problem{.a = RowsDesc(a_.dtype, *a, form_),
                    .b = WeightsDesc(b_.dtype, LastMatrix(b_), form_),
                    .out = RowsDesc(out_.dtype, *out, form_),
                    .dense_a = DenseRowsDesc(a_.dtype, *a, form_),
                    .dense_out = DenseRowsDesc(out_.dtype, *out, form_),
                    .post_ops = {}};
    for (const PostOp& post_op : fused_.post_ops) {
      problem.post_ops.emplace_back();
      if (!post_op.is_binary()) continue;
      const TensorRef& operand = site_.inputs[post_op.input];
      std::optional<Matrix> rows = FindRows(operand);
      if (!rows) return std::nullopt;
      problem.post_ops.back() = RowsDesc(operand.dtype, *rows, form_);
    }
    return problem;
  }

  Problem MakeStack() const {
    int rank = out_.rank();
    auto dense = [](const TensorRef& tensor, const memory::desc& desc) {
      return MakeDesc(tensor.dtype, desc.get_dims(), DenseStrides(desc.get_dims()));
    };
    Problem problem{.a = StackDesc(a_, rank),
                    .b = StackDesc(b_, rank),
                    .out = StackDesc(out_, rank),
                    .dense_a = {},
                    .dense_out = {},
                    .post_ops = {}};
    problem.dense_a = dense(a_, problem.a);
    problem.dense_out = dense(out_, problem.out);
    for (const PostOp& post_op : fused_.post_ops) {
      problem.post_ops.emplace_back();
      if (!post_op.is_binary()) continue;
      problem.post_ops.back() = StackOperandDesc(site_.inputs[post_op.input], rank);
    }
    return problem;
  }

  // The step whose primitive takes a, b and the output as given here.
  std::unique_ptr<PreparedStep> Make(const Problem& problem, const memory::desc& a,
                                     const memory::desc& b, const memory::desc& out) const {
    Fusion fusion;
    fusion.arguments = {
        {DNNL_ARG_SRC, MakeInput(site_, fused_.operands[0], problem.a)},
        {DNNL_ARG_WEIGHTS, MakeInput(site_, fused_.operands[1], problem.b)},
        {DNNL_ARG_DST, MakeOutput(problem.out)},
    };
    memory::desc bias;
    if (HasBias()) {
      bias = BiasDesc(out);
      const TensorRef& operand = site_.inputs[fused_.post_ops[0].input];
      memory::dims strides(bias.get_ndims(), operand.strides.back());
      memory::desc given = MakeDesc(operand.dtype, bias.get_dims(), strides);
      fusion.arguments.push_back(
          {DNNL_ARG_BIAS, MakeInput(site_, fused_.post_ops[0].input, given)});
    }
    fusion.weights = b;
    fusion.make = [form = form_, a, bias, out](const memory::desc& weights,
                                               const dnnl::primitive_attr& attr) {
      return MakePrimitive(form, a, weights, bias, out, attr);
    };
    if (form_ == Form::kTerms && !SplitIntoTerms(a, bias, out, fusion)) return nullptr;
    size_t first = HasBias() ? 1 : 0;
    AddPostOps(site_, fused_, first, problem.post_ops, out, fusion);
    return FindFusedStep(site_, fused_, first, std::move(fusion));
  }

  bool SplitIntoTerms(const memory::desc& a, const memory::desc& bias, const memory::desc& out,
                      Fusion& fusion) const {
    if (out_.dtype != DType::kFloat32) return false;
    return SplitSum(fusion, [=, form = form_, rows = a.get_dims()[0]](
                                int64_t columns, bool has_bias, const memory::desc& weights,
                                const dnnl::primitive_attr& attr) {
      memory::desc part = MakeDesc(DType::kFloat32, {rows, columns}, {columns, 1});
      return MakePrimitive(form, part, weights, has_bias ? bias : memory::desc(), out, attr);
    });
  }

  // Whether the first post-op adds a number per channel, which every primitive can do by itself.
  bool HasBias() const {
    return !fused_.post_ops.empty() && fused_.post_ops[0].per_channel &&
           fused_.post_ops[0].algorithm == dnnl::algorithm::binary_add;
  }

  memory::desc BiasDesc(const memory::desc& out) const {
    int64_t columns = out_.dims.back();
    memory::dims dims = {columns};
    if (form_ == Form::kMatmul) dims.insert(dims.begin(), out.get_ndims() - 1, 1);
    return MakeDesc(DType::kFloat32, dims, DenseStrides(dims));
  }

  const StepSite& site_;
  const FusedBody& fused_;
  Form form_;
  const TensorRef &a_, &b_, &out_;
};

}  // namespace

std::unique_ptr<PreparedStep> FindGemm(const StepSite& site, std::string_view form_name) {
  std::optional<Form> form = FindForm(form_name);
  std::optional<FusedBody> fused = FindFusedBody(site.body);
  if (!form || !fused || fused->anchor->op->name != "matmul") return nullptr;
  if (!CanOneDnnRun(site)) return nullptr;
  return GemmMaker(site, *fused, *form).Run();
}

std::unique_ptr<PreparedStep> PrepareGemm(const StepSite& site) {
  const Attr* form = site.step->attrs.Find("form");
  std::unique_ptr<PreparedStep> step;
  if (form != nullptr) step = FindGemm(site, std::get<std::string>(*form));
  // A plan made for another instruction set may name a form that this one does not have.
  auto find = [](const StepSite& any_site) { return FindGemm(any_site, "matmul"); };
  if (!step) step = find(site);
  if (!step) step = FindSplit(site, find);
  return step ? std::move(step) : PrepareReference(site);
}

}  // namespace stator
