#include "cuda/run/gemm.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "ir/epilogue.h"
#include "runtime/strided_rows.h"

namespace stator {
namespace {

constexpr int kMaxCandidates = 8;
// Products of a stack that is no regular grid are launched one by one, up to this many.
constexpr int64_t kMaxLaunches = 16;

std::optional<cudaDataType_t> FindCudaType(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return CUDA_R_16F;
    case DType::kBFloat16: return CUDA_R_16BF;
    case DType::kFloat32: return CUDA_R_32F;
    case DType::kFloat64: return CUDA_R_64F;
    default: return std::nullopt;
  }
}

// ---- the body in cuBLASLt's terms
struct Formula {
  std::array<int, 2> operands = {-1, -1};  // a and b, among the step's inputs
  DType in = DType::kFloat32, out = DType::kFloat32;
  double alpha = 1, beta = 0;
  int residual = -1, bias = -1;  // among the step's inputs; -1: none
  bool relu = false, gelu = false;

  bool has_activation() const { return relu || gelu; }
  cublasLtEpilogue_t epilogue() const {
    int bits = (relu ? CUBLASLT_EPILOGUE_RELU : 0) | (gelu ? CUBLASLT_EPILOGUE_GELU : 0) |
               (bias >= 0 ? CUBLASLT_EPILOGUE_BIAS : 0);
    return bits == 0 ? CUBLASLT_EPILOGUE_DEFAULT : static_cast<cublasLtEpilogue_t>(bits);
  }
};

// Adds one more node; false when cuBLASLt cannot compute it behind what is there.
bool AddTo(Formula& formula, const EpilogueOp& op) {
  if (op.Is("cast")) return true;  // the output's dtype decides
  if (formula.has_activation()) return false;
  bool is_sum = formula.beta != 0 || formula.bias >= 0;
  if (op.number) {
    bool scales = op.Is("mul") && !is_sum;
    if (scales) formula.alpha *= *op.number;
    return scales;
  }
  if (op.Is("neg") && !is_sum) {
    formula.alpha = -formula.alpha;
    return true;
  }
  formula.relu = op.Is("relu");
  formula.gelu = op.Is("gelu_tanh");
  if (formula.has_activation()) return true;
  bool adds = op.Is("add"), subtracts = op.Is("sub") && op.chain == 0;
  if (adds && op.per_channel && formula.bias < 0) {
    formula.bias = op.input;
    return true;
  }
  if ((adds || subtracts) && !op.per_channel && op.input >= 0 && formula.residual < 0) {
    formula.residual = op.input;
    formula.beta = adds ? 1 : -1;
    return true;
  }
  return false;
}

// Empty for a body that is not one launch.
std::optional<Formula> FindFormula(const Graph& body) {
  std::optional<Epilogue> epilogue = FindEpilogue(body, "matmul");
  if (!epilogue) return std::nullopt;
  Formula formula{.operands = {epilogue->operands[0], epilogue->operands[1]},
                  .in = epilogue->anchor_dtype,
                  .out = epilogue->dtype};
  for (const EpilogueOp& op : epilogue->ops) {
    if (!AddTo(formula, op)) return std::nullopt;
  }
  bool widens = formula.out == DType::kFloat32 && DTypeSize(formula.in) == 2;
  if (!FindCudaType(formula.in) || (formula.out != formula.in && !widens)) return std::nullopt;
  for (int input : {formula.residual, formula.bias}) {
    if (input >= 0 && body.type(body.inputs()[input]).dtype != formula.out) return std::nullopt;
  }
  // cuBLASLt's fp64 products have no epilogue but the sum.
  bool plain = formula.bias < 0 && !formula.has_activation();
  return formula.in != DType::kFloat64 || plain ? std::optional(formula) : std::nullopt;
}

// ---- operands
// A row-major matrix in memory; strides in elements. A dim of size 1 has a dense matrix's stride.
struct Matrix {
  int64_t rows = 1, columns = 1;
  int64_t row_stride = 1, column_stride = 1;

  bool is_transposed() const { return column_stride != 1; }
  int64_t ld() const { return is_transposed() ? column_stride : row_stride; }
  // cuBLASLt takes matrices with one dim dense whose rows do not overlap.
  bool fits() const {
    int64_t inner = is_transposed() ? rows : columns;
    return (column_stride == 1 || row_stride == 1) && ld() >= std::max<int64_t>(inner, 1);
  }
};

Matrix MakeMatrix(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  if (rows == 1) row_stride = column_stride == 1 ? columns : 1;
  if (columns == 1 && column_stride != 1) {
    column_stride = row_stride == 1 ? std::max<int64_t>(rows, 1) : 1;
  }
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

// Positions of a, b, the output and the residual.
enum Role { kA, kB, kOut, kResidual, kNumRoles };
using RoleStrides = std::array<int64_t, kNumRoles>;

struct BatchDim {
  int64_t size = 1;
  RoleStrides strides = {};
};

// What one launch computes, and the offsets in elements at which further launches do.
struct Problem {
  std::array<Matrix, kNumRoles> matrices;
  BatchDim batch;
  std::vector<RoleStrides> launches;

  int64_t m() const { return matrices[kOut].rows; }
  int64_t n() const { return matrices[kOut].columns; }
  int64_t k() const { return matrices[kA].columns; }
  bool is_empty() const { return m() == 0 || n() == 0 || batch.size == 0; }
};

class ProblemFinder {
 public:
  ProblemFinder(const CudaStepSite& site, const Formula& formula) {
    tensors_ = {&site.inputs[formula.operands[0]], &site.inputs[formula.operands[1]],
                &site.outputs[0],
                formula.residual >= 0 ? &site.inputs[formula.residual] : &site.outputs[0]};
  }

  // Empty when the strides are none that cuBLASLt takes.
  std::optional<Problem> Run() const {
    std::optional<Problem> problem = FindLayer();
    if (!problem) problem = FindStack();
    if (!problem) return std::nullopt;
    bool fits = std::ranges::all_of(problem->matrices, &Matrix::fits);
    bool dense_rows =
        !problem->matrices[kOut].is_transposed() && !problem->matrices[kResidual].is_transposed();
    // A product over nothing is a sum without terms, which cuBLASLt refuses.
    bool sums = problem->k() > 0;
    return (fits && dense_rows && sums) || problem->is_empty() ? problem : std::nullopt;
  }

 private:
  // One matrix b for all rows of a. Empty when a, the output or the residual is no matrix.
  std::optional<Problem> FindLayer() const {
    const TensorRef& b = *tensors_[kB];
    for (int i = 0; i < b.rank() - 2; ++i) {
      if (b.dims[i] != 1) return std::nullopt;
    }
    Problem problem{.launches = {RoleStrides{}}};
    for (Role role : {kA, kOut, kResidual}) {
      std::optional<Matrix> rows = FindRows(*tensors_[role]);
      if (!rows || rows->rows != NumRows()) return std::nullopt;
      problem.matrices[role] = *rows;
    }
    problem.matrices[kB] = LastMatrix(b);
    return problem;
  }

  int64_t NumRows() const {
    const TensorRef& out = *tensors_[kOut];
    return std::accumulate(out.dims.begin(), out.dims.end() - 1, int64_t{1}, std::multiplies<>());
  }

  std::optional<Problem> FindStack() const {
    Problem problem;
    for (int role = 0; role < kNumRoles; ++role) {
      problem.matrices[role] = LastMatrix(*tensors_[role]);
    }
    std::vector<BatchDim> dims = BatchDims();
    // The largest dim is the launch's own; the others are walked.
    auto largest = std::ranges::max_element(dims, {}, &BatchDim::size);
    if (largest != dims.end()) {
      problem.batch = *largest;
      dims.erase(largest);
    }
    problem.launches = {RoleStrides{}};
    for (const BatchDim& dim : dims) {
      if (dim.size * static_cast<int64_t>(problem.launches.size()) > kMaxLaunches) {
        return std::nullopt;
      }
      std::vector<RoleStrides> launches;
      for (const RoleStrides& base : problem.launches) {
        for (int64_t i = 0; i < dim.size; ++i) {
          launches.push_back(base);
          for (int role = 0; role < kNumRoles; ++role) {
            launches.back()[role] += i * dim.strides[role];
          }
        }
      }
      problem.launches = std::move(launches);
    }
    return problem;
  }

  // The output's leading dims, from the outermost on, merged where all operands allow it.
  std::vector<BatchDim> BatchDims() const {
    const TensorRef& out = *tensors_[kOut];
    std::vector<BatchDim> merged;
    for (int i = 0; i < out.rank() - 2; ++i) {
      BatchDim dim{.size = out.dims[i]};
      if (dim.size == 1) continue;
      for (int role = 0; role < kNumRoles; ++role) {
        const TensorRef& tensor = *tensors_[role];
        int own = i - (out.rank() - tensor.rank());
        bool repeats = own < 0 || tensor.dims[own] == 1;
        dim.strides[role] = repeats ? 0 : tensor.strides[own];
      }
      bool merges = !merged.empty();
      for (int role = 0; role < kNumRoles && merges; ++role) {
        merges = merged.back().strides[role] == dim.strides[role] * dim.size;
      }
      if (merges) dim.size *= std::exchange(merged.back().size, 1);
      if (merges) merged.pop_back();
      merged.push_back(dim);
    }
    return merged;
  }

  std::array<const TensorRef*, kNumRoles> tensors_;
};

// ---- descriptors
// One descriptor of cuBLASLt, destroyed with this.
template <typename Desc>
class Owned {
 public:
  using Destroy = cublasStatus_t (*)(Desc);
  Owned(Desc desc, Destroy destroy) : desc_(desc, destroy) {}
  Desc get() const { return desc_.get(); }

 private:
  std::unique_ptr<std::remove_pointer_t<Desc>, Destroy> desc_;
};

using MatmulDesc = Owned<cublasLtMatmulDesc_t>;
using Layout = Owned<cublasLtMatrixLayout_t>;
using Preference = Owned<cublasLtMatmulPreference_t>;

// A launch computes the transpose, out^T = b^T a^T: cuBLASLt's bias runs along the rows of its
// column-major output. So b is its first operand, and a row-major matrix is its column-major one.
class GemmStep final : public CudaStep {
 public:
  GemmStep(const CudaStepSite& site, const CublasLt& cublaslt, const Formula& formula,
           Problem problem)
      : cublaslt_(cublaslt),
        api_(cublaslt.api()),
        formula_(formula),
        problem_(std::move(problem)),
        in_size_(static_cast<int64_t>(DTypeSize(formula.in))),
        out_size_(static_cast<int64_t>(DTypeSize(formula.out))) {
    const Attr* tf32 = site.step->attrs.Find("tf32");
    tf32_ = tf32 != nullptr && std::get<bool>(*tf32);
    const Attr* alignment = site.step->attrs.Find("alignment");
    alignment_ = alignment != nullptr ? std::get<Dim>(*alignment).value() : in_size_;
    const Attr* workspace = site.step->attrs.Find("workspace");
    if (workspace != nullptr) max_ws_bytes_ = std::get<Dim>(*workspace).value();
    for (const TensorRef& input : site.inputs) {
      if (input.data != nullptr) {
        alignment_ = std::gcd(alignment_, reinterpret_cast<intptr_t>(input.data));
      }
    }
    if (formula.bias >= 0) bias_ = site.inputs[formula.bias].data;
    desc_ = MakeDesc(bias_);
    for (int role = 0; role < kNumRoles; ++role) layouts_.push_back(MakeLayout(role));
  }

  // The algorithms that fit into the workspace, best guess first.
  std::vector<cublasLtMatmulHeuristicResult_t> FindCandidates() const {
    std::array<cublasLtMatmulHeuristicResult_t, kMaxCandidates> results = {};
    Preference preference = MakePreference();
    int count = 0;
    cublasStatus_t status = api_.MatmulAlgoGetHeuristic(
        cublaslt_.handle(), desc_->get(), layouts_[kB].get(), layouts_[kA].get(),
        layouts_[kResidual].get(), layouts_[kOut].get(), preference.get(), kMaxCandidates,
        results.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS) return {};
    std::vector<cublasLtMatmulHeuristicResult_t> candidates;
    for (const auto& result : std::span(results).first(count)) {
      if (result.state == CUBLAS_STATUS_SUCCESS) candidates.push_back(result);
    }
    return candidates;
  }

  void Choose(const cublasLtMatmulHeuristicResult_t& candidate) { chosen_ = candidate; }
  bool is_empty() const { return problem_.is_empty(); }

  int64_t ws_bytes() const override { return static_cast<int64_t>(chosen_.workspaceSize); }

  void Launch(const CudaStepArgs& args) const override {
    if (problem_.is_empty()) return;
    std::optional<MatmulDesc> own_desc;
    if (formula_.bias >= 0 && bias_ == nullptr) own_desc = MakeDesc(args.inputs[formula_.bias]);
    const MatmulDesc& desc = own_desc ? *own_desc : *desc_;
    const std::byte* a = args.inputs[formula_.operands[0]];
    const std::byte* b = args.inputs[formula_.operands[1]];
    std::byte* out = args.outputs[0];
    const std::byte* residual = formula_.residual >= 0 ? args.inputs[formula_.residual] : out;
    for (const RoleStrides& offset : problem_.launches) {
      STATOR_CALL_CUBLASLT(
          api_, Matmul, cublaslt_.handle(), desc.get(), Scalar(alpha_), b + offset[kB] * in_size_,
          layouts_[kB].get(), a + offset[kA] * in_size_, layouts_[kA].get(), Scalar(beta_),
          residual + offset[kResidual] * out_size_, layouts_[kResidual].get(),
          out + offset[kOut] * out_size_, layouts_[kOut].get(), &chosen_.algo, args.ws,
          chosen_.workspaceSize, reinterpret_cast<cudaStream_t>(args.stream));
    }
  }

 private:
  // A factor in both widths: cuBLASLt reads the one that the compute type has.
  struct Factor {
    explicit Factor(double value) : wide(value), narrow(static_cast<float>(value)) {}
    double wide;
    float narrow;
  };
  const void* Scalar(const Factor& factor) const {
    if (formula_.in == DType::kFloat64) return &factor.wide;
    return &factor.narrow;
  }

  cublasComputeType_t ComputeType() const {
    if (formula_.in == DType::kFloat64) return CUBLAS_COMPUTE_64F;
    bool tf32 = tf32_ && formula_.in == DType::kFloat32;
    return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  }

  template <typename T>
  void Set(const MatmulDesc& desc, cublasLtMatmulDescAttributes_t name, T value) const {
    STATOR_CALL_CUBLASLT(api_, MatmulDescSetAttribute, desc.get(), name, &value, sizeof(value));
  }

  MatmulDesc MakeDesc(const std::byte* bias) const {
    cublasLtMatmulDesc_t made = nullptr;
    cudaDataType_t scale = formula_.in == DType::kFloat64 ? CUDA_R_64F : CUDA_R_32F;
    STATOR_CALL_CUBLASLT(api_, MatmulDescCreate, &made, ComputeType(), scale);
    MatmulDesc desc(made, api_.MatmulDescDestroy);
    auto op = [&](Role role) {
      return problem_.matrices[role].is_transposed() ? CUBLAS_OP_T : CUBLAS_OP_N;
    };
    Set(desc, CUBLASLT_MATMUL_DESC_TRANSA, op(kB));
    Set(desc, CUBLASLT_MATMUL_DESC_TRANSB, op(kA));
    Set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, formula_.epilogue());
    if (formula_.bias >= 0) {
      Set(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, *FindCudaType(formula_.out));
      Set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias));
    }
    return desc;
  }

  Layout MakeLayout(int role) const {
    const Matrix& matrix = problem_.matrices[role];
    DType dtype = role == kA || role == kB ? formula_.in : formula_.out;
    int64_t inner = matrix.columns, outer = matrix.rows;
    if (matrix.is_transposed()) std::swap(inner, outer);
    cublasLtMatrixLayout_t made = nullptr;
    STATOR_CALL_CUBLASLT(api_, MatrixLayoutCreate, &made, *FindCudaType(dtype),
                         static_cast<uint64_t>(inner), static_cast<uint64_t>(outer), matrix.ld());
    Layout layout(made, api_.MatrixLayoutDestroy);
    if (problem_.batch.size == 1) return layout;
    int32_t count = static_cast<int32_t>(problem_.batch.size);
    int64_t stride = problem_.batch.strides[role];
    STATOR_CALL_CUBLASLT(api_, MatrixLayoutSetAttribute, made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                         &count, sizeof(count));
    STATOR_CALL_CUBLASLT(api_, MatrixLayoutSetAttribute, made,
                         CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride));
    return layout;
  }

  // Addresses are multiples of the alignment at the first launch; further ones move by strides.
  Preference MakePreference() const {
    cublasLtMatmulPreference_t made = nullptr;
    STATOR_CALL_CUBLASLT(api_, MatmulPreferenceCreate, &made);
    Preference preference(made, api_.MatmulPreferenceDestroy);
    auto set = [&](cublasLtMatmulPreferenceAttributes_t name, auto value) {
      STATOR_CALL_CUBLASLT(api_, MatmulPreferenceSetAttribute, made, name, &value, sizeof(value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(max_ws_bytes_));
    // Parts of a split sum meet in fp32, in the workspace: never rounded before, always in one
    // order.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    constexpr std::array kNames = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES};
    for (int role = 0; role < kNumRoles; ++role) {
      int64_t alignment = alignment_;
      int64_t size = role == kA || role == kB ? in_size_ : out_size_;
      for (const RoleStrides& offset : problem_.launches) {
        alignment = std::gcd(alignment, offset[role] * size);
      }
      set(kNames[role], static_cast<uint32_t>(alignment));
    }
    return preference;
  }

  const CublasLt& cublaslt_;
  const CublasLtApi& api_;
  Formula formula_;
  Problem problem_;
  int64_t in_size_, out_size_, alignment_ = 0, max_ws_bytes_ = kMaxGemmWsBytes;
  bool tf32_ = false;
  Factor alpha_{formula_.alpha}, beta_{formula_.beta};
  const std::byte* bias_ = nullptr;  // null when each call gives its own
  std::optional<MatmulDesc> desc_;
  std::vector<Layout> layouts_;  // by role
  cublasLtMatmulHeuristicResult_t chosen_ = {};
};

struct Found {
  Formula formula;
  Problem problem;
};

std::optional<Found> FindProblem(const CudaStepSite& site) {
  std::optional<Formula> formula = FindFormula(site.body);
  if (!formula) return std::nullopt;
  if (formula->bias >= 0) {
    // The channels are the only dim of size other than 1.
    const TensorRef& bias = site.inputs[formula->bias];
    if (bias.dims.back() > 1 && bias.strides.back() != 1) return std::nullopt;
  }
  std::optional<Problem> problem = ProblemFinder(site, *formula).Run();
  if (!problem) return std::nullopt;
  return Found{*formula, std::move(*problem)};
}

std::unique_ptr<GemmStep> FindStep(const CudaStepSite& site, const CublasLt& cublaslt) {
  std::optional<Found> found = FindProblem(site);
  if (!found) return nullptr;
  return std::make_unique<GemmStep>(site, cublaslt, found->formula, std::move(found->problem));
}

}  // namespace

bool IsCublasLtBody(const Graph& body) { return FindFormula(body).has_value(); }

bool IsCublasLtSite(const CudaStepSite& site) { return FindProblem(site).has_value(); }

int CountGemmCandidates(const CudaStepSite& site, const CublasLt& cublaslt) {
  std::unique_ptr<GemmStep> step = FindStep(site, cublaslt);
  if (step == nullptr) return 0;
  return step->is_empty() ? 1 : static_cast<int>(step->FindCandidates().size());
}

std::unique_ptr<CudaStep> PrepareCublasLt(const CudaStepSite& site, CudaLibraries& libraries) {
  const CublasLt* cublaslt = libraries.FindCublasLt();
  if (cublaslt == nullptr) return nullptr;
  std::unique_ptr<GemmStep> step = FindStep(site, *cublaslt);
  if (step == nullptr || step->is_empty()) return step;
  std::vector<cublasLtMatmulHeuristicResult_t> candidates = step->FindCandidates();
  if (candidates.empty()) return nullptr;
  const Attrs& attrs = site.step->attrs;
  const Attr *candidate = attrs.Find("candidate"), *version = attrs.Find("version");
  size_t index = 0;
  if (candidate != nullptr && version != nullptr &&
      std::get<Dim>(*version) == Dim(cublaslt->version())) {
    index = static_cast<size_t>(std::get<Dim>(*candidate).value());
  }
  step->Choose(candidates[index < candidates.size() ? index : 0]);
  return step;
}

}  // namespace stator
