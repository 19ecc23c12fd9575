// PrepareReduce: tiles of the reduction's input are computed on a tape and reduced in cache, their
// partial results added up in wide accumulators.
//
// The columns of a tile lie along memory. Where they are reduced, each row of a tile gives one
// partial result; where they are kept, each column does. A group is what shares accumulators: all
// tiles along reduced dims. Few groups are split into parts, so that all threads have work.
#include <algorithm>

#include "cpu/run/node_step.h"
#include "cpu/run/parallel.h"
#include "cpu/run/split_step.h"
#include "cpu/run/tape_step.h"
#include "cpu/simd/accumulate.h"
#include "cpu/simd/half_folds.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// A reduction node and how it is computed.
struct Reduction {
  Graph body;  // the nodes before it; any and all see bools
  ValueId input;
  std::string_view op;  // "sum", "prod", "amax" or "amin"
  bool is_mean = false;
  Sizes axes;
  bool keepdim = false;
};

// Empty when the body is not pointwise nodes and then one reduction that can be accumulated.
std::optional<Reduction> FindReduction(const StepSite& site) {
  std::vector<NodeId> nodes = site.body.nodes();
  if (nodes.empty() || site.body.outputs().size() != 1) return std::nullopt;
  const Node& node = site.body.node(nodes.back());
  bool fits = node.op->Is(kReduction) && node.outputs[0] == site.body.outputs()[0] &&
              std::all_of(nodes.begin(), nodes.end() - 1,
                          [&](NodeId id) { return site.body.node(id).op->Is(kPointwise); });
  if (!fits) return std::nullopt;
  Reduction reduction{.body = site.body,
                      .input = node.inputs[0],
                      .op = node.op->name,
                      .axes = node.attrs.GetInts("axes"),
                      .keepdim = node.attrs.GetBool("keepdim")};
  if (reduction.op == "mean") {
    reduction.op = "sum";
    reduction.is_mean = true;
  }
  bool is_logic = reduction.op == "any" || reduction.op == "all";
  if (is_logic) {
    reduction.op = reduction.op == "any" ? "amax" : "amin";
    NodeId cast =
        reduction.body.AddNode(GetOp("cast"), {reduction.input}, {{"dtype", DType::kBool}});
    reduction.input = reduction.body.node(cast).outputs[0];
  }
  return reduction;
}

// The reduction's nodes that a tape computes: all but the reduction.
std::vector<NodeId> TapeNodes(const Reduction& reduction) {
  std::vector<NodeId> nodes = reduction.body.nodes();
  std::erase_if(nodes, [&](NodeId id) { return reduction.body.node(id).op->Is(kReduction); });
  return nodes;
}

// The output's strides on the domain: 0 along reduced dims.
Sizes OutputStrides(const Reduction& reduction, const TensorRef& output, size_t rank) {
  Sizes strides(rank, 0);
  size_t next = 0;
  for (size_t dim = 0; dim < rank; ++dim) {
    bool reduced = std::find(reduction.axes.begin(), reduction.axes.end(),
                             static_cast<int64_t>(dim)) != reduction.axes.end();
    if (!reduced) strides[dim] = output.strides[next];
    if (!reduced || reduction.keepdim) ++next;
  }
  return strides;
}

// Columns along the last dim. Rows along the dim before it when columns are reduced, along the
// innermost reduced dim when they are kept: few, since their sums are plain.
TileShape ChooseReduceShape(const LoopNest& nest, int64_t num_elements) {
  constexpr int64_t kMaxKeptColumns = 256, kMaxRowsSummed = 64;
  int last = static_cast<int>(nest.dims.size()) - 1;
  bool columns_reduced = nest.inner[last];
  TileShape shape{.column_dim = last};
  int64_t limit = columns_reduced ? num_elements : kMaxKeptColumns;
  int64_t num_blocks = (nest.dims[last] + limit - 1) / limit;
  shape.columns = (nest.dims[last] + num_blocks - 1) / num_blocks;
  if (num_blocks > 1) shape.columns = (shape.columns + 15) / 16 * 16;
  int row_dim = last - 1;
  while (!columns_reduced && row_dim >= 0 && !nest.inner[row_dim]) --row_dim;
  if (row_dim < 0 || (columns_reduced && num_blocks > 1)) return shape;
  int64_t max_rows = std::max<int64_t>(num_elements / shape.columns, 1);
  if (!columns_reduced) max_rows = std::min(max_rows, kMaxRowsSummed);
  shape.rows = std::min(max_rows, nest.dims[row_dim]);
  if (shape.rows > 1) shape.row_dim = row_dim;
  return shape;
}

class ReduceStep final : public PreparedStep {
 public:
  struct Parts {
    BodyOperands operands;
    TileGrid grid;
    std::optional<Tape> tape;
    // Where a tile to reduce lies: a register after a run, or the operand itself.
    TapeInstr::Place input;
    int64_t pitch = -1;        // elements between rows; -1: the tile's columns
    int64_t partial_size = 4;  // bytes of a partial result
    bool columns_reduced = false, rows_reduced = false;
    TapeKernel reduce_row = nullptr;
    ColumnKernel reduce_columns = nullptr;
    Accumulate accumulate;
    TileShape shape;
    int64_t output_stride = 0;  // along the kept side of a tile
    double divisor = 1;
    int64_t num_element_ops = 0;
  };

  explicit ReduceStep(Parts parts) : parts_(std::move(parts)) {
    num_tiles_ = parts_.grid.num_inner_tiles();
    num_groups_ = parts_.grid.num_tiles() / num_tiles_;
    num_tasks_ = ChooseNumTasks(parts_.num_element_ops, parts_.grid.num_tiles());
    bool is_split = num_groups_ < 4 * num_tasks_ && num_tiles_ >= num_tasks_;
    num_splits_ = is_split ? num_tasks_ : 1;
    num_tasks_ = std::min(num_tasks_, num_groups_ * num_splits_);
    int64_t longest = std::max(parts_.shape.rows, parts_.shape.columns);
    acc_bytes_ = (longest * kAccumulatorBytes + 63) / 64 * 64;
    task_bytes_ = parts_.tape->ws_bytes() + acc_bytes_;
  }

  // Per task a frame and partial results; then accumulators, one set per part when groups are
  // split, else one per task.
  int64_t ws_bytes() const override {
    int64_t num_accs = num_splits_ > 1 ? num_groups_ * num_splits_ : num_tasks_;
    return num_tasks_ * task_bytes_ + num_accs * acc_bytes_;
  }

  void Run(const StepArgs& args) const override {
    ParallelFor(num_tasks_, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) RunTask(args, task);
    });
    if (num_splits_ == 1) return;
    for (int64_t group = 0; group < num_groups_; ++group) {
      std::byte* acc = AccAt(args, group * num_splits_);
      Kept kept = FindKept(args, group);
      for (int64_t split = 1; split < num_splits_; ++split) {
        parts_.accumulate.merge(acc, AccAt(args, group * num_splits_ + split), kept.count);
      }
      Finish(acc, kept);
    }
  }

 private:
  // The outputs of a group.
  struct Kept {
    std::byte* output;
    int64_t count;
  };

  std::byte* AccAt(const StepArgs& args, int64_t i) const {
    return args.ws + num_tasks_ * task_bytes_ + i * acc_bytes_;
  }

  int64_t KeptCount(int64_t rows, int64_t columns) const {
    if (!parts_.columns_reduced) return columns;
    return parts_.rows_reduced ? 1 : rows;
  }

  Kept FindKept(const StepArgs& args, int64_t group) const {
    Tape::Frame frame = parts_.tape->MakeFrame(args.ws);
    parts_.operands.SetPointers(args, frame.operands);
    TileWalk walk(parts_.grid, frame.operands, group * num_tiles_);
    return {frame.operands.back(), KeptCount(walk.rows(), walk.columns())};
  }

  void Finish(const std::byte* acc, const Kept& kept) const {
    parts_.accumulate.finish(acc, kept.output, parts_.output_stride, kept.count, parts_.divisor);
  }

  void RunTask(const StepArgs& args, int64_t task) const {
    int64_t num_parts = num_groups_ * num_splits_;
    int64_t end = num_parts * (task + 1) / num_tasks_;
    for (int64_t part = num_parts * task / num_tasks_; part < end; ++part) {
      RunPart(args, task, part);
    }
  }

  // Some of a group's tiles, into its accumulators; all of them, into the output too.
  void RunPart(const StepArgs& args, int64_t task, int64_t part) const {
    std::byte* ws = args.ws + task * task_bytes_;
    std::byte* partial = ws + parts_.tape->ws_bytes();
    std::byte* acc = AccAt(args, num_splits_ > 1 ? part : task);
    int64_t group = part / num_splits_, split = part % num_splits_;
    int64_t tile = num_tiles_ * split / num_splits_, end = num_tiles_ * (split + 1) / num_splits_;

    Tape::Frame frame = parts_.tape->MakeFrame(ws);
    parts_.operands.SetPointers(args, frame.operands);
    parts_.tape->Start(frame);
    TileWalk walk(parts_.grid, frame.operands, group * num_tiles_ + tile);
    Kept kept{frame.operands.back(), KeptCount(walk.rows(), walk.columns())};
    parts_.accumulate.reset(acc, kept.count);
    while (true) {
      parts_.tape->Run(frame, walk.rows(), walk.columns());
      ReduceTile(frame.slots[parts_.input.slot], partial, acc, walk.rows(), walk.columns());
      if (++tile == end) break;
      walk.Next();
    }
    if (num_splits_ == 1) Finish(acc, kept);
  }

  void ReduceTile(const std::byte* input, std::byte* partial, std::byte* acc, int64_t rows,
                  int64_t columns) const {
    int64_t pitch = parts_.pitch < 0 ? columns : parts_.pitch;
    if (!parts_.columns_reduced) {
      parts_.reduce_columns(partial, input, pitch, rows, columns);
      parts_.accumulate.fold(acc, partial, columns);
      return;
    }
    if (parts_.rows_reduced && pitch == columns) {
      columns *= rows;
      rows = 1;
    }
    constexpr double kNoParams[2] = {};
    for (int64_t row = 0; row < rows; ++row) {
      std::byte* of_row = partial + row * parts_.partial_size;
      parts_.reduce_row(of_row, input + row * pitch * parts_.input.size, nullptr, nullptr,
                        kNoParams, columns);
      if (parts_.rows_reduced) parts_.accumulate.fold(acc, of_row, 1);
    }
    if (!parts_.rows_reduced) parts_.accumulate.fold(acc, partial, rows);
  }

  Parts parts_;
  int64_t num_tiles_, num_groups_, num_splits_, num_tasks_;  // num_tiles_: of a group
  int64_t acc_bytes_, task_bytes_;
};

// The operand whose layout decides the order of loops: the largest.
size_t FindLead(const BodyOperands& operands) {
  size_t lead = 0;
  for (size_t k = 1; k < operands.first_output; ++k) {
    if (operands.tensors[k].num_elements() > operands.tensors[lead].num_elements()) lead = k;
  }
  return lead;
}

// The operand that is reduced as it lies in memory, when nothing is computed before, its columns
// are contiguous, and there are kernels for its type.
std::optional<size_t> FindOperandInPlace(const TapeSite& site, std::string_view op) {
  for (size_t k = 0; k < site.operands->first_output && site.nodes.empty(); ++k) {
    bool is_contiguous = site.accesses[k].column_stride == 1 || site.shape.columns == 1;
    DType dtype = site.operands->tensors[k].dtype;
    bool is_native = DTypeSize(dtype) == ClassSize(ClassOf(dtype));
    bool has_kernels = is_native || FindHalfFolds(op, dtype).row != nullptr;
    if (site.operands->values[k] == site.result && is_contiguous && has_kernels) return k;
  }
  return std::nullopt;
}

// The operands on the reduction's domain, reduced dims marked; empty when the domain has no
// elements or is not what the inputs broadcast to.
std::optional<LoopNest> FindNest(const Reduction& reduction, const BodyOperands& operands) {
  std::span<const TensorRef> sources(operands.tensors.data(), operands.first_output);
  Sizes domain = FindDomain(sources);
  bool is_empty = std::find(domain.begin(), domain.end(), 0) != domain.end();
  int rank = reduction.body.type(reduction.input).rank();
  if (is_empty || static_cast<int>(domain.size()) != rank) return std::nullopt;
  LoopNest nest{.dims = domain, .inner = std::vector<bool>(domain.size(), false)};
  for (const TensorRef& source : sources) nest.strides.push_back(BroadcastStrides(source, domain));
  nest.strides.push_back(OutputStrides(reduction, operands.tensors.back(), domain.size()));
  for (int64_t axis : reduction.axes) nest.inner[axis] = true;
  return nest;
}

int64_t CountElements(const LoopNest& nest, bool inner_only) {
  int64_t count = 1;
  for (size_t dim = 0; dim < nest.dims.size(); ++dim) {
    if (nest.inner[dim] || !inner_only) count *= nest.dims[dim];
  }
  return count;
}

// Sets how a tile is computed and where it then lies; false when no tape can, or when the tile is
// the same along one of its sides.
bool FindTileInput(const Reduction& reduction, const LoopNest& nest, ReduceStep::Parts& parts) {
  const TileShape& shape = parts.shape;
  TapeSite site{.body = &reduction.body,
                .nodes = TapeNodes(reduction),
                .operands = &parts.operands,
                .accesses = MakeAccesses(nest, shape, parts.grid),
                .shape = shape,
                .whole_columns = shape.columns == nest.dims[shape.column_dim],
                .store_outputs = false,
                .result = reduction.input};
  std::optional<size_t> in_place = FindOperandInPlace(site, reduction.op);
  if (in_place) {
    size_t size = DTypeSize(parts.operands.tensors[*in_place].dtype);
    parts.input = {.slot = static_cast<int>(*in_place), .size = static_cast<uint8_t>(size)};
    parts.pitch = site.accesses[*in_place].row_stride;
    site.result = {};
  }
  parts.tape = MakeTape(site);
  if (!parts.tape || in_place) return parts.tape.has_value();
  parts.input = parts.tape->result();
  return (parts.input.extent & kColumn || shape.columns == 1) &&
         (parts.input.extent & kRow || shape.rows == 1);
}

std::unique_ptr<PreparedStep> PrepareOnTape(const StepSite& site) {
  std::optional<Reduction> reduction = FindReduction(site);
  if (!reduction || reduction->axes.empty()) return nullptr;
  ReduceStep::Parts parts{.operands = FindOperands(site)};
  std::optional<LoopNest> found = FindNest(*reduction, parts.operands);
  if (!found) return nullptr;
  LoopNest nest = MakeLoopNest(std::move(*found), FindLead(parts.operands), false);

  // What is read where it lies needs no room in registers.
  bool computes = !TapeNodes(*reduction).empty();
  parts.shape = ChooseReduceShape(nest, computes ? ChooseTileElements(parts.operands) : 4096);
  parts.grid = TileGrid(nest, parts.shape, ElementSizes(parts.operands), true);
  if (!parts.grid.fits() || !FindTileInput(*reduction, nest, parts)) return nullptr;

  TapeClass tape_class = ClassOf(reduction->body.type(reduction->input).dtype);
  parts.accumulate = FindAccumulate(reduction->op, tape_class, site.outputs[0].dtype);
  if (parts.accumulate.reset == nullptr) return nullptr;
  parts.partial_size = static_cast<int64_t>(ClassSize(tape_class));
  HalfFolds halves;
  if (parts.input.size == 2) {
    halves = FindHalfFolds(reduction->op, reduction->body.type(reduction->input).dtype);
  }
  bool are_halves = halves.row != nullptr;
  parts.reduce_row = are_halves ? halves.row : FindRowReduceKernel(reduction->op, tape_class);
  parts.reduce_columns = are_halves ? halves.columns : FindColumnKernel(reduction->op, tape_class);
  parts.columns_reduced = nest.inner[parts.shape.column_dim];
  parts.rows_reduced = parts.shape.row_dim < 0 || nest.inner[parts.shape.row_dim];
  int kept_dim = parts.columns_reduced ? parts.shape.row_dim : parts.shape.column_dim;
  if (kept_dim >= 0) parts.output_stride = nest.strides.back()[kept_dim];
  if (reduction->is_mean) parts.divisor = static_cast<double>(CountElements(nest, true));
  parts.num_element_ops =
      CountElements(nest, false) * (1 + static_cast<int64_t>(parts.tape->num_instrs()));
  return std::make_unique<ReduceStep>(std::move(parts));
}

}  // namespace

namespace {

// What has no partial results (argmax, var) alone, behind the pointwise nodes before it.
std::unique_ptr<PreparedStep> PrepareSplit(const StepSite& site) {
  std::vector<NodeId> nodes = site.body.nodes();
  if (nodes.empty() || !HasNodeKernel(site.body.node(nodes.back()).op->name)) {
    return PrepareReference(site);
  }
  if (nodes.size() == 1) return PrepareNode(site);
  return MakeSplit(site, nodes.size() - 1, PreparePointwise, PrepareNode);
}

}  // namespace

std::unique_ptr<PreparedStep> PrepareReduce(const StepSite& site) {
  std::unique_ptr<PreparedStep> step = PrepareOnTape(site);
  return step != nullptr ? std::move(step) : PrepareSplit(site);
}

}  // namespace stator
