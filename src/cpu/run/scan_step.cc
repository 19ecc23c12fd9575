// PrepareScan: running sums, products and extrema along one dim.
//
// For sums and products, lines that are neighbours in memory go side by side as columns; others, a
// few at a time. For the rest, line by line.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "cpu/simd/scan_kernels.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 16 * 1024;  // worth a parallel region

class ScanStep final : public PreparedStep {
 public:
  explicit ScanStep(const NodeSite& site) : x_(site.inputs[0]), y_(site.outputs[0]) {
    const TensorRef &x = x_.ref, &y = y_.ref;
    int64_t dim = site.node->attrs.GetInt("dim");
    size_ = static_cast<int64_t>(DTypeSize(x.dtype));
    kernel_ = GetScanKernel(x.dtype);
    shape_ = {.is_product = site.node->op->name == "cumprod",
              .size = x.dims[dim],
              .x_step = x.strides[dim],
              .y_step = y.strides[dim]};
    std::vector<int64_t> axes = {dim};
    if (std::optional<int64_t> columns = FindColumns(dim)) {
      axes.push_back(*columns);
      num_columns_ = x.dims[*columns];
    }
    lines_ = OffsetGrid<2>(Drop(x.dims, axes), {Drop(x.strides, axes), Drop(y.strides, axes)});
    is_parallel_ = x.num_elements() >= kMinElements;
  }

  void Run(const StepArgs& args) const override {
    bool by_columns = num_columns_ > 0;
    int64_t per_line = by_columns ? (num_columns_ + kScanColumns - 1) / kScanColumns : 1;
    int64_t num_tasks =
        by_columns ? lines_.size() * per_line : (lines_.size() + kScanLines - 1) / kScanLines;
    auto run = [&](int64_t begin, int64_t end) {
      by_columns ? RunColumns(args, per_line, begin, end) : RunLines(args, begin, end);
    };
    is_parallel_ ? ParallelFor(num_tasks, run) : run(0, num_tasks);
  }

 private:
  // The dim whose elements are neighbours in both tensors.
  std::optional<int64_t> FindColumns(int64_t dim) const {
    constexpr int64_t kMinColumns = 8;
    for (int64_t i = x_.ref.rank(); i-- > 0;) {
      bool neighbours = x_.ref.strides[i] == 1 && y_.ref.strides[i] == 1;
      if (i != dim && neighbours && x_.ref.dims[i] >= kMinColumns) return i;
    }
    return std::nullopt;
  }

  void RunColumns(const StepArgs& args, int64_t per_line, int64_t begin, int64_t end) const {
    const std::byte* x = x_.Find(args);
    std::byte* y = y_.Find(args);
    for (int64_t task = begin; task < end; ++task) {
      int64_t first = task % per_line * kScanColumns, line = task / per_line;
      int64_t num = std::min(kScanColumns, num_columns_ - first);
      lines_.Walk(line, line + 1, [&](int64_t, const auto& at) {
        kernel_.columns(shape_, x + (at[0] + first) * size_, y + (at[1] + first) * size_, num);
      });
    }
  }

  void RunLines(const StepArgs& args, int64_t begin, int64_t end) const {
    std::array<int64_t, kScanLines> x_offsets, y_offsets;
    int64_t num = 0, last = std::min(end * kScanLines, lines_.size());
    lines_.Walk(begin * kScanLines, last, [&](int64_t index, const auto& at) {
      x_offsets[num] = at[0];
      y_offsets[num++] = at[1];
      if (num < kScanLines && index + 1 < last) return;
      kernel_.lines(shape_, x_.Find(args), y_.Find(args), x_offsets.data(), y_offsets.data(), num);
      num = 0;
    });
  }

  NodeInput x_;
  NodeOutput y_;
  ScanKernel kernel_;
  ScanShape shape_;
  OffsetGrid<2> lines_;
  int64_t size_ = 0, num_columns_ = 0;
  bool is_parallel_ = false;
};

// cummax, cummin, logcumsumexp: as their reference kernels do, lines over threads.
class LineScanStep final : public PreparedStep {
 public:
  explicit LineScanStep(const NodeSite& site)
      : x_(site.inputs[0]), y_(site.outputs[0]), op_(site.node->op->name) {
    const TensorRef& x = x_.ref;
    const int64_t axes[] = {site.node->attrs.GetInt("dim")};
    if (site.outputs.size() > 1) places_ = site.outputs[1];
    size_ = x.dims[axes[0]];
    Sizes none(x.dims.size(), 0);
    const Sizes& y_strides = y_.is_read() ? y_.ref.strides : none;
    const Sizes& place_strides = places_.is_read() ? places_.ref.strides : none;
    x_step_ = x.strides[axes[0]];
    y_step_ = y_strides[axes[0]];
    place_step_ = place_strides[axes[0]];
    lines_ = OffsetGrid<3>(Drop(x.dims, axes), {Drop(x.strides, axes), Drop(y_strides, axes),
                                                Drop(place_strides, axes)});
    constexpr int64_t kMinLogs = 1024;
    is_parallel_ = x.num_elements() >= (op_ == "logcumsumexp" ? kMinLogs : kMinElements);
  }

  void Run(const StepArgs& args) const override {
    auto run = [&](int64_t begin, int64_t end) {
      DispatchDType(x_.ref.dtype, [&](auto zero) { RunLines<decltype(zero)>(args, begin, end); });
    };
    is_parallel_ ? ParallelFor(lines_.size(), run) : run(0, lines_.size());
  }

 private:
  template <typename T>
  void RunLines(const StepArgs& args, int64_t begin, int64_t end) const {
    const T* x = reinterpret_cast<const T*>(x_.Find(args));
    T* y = y_.is_read() ? reinterpret_cast<T*>(y_.Find(args)) : nullptr;
    int64_t* places = places_.is_read() ? reinterpret_cast<int64_t*>(places_.Find(args)) : nullptr;
    lines_.Walk(begin, end, [&](int64_t, const auto& at) {
      const T* from = x + at[0];
      if (op_ == "logcumsumexp") {
        if constexpr (scalar::kIsFloatElement<T>) AddExponentials(from, y + at[1]);
      } else if (op_ == "cummax") {
        Extremes<true>(from, y, at[1], places, at[2]);
      } else {
        Extremes<false>(from, y, at[1], places, at[2]);
      }
    });
  }

  template <typename T>
  void AddExponentials(const T* x, T* y) const {
    double sum = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < size_; ++i) {
      double value = ToAccumulator(x[i * x_step_]);
      double low = std::min(sum, value), high = std::max(sum, value);
      if (value != value || sum != sum) {
        sum = std::numeric_limits<double>::quiet_NaN();
      } else if (low != high || std::isfinite(low)) {
        sum = high + std::log1p(std::exp(low - high));
      }
      y[i * y_step_] = scalar::CastTo<T>(sum);
    }
  }

  template <bool largest, typename T>
  void Extremes(const T* x, T* y, int64_t y_at, int64_t* places, int64_t place_at) const {
    T best = x[0];
    auto held = scalar::ToCompute(best);
    int64_t place = 0;
    for (int64_t i = 0; i < size_; ++i) {
      auto value = scalar::ToCompute(x[i * x_step_]);
      if (value != value || (held == held && (largest ? value >= held : value <= held))) {
        best = x[i * x_step_];
        held = value;
        place = i;
      }
      if (y != nullptr) y[y_at + i * y_step_] = best;
      if (places != nullptr) places[place_at + i * place_step_] = place;
    }
  }

  NodeInput x_;
  NodeOutput y_, places_;
  std::string_view op_;
  OffsetGrid<3> lines_;
  int64_t size_ = 0, x_step_ = 0, y_step_ = 0, place_step_ = 0;
  bool is_parallel_ = false;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareScan(const NodeSite& site) {
  if (site.node->op->name == "cumsum" || site.node->op->name == "cumprod") {
    return std::make_unique<ScanStep>(site);
  }
  return std::make_unique<LineScanStep>(site);
}

}  // namespace stator
