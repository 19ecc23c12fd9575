#include "cpu/run/tape_step.h"

#include <algorithm>

#include "cpu/run/parallel.h"

namespace stator {
namespace {

class TapeStep final : public PreparedStep {
 public:
  TapeStep(BodyOperands operands, TileGrid grid, Tape tape, int64_t num_tasks)
      : operands_(std::move(operands)),
        grid_(std::move(grid)),
        tape_(std::move(tape)),
        num_tasks_(num_tasks) {}

  int64_t ws_bytes() const override { return num_tasks_ * tape_.ws_bytes(); }

  void Run(const StepArgs& args) const override {
    ParallelFor(num_tasks_, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) RunTask(args, task);
    });
  }

 private:
  void RunTask(const StepArgs& args, int64_t task) const {
    int64_t tile = grid_.num_tiles() * task / num_tasks_;
    int64_t end = grid_.num_tiles() * (task + 1) / num_tasks_;
    Tape::Frame frame = tape_.MakeFrame(args.ws + task * tape_.ws_bytes());
    operands_.SetPointers(args, frame.operands);
    tape_.Start(frame);
    TileWalk walk(grid_, frame.operands, tile);
    while (true) {
      tape_.Run(frame, walk.rows(), walk.columns());
      if (++tile == end) return;
      walk.Next();
    }
  }

  BodyOperands operands_;
  TileGrid grid_;
  Tape tape_;
  int64_t num_tasks_;
};

}  // namespace

Sizes FindDomain(std::span<const TensorRef> tensors) {
  Sizes domain;
  for (const TensorRef& tensor : tensors) {
    if (tensor.dims.size() > domain.size()) {
      domain.insert(domain.begin(), tensor.dims.size() - domain.size(), 1);
    }
    size_t lead = domain.size() - tensor.dims.size();
    for (size_t i = 0; i < tensor.dims.size(); ++i) {
      if (tensor.dims[i] != 1) domain[lead + i] = tensor.dims[i];
    }
  }
  return domain;
}

LoopNest MakeNestOf(const BodyOperands& operands, const Sizes& domain) {
  LoopNest nest{.dims = domain, .inner = std::vector<bool>(domain.size(), false)};
  for (const TensorRef& tensor : operands.tensors) {
    nest.strides.push_back(BroadcastStrides(tensor, domain));
  }
  return nest;
}

std::vector<TapeAccess> MakeAccesses(const LoopNest& nest, const TileShape& shape,
                                     const TileGrid& grid) {
  std::vector<TapeAccess> accesses;
  for (size_t k = 0; k < nest.strides.size(); ++k) {
    accesses.push_back({.row_stride = shape.row_dim < 0 ? 0 : nest.strides[k][shape.row_dim],
                        .column_stride = nest.strides[k][shape.column_dim],
                        .fixed = grid.IsFixed(k)});
  }
  return accesses;
}

std::vector<size_t> ElementSizes(const BodyOperands& operands) {
  std::vector<size_t> sizes;
  for (const TensorRef& tensor : operands.tensors) sizes.push_back(DTypeSize(tensor.dtype));
  return sizes;
}

int64_t ChooseTileElements(const BodyOperands& operands) {
  size_t num_streams = operands.tensors.size();
  return num_streams <= 6 ? 1024 : num_streams <= 12 ? 512 : 256;
}

int64_t ChooseNumTasks(int64_t num_element_ops, int64_t max_tasks) {
  constexpr int64_t kMinElementOps = 32 * 1024;  // a region costs a few microseconds
  if (num_element_ops < kMinElementOps) return 1;
  return std::clamp<int64_t>(NumThreads(), 1, std::max<int64_t>(max_tasks, 1));
}

std::unique_ptr<PreparedStep> MakeTapeStep(const StepSite& site, BodyOperands operands,
                                           const LoopNest& nest, const TileShape& shape) {
  TileGrid grid(nest, shape, ElementSizes(operands), false);
  if (!grid.fits()) return nullptr;
  std::optional<Tape> tape =
      MakeTape({.body = &site.body,
                .nodes = site.body.nodes(),
                .operands = &operands,
                .accesses = MakeAccesses(nest, shape, grid),
                .shape = shape,
                .whole_columns = shape.columns == nest.dims[shape.column_dim]});
  if (!tape) return nullptr;
  int64_t num_elements = 1;
  for (int64_t size : nest.dims) num_elements *= size;
  int64_t num_element_ops = num_elements * static_cast<int64_t>(tape->num_instrs());
  int64_t num_tasks = ChooseNumTasks(num_element_ops, grid.num_tiles());
  return std::make_unique<TapeStep>(std::move(operands), std::move(grid), std::move(*tape),
                                    num_tasks);
}

}  // namespace stator
