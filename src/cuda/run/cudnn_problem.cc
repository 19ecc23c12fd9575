// FindCudnnProblem: a kernel's body and operands as a graph for cuDNN.
#include <algorithm>

#include "base/error.h"
#include "cuda/run/cudnn_step.h"
#include "ir/epilogue.h"
#include "ir/type.h"

namespace stator {
namespace {

using Sizes = std::vector<int64_t>;

bool IsCudnnDType(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat32;
}

// ---- layouts
Sizes DenseStridesIn(const Sizes& dims, bool channels_last) {
  int rank = static_cast<int>(dims.size());
  DimOrder order = channels_last ? ChannelsLastOrder(rank) : DimOrder{};
  Sizes strides(rank);
  int64_t next = 1;
  for (int i = rank - 1; i >= 0; --i) {
    int dim = order.empty() ? i : order[i];
    strides[dim] = next;
    next *= dims[dim];
  }
  return strides;
}

// cuDNN knows two and three spatial dims: one becomes two.
CudnnTensor MakeTensor(const TensorRef& tensor) {
  CudnnTensor made{.dtype = tensor.dtype, .dims = tensor.dims, .strides = tensor.strides};
  if (made.dims.size() == 3) {
    made.dims.insert(made.dims.begin() + 2, 1);
    made.strides.insert(made.strides.begin() + 2, 1);
  }
  return made;
}

// Whether the tensor lies densely so; strides of dims of size 1 say nothing and are then set as
// cuDNN recognises the layout.
bool TakeLayout(CudnnTensor& tensor, bool channels_last) {
  Sizes dense = DenseStridesIn(tensor.dims, channels_last);
  for (size_t i = 0; i < dense.size(); ++i) {
    if (tensor.dims[i] != 1 && tensor.strides[i] != dense[i]) return false;
  }
  tensor.strides = dense;
  return true;
}

// ---- epilogues
// What cuDNN's precompiled engines compute behind a convolution: relu(conv + residual + bias), or a
// part of it. Sums commute.
struct ConvEpilogue {
  int residual = -1, bias = -1;  // among the body's inputs; -1: none
  bool relu = false;
};

std::optional<ConvEpilogue> FindConvEpilogue(const Epilogue& epilogue) {
  ConvEpilogue found;
  if (epilogue.operands.size() > 2) found.bias = epilogue.operands[2];
  // Transposed convolutions have no such engines, but for a compiled one with a bias.
  if (epilogue.anchor->attrs.GetBool("transposed")) {
    return epilogue.ops.empty() ? std::optional(found) : std::nullopt;
  }
  for (const EpilogueOp& op : epilogue.ops) {
    int& input = op.per_channel ? found.bias : found.residual;
    if (found.relu) return std::nullopt;
    if (op.Is("relu")) {
      found.relu = true;
    } else if (op.Is("add") && op.input >= 0 && input < 0) {
      input = op.input;
    } else {
      return std::nullopt;
    }
  }
  return found;
}

bool HasCudnnDTypes(const Graph& body) {
  return std::ranges::all_of(body.inputs(),
                             [&](ValueId id) { return IsCudnnDType(body.type(id).dtype); }) &&
         std::ranges::all_of(body.nodes(), [&](NodeId id) {
           return IsCudnnDType(body.type(body.node(id).outputs[0]).dtype);
         });
}

// ---- conv
class ConvFinder {
 public:
  ConvFinder(const CudaStepSite& site, const Epilogue& epilogue)
      : site_(site), epilogue_(epilogue), attrs_(epilogue.anchor->attrs) {}

  std::optional<CudnnProblem> Run() {
    const TensorRef& out = site_.outputs[0];
    problem_.is_empty = std::ranges::count(out.dims, 0) > 0;
    if (problem_.is_empty) return problem_;
    CudnnGraph& graph = problem_.graph;
    graph.anchor = attrs_.GetBool("transposed") ? CudnnGraph::kTransposedConv : CudnnGraph::kConv;
    for (int i = 0; i < 2; ++i) {
      const TensorRef& operand = site_.inputs[epilogue_.operands[i]];
      if (std::ranges::count(operand.dims, 0) > 0) return std::nullopt;
      AddOperand(epilogue_.operands[i], MakeTensor(operand));
    }
    graph.output = MakeTensor(out);
    FillWindow();
    if (!TakeLayouts(true) && !TakeLayouts(false)) return std::nullopt;
    std::optional<ConvEpilogue> behind = FindConvEpilogue(epilogue_);
    if (!behind || !AddSum(behind->residual, false) || !AddSum(behind->bias, true)) {
      return std::nullopt;
    }
    if (behind->relu) graph.pointwise.push_back({.mode = CudnnPointwise::kRelu});
    const Attr* tf32 = site_.step->attrs.Find("tf32");
    graph.tf32 =
        tf32 != nullptr && std::get<bool>(*tf32) && graph.operands[0].dtype == DType::kFloat32;
    return problem_;
  }

 private:
  int AddOperand(int input, CudnnTensor tensor) {
    problem_.graph.operands.push_back(std::move(tensor));
    problem_.operands.push_back(input);
    return static_cast<int>(problem_.operands.size()) - 1;
  }

  void FillWindow() {
    CudnnGraph& graph = problem_.graph;
    graph.padding = attrs_.GetInts("padding");
    graph.stride = attrs_.GetInts("stride");
    graph.dilation = attrs_.GetInts("dilation");
    if (graph.padding.size() > 1) return;
    graph.padding.insert(graph.padding.begin(), 0);
    graph.stride.insert(graph.stride.begin(), 1);
    graph.dilation.insert(graph.dilation.begin(), 1);
  }

  bool TakeLayouts(bool channels_last) {
    CudnnGraph& graph = problem_.graph;
    channels_last_ = channels_last;
    return TakeLayout(graph.operands[0], channels_last) &&
           TakeLayout(graph.operands[1], channels_last) && TakeLayout(graph.output, channels_last);
  }

  // False when the operand's layout does not go with the output's. Input -1 adds nothing.
  bool AddSum(int input, bool per_channel) {
    if (input < 0) return true;
    const TensorRef& operand = site_.inputs[input];
    CudnnTensor tensor = MakeTensor(operand);
    if (per_channel) {
      tensor.dims.assign(problem_.graph.output.dims.size(), 1);
      tensor.dims[1] = site_.outputs[0].dims[1];
      for (int i = 0; i < operand.rank(); ++i) {
        if (operand.dims[i] != 1 && operand.strides[i] != 1) return false;
      }
      tensor.strides = DenseStridesIn(tensor.dims, channels_last_);
    } else if (!TakeLayout(tensor, channels_last_)) {
      return false;
    }
    problem_.graph.pointwise.push_back(
        {.mode = CudnnPointwise::kAdd, .operand = AddOperand(input, std::move(tensor))});
    return true;
  }

  const CudaStepSite& site_;
  const Epilogue& epilogue_;
  const Attrs& attrs_;
  CudnnProblem problem_;
  bool channels_last_ = true;
};

// ---- attention
// q, k, v or y as [B, H, length, width] with dense rows; empty where the strides do not allow it.
std::optional<CudnnTensor> FindHeads(const TensorRef& tensor) {
  CudnnTensor made{.dtype = tensor.dtype, .dims = tensor.dims, .strides = tensor.strides};
  if (made.dims.size() == 3) {
    made.dims.insert(made.dims.begin(), 1);
    made.strides.insert(made.strides.begin(), made.dims[1] * made.strides[0]);
  }
  while (made.dims.size() > 4) {  // the two outermost dims as one
    bool merges = made.dims[0] == 1 || made.strides[0] == made.dims[1] * made.strides[1];
    if (!merges && made.dims[1] != 1) return std::nullopt;
    if (made.dims[1] == 1) made.strides[1] = made.strides[0];
    made.dims[1] *= made.dims[0];
    made.dims.erase(made.dims.begin());
    made.strides.erase(made.strides.begin());
  }
  if (made.dims[3] == 1) made.strides[3] = 1;
  return made.strides[3] == 1 ? std::optional(made) : std::nullopt;
}

// What is added to the scores, as [1 or B, 1 or H, length, keys]; empty where it repeats along the
// last two dims, or does not fit.
std::optional<CudnnTensor> FindBias(const TensorRef& mask, const Sizes& scores, DType dtype) {
  if (mask.dtype != dtype || mask.rank() > 4) return std::nullopt;
  CudnnTensor made{.dtype = dtype, .dims = mask.dims, .strides = mask.strides};
  while (made.dims.size() < 4) {
    made.dims.insert(made.dims.begin(), 1);
    made.strides.insert(made.strides.begin(), made.dims[1] * made.strides[0]);
  }
  bool fits = made.dims[2] == scores[2] && made.dims[3] == scores[3] && made.strides[3] == 1 &&
              (made.strides[2] >= made.dims[3] || made.dims[2] == 1);
  for (int i = 0; i < 2; ++i) fits = fits && (made.dims[i] == 1 || made.dims[i] == scores[i]);
  return fits ? std::optional(made) : std::nullopt;
}

std::optional<CudnnProblem> FindAttention(const CudaStepSite& site) {
  std::vector<NodeId> nodes = site.body.nodes();
  if (nodes.size() != 1 || site.body.node(nodes[0]).op->name != "attention") return std::nullopt;
  const Node& node = site.body.node(nodes[0]);
  CudnnProblem problem;
  problem.graph.anchor = CudnnGraph::kAttention;
  problem.is_empty = std::ranges::count(site.outputs[0].dims, 0) > 0;
  DType dtype = site.outputs[0].dtype;
  if (dtype != DType::kFloat16 && dtype != DType::kBFloat16) return std::nullopt;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!node.inputs[i].valid()) continue;
    auto inputs = site.body.inputs();
    auto it = std::ranges::find(inputs, node.inputs[i]);
    if (it == inputs.end()) return std::nullopt;
    int input = static_cast<int>(it - inputs.begin());
    const TensorRef& tensor = site.inputs[input];
    std::optional<CudnnTensor> operand;
    if (i < 3) {
      operand = FindHeads(tensor);
    } else {
      const CudnnTensor &q = problem.graph.operands[0], &k = problem.graph.operands[1];
      if (site.outputs[0].rank() > 4) return std::nullopt;
      operand = FindBias(tensor, {q.dims[0], q.dims[1], q.dims[2], k.dims[2]}, dtype);
      problem.graph.has_bias = true;
    }
    if (!operand) return std::nullopt;
    problem.graph.operands.push_back(std::move(*operand));
    problem.operands.push_back(input);
  }
  std::optional<CudnnTensor> output = FindHeads(site.outputs[0]);
  if (!output) return std::nullopt;
  problem.graph.output = std::move(*output);
  problem.graph.causal = node.attrs.GetBool("causal");
  problem.graph.scale = node.attrs.GetFloat("scale");
  const Sizes &k = problem.graph.operands[1].dims, &v = problem.graph.operands[2].dims;
  constexpr int64_t kMaxWidth = 256;
  bool fits = k[2] > 0 && k[3] % 8 == 0 && v[3] % 8 == 0 && k[3] <= kMaxWidth && v[3] <= kMaxWidth;
  return fits || problem.is_empty ? std::optional(problem) : std::nullopt;
}

}  // namespace

bool IsCudnnConvBody(const Graph& body) {
  std::optional<Epilogue> epilogue = FindEpilogue(body, "conv");
  return epilogue && HasCudnnDTypes(body) && FindConvEpilogue(*epilogue);
}

std::optional<CudnnProblem> FindCudnnProblem(const CudaStepSite& site) {
  std::optional<CudnnProblem> problem;
  if (site.step->kind == StepKind::kAttention) {
    problem = FindAttention(site);
  } else if (std::optional<Epilogue> epilogue = FindEpilogue(site.body, "conv")) {
    if (HasCudnnDTypes(site.body)) problem = ConvFinder(site, *epilogue).Run();
  }
  const Attr* workspace = site.step->attrs.Find("workspace");
  if (problem && workspace != nullptr) {
    problem->graph.max_ws_bytes = std::get<Dim>(*workspace).value();
  }
  return problem;
}

}  // namespace stator
