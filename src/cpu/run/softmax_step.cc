// PrepareSoftmax: softmax and log_softmax along any dim.
//
// Lines that are neighbours in memory go side by side as columns, in floats; others one by one.
// What does not lie densely or is no float is brought to a workspace and back.
#include <algorithm>

#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "cpu/run/tiles.h"
#include "cpu/simd/norm_kernels.h"
#include "cpu/simd/tape_kernels.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 4 * 1024;  // worth a parallel region
constexpr int64_t kMinColumns = 8;
constexpr int64_t kColumns = 64;  // of one task
constexpr int64_t kWsBytes = int64_t{1} << 20;

class SoftmaxStep final : public PreparedStep {
 public:
  explicit SoftmaxStep(const NodeSite& site)
      : x_(site.inputs[0]),
        y_(site.outputs[0]),
        size_(static_cast<int64_t>(DTypeSize(x_.ref.dtype))),
        load_(FindLoad(x_.ref.dtype)),
        store_(FindStore(x_.ref.dtype)) {
    const TensorRef &x = x_.ref, &y = y_.ref;
    std::string_view op = site.node->op->name;
    TapeClass tape_class = ClassOf(x.dtype);
    const int64_t axis[] = {site.node->attrs.GetInt("axis")};
    num_rows_ = x.dims[axis[0]];
    x_pitch_ = x.strides[axis[0]];
    y_pitch_ = y.strides[axis[0]];
    LoopNest nest{.dims = Drop(x.dims, axis),
                  .inner = std::vector<bool>(x.dims.size() - 1, false),
                  .strides = {Drop(x.strides, axis), Drop(y.strides, axis)}};
    nest = MakeLoopNest(std::move(nest), 1, false);
    int64_t register_bytes = static_cast<int64_t>(ClassSize(tape_class));
    bool fits = num_rows_ * kColumns * register_bytes <= kWsBytes;
    bool is_f32 = x.dtype == DType::kFloat32;
    x_step_ = nest.strides[0].back();
    y_step_ = nest.strides[1].back();
    is_direct_ = is_f32 && x_step_ == 1 && y_step_ == 1;
    if (tape_class == TapeClass::kF32 && x_pitch_ != 1 && nest.dims.back() >= kMinColumns &&
        (is_direct_ || fits)) {
      columns_ = GetSoftmaxColumns(op == "log_softmax");
      num_columns_ = nest.dims.back();
      nest.dims.pop_back();
      for (Sizes& strides : nest.strides) strides.pop_back();
      row_bytes_ = is_direct_ ? 0 : num_rows_ * kColumns * register_bytes;
    } else {
      row_ = FindRowMapKernel(op, tape_class);
      is_direct_ = is_f32 && x_pitch_ == 1 && y_pitch_ == 1;
      row_bytes_ = is_direct_ ? 0 : num_rows_ * register_bytes;
    }
    row_bytes_ = (row_bytes_ + 63) / 64 * 64;
    lines_ = OffsetGrid<2>(nest.dims, {nest.strides[0], nest.strides[1]});
    num_tasks_ = lines_.size() * num_blocks();
    bool is_parallel = x.num_elements() >= kMinElements;
    num_parts_ = is_parallel ? std::min<int64_t>(NumThreads(), num_tasks_) : 1;
  }

  int64_t ws_bytes() const override { return num_parts_ * row_bytes_; }

  void Run(const StepArgs& args) const override {
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        std::byte* ws = args.ws + part * row_bytes_;
        int64_t first = num_tasks_ * part / num_parts_;
        int64_t last = num_tasks_ * (part + 1) / num_parts_;
        columns_ != nullptr ? RunColumns(args, ws, first, last) : RunRows(args, ws, first, last);
      }
    });
  }

 private:
  int64_t num_blocks() const {
    return columns_ != nullptr ? (num_columns_ + kColumns - 1) / kColumns : 1;
  }

  void RunRows(const StepArgs& args, std::byte* ws, int64_t begin, int64_t end) const {
    const std::byte* x = x_.Find(args);
    std::byte* y = y_.Find(args);
    lines_.Walk(begin, end, [&](int64_t, const auto& at) {
      const std::byte* from = x + at[0] * size_;
      std::byte* to = y + at[1] * size_;
      if (is_direct_) {
        row_(to, from, nullptr, nullptr, nullptr, num_rows_);
        return;
      }
      load_(ws, from, x_pitch_, num_rows_);
      row_(ws, ws, nullptr, nullptr, nullptr, num_rows_);
      store_(to, ws, y_pitch_, num_rows_);
    });
  }

  void RunColumns(const StepArgs& args, std::byte* ws, int64_t begin, int64_t end) const {
    const std::byte* x = x_.Find(args);
    std::byte* y = y_.Find(args);
    float* tile = reinterpret_cast<float*>(ws);
    for (int64_t task = begin; task < end; ++task) {
      int64_t line = task / num_blocks(), first = task % num_blocks() * kColumns;
      int64_t num = std::min(kColumns, num_columns_ - first);
      lines_.Walk(line, line + 1, [&](int64_t, const auto& at) {
        const std::byte* from = x + (at[0] + first * x_step_) * size_;
        std::byte* to = y + (at[1] + first * y_step_) * size_;
        if (is_direct_) {
          columns_(reinterpret_cast<const float*>(from), x_pitch_, reinterpret_cast<float*>(to),
                   y_pitch_, num_rows_, num);
          return;
        }
        for (int64_t r = 0; r < num_rows_; ++r) {
          load_(tile + r * kColumns, from + r * x_pitch_ * size_, x_step_, num);
        }
        columns_(tile, kColumns, tile, kColumns, num_rows_, num);
        for (int64_t r = 0; r < num_rows_; ++r) {
          store_(to + r * y_pitch_ * size_, tile + r * kColumns, y_step_, num);
        }
      });
    }
  }

  NodeInput x_;
  NodeOutput y_;
  int64_t size_;  // of an element
  TapeLoad load_;
  TapeStore store_;
  SoftmaxColumns columns_ = nullptr;
  TapeKernel row_ = nullptr;  // where there are no columns
  bool is_direct_ = false;
  int64_t num_rows_ = 0, x_pitch_ = 0, y_pitch_ = 0;  // along the softmax's dim
  int64_t num_columns_ = 0, x_step_ = 0, y_step_ = 0;
  int64_t row_bytes_ = 0, num_tasks_ = 0, num_parts_ = 1;
  OffsetGrid<2> lines_;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareSoftmax(const NodeSite& site) {
  return std::make_unique<SoftmaxStep>(site);
}

}  // namespace stator
