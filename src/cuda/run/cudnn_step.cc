#include "cuda/run/cudnn_step.h"

#include <algorithm>

namespace stator {
namespace {

constexpr int64_t kWsAlignment = 256;

int64_t AlignUp(int64_t bytes) { return (bytes + kWsAlignment - 1) / kWsAlignment * kWsAlignment; }

// Bytes from the first element of a dense tensor to behind the last.
int64_t NumBytes(const CudnnTensor& tensor) {
  int64_t elements = 1;
  for (int64_t size : tensor.dims) elements *= size;
  return elements * static_cast<int64_t>(DTypeSize(tensor.dtype));
}

class CudnnStep final : public CudaStep {
 public:
  // Null plans: nothing to compute. With `epilogue`, `main` writes to the workspace, which is the
  // operand 0 of `epilogue`; its other operands are the step's inputs `epilogue_operands`.
  CudnnStep(CudnnProblem problem, std::shared_ptr<const CudnnPlan> main,
            std::shared_ptr<const CudnnPlan> epilogue, std::vector<int> epilogue_operands,
            int64_t result_bytes)
      : operands_(std::move(problem.operands)),
        epilogue_operands_(std::move(epilogue_operands)),
        main_(std::move(main)),
        epilogue_(std::move(epilogue)),
        result_bytes_(AlignUp(result_bytes)) {}

  int64_t ws_bytes() const override {
    int64_t bytes = main_ ? main_->ws_bytes() : 0;
    if (epilogue_) bytes = std::max(bytes, epilogue_->ws_bytes());
    return result_bytes_ + bytes;
  }

  void Launch(const CudaStepArgs& args) const override {
    if (!main_) return;
    std::byte* ws = args.ws + result_bytes_;
    std::byte* result = epilogue_ ? args.ws : args.outputs[0];
    main_->Execute(Addresses(operands_, args), result, ws, args.stream);
    if (!epilogue_) return;
    std::vector<const std::byte*> operands = Addresses(epilogue_operands_, args);
    operands.insert(operands.begin(), result);
    epilogue_->Execute(operands, args.outputs[0], ws, args.stream);
  }

 private:
  static std::vector<const std::byte*> Addresses(const std::vector<int>& inputs,
                                                 const CudaStepArgs& args) {
    std::vector<const std::byte*> addresses;
    for (int input : inputs) addresses.push_back(args.inputs[input]);
    return addresses;
  }

  std::vector<int> operands_, epilogue_operands_;
  std::shared_ptr<const CudnnPlan> main_, epilogue_;
  int64_t result_bytes_;
};

// The anchor alone, then the pointwise nodes over its result. Null when cuDNN has no engine for
// one. `is_bounded`: the result counts as workspace.
std::unique_ptr<CudaStep> FindSplit(const CudnnProblem& problem, DType anchor_dtype,
                                    bool is_bounded, const Cudnn& cudnn) {
  size_t num_anchor_operands = problem.graph.anchor == CudnnGraph::kAttention ? 3 : 2;
  CudnnProblem main = problem;
  main.graph.pointwise.clear();
  main.graph.operands.resize(num_anchor_operands);
  main.operands.resize(num_anchor_operands);
  main.graph.output.dtype = anchor_dtype;

  CudnnGraph epilogue;
  epilogue.output = problem.graph.output;
  epilogue.pointwise = problem.graph.pointwise;
  epilogue.operands = {main.graph.output};
  std::vector<int> inputs;
  for (size_t i = num_anchor_operands; i < problem.operands.size(); ++i) {
    epilogue.operands.push_back(problem.graph.operands[i]);
    inputs.push_back(problem.operands[i]);
  }
  int moved = static_cast<int>(num_anchor_operands) - 1;
  for (CudnnPointwise& node : epilogue.pointwise) node.operand -= moved;
  int64_t result_bytes = NumBytes(main.graph.output);
  if (is_bounded) main.graph.max_ws_bytes -= AlignUp(result_bytes);
  if (main.graph.max_ws_bytes < 0) return nullptr;
  epilogue.max_ws_bytes = main.graph.max_ws_bytes;
  std::shared_ptr<const CudnnPlan> main_plan = cudnn.FindPlan(main.graph);
  std::shared_ptr<const CudnnPlan> epilogue_plan = main_plan ? cudnn.FindPlan(epilogue) : nullptr;
  if (!epilogue_plan) return nullptr;
  return std::make_unique<CudnnStep>(std::move(main), std::move(main_plan),
                                     std::move(epilogue_plan), std::move(inputs), result_bytes);
}

}  // namespace

std::unique_ptr<CudaStep> PrepareCudnn(const CudaStepSite& site, CudaLibraries& libraries) {
  const Cudnn* cudnn = libraries.FindCudnn();
  if (cudnn == nullptr) return nullptr;
  std::optional<CudnnProblem> problem = FindCudnnProblem(site);
  if (!problem) return nullptr;
  std::shared_ptr<const CudnnPlan> plan;
  if (!problem->is_empty) {
    const Attr *engine = site.step->attrs.Find("engine"),
               *version = site.step->attrs.Find("version");
    bool known =
        engine != nullptr && version != nullptr && std::get<Dim>(*version) == Dim(cudnn->version());
    bool whole = site.step->attrs.Find("split") == nullptr || problem->graph.pointwise.empty();
    if (whole) plan = cudnn->FindPlan(problem->graph, known ? std::get<std::string>(*engine) : "");
    if (!plan && problem->graph.pointwise.empty()) return nullptr;
    if (!plan) {
      const Node& anchor = site.body.node(site.body.first_node());
      bool is_bounded = site.step->attrs.Find("workspace") != nullptr;
      return FindSplit(*problem, site.body.type(anchor.outputs[0]).dtype, is_bounded, *cudnn);
    }
  }
  return std::make_unique<CudnnStep>(std::move(*problem), std::move(plan), nullptr,
                                     std::vector<int>{}, 0);
}

}  // namespace stator
