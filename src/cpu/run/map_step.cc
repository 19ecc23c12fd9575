// PrepareMap: pad, flip, tril and triu.
//
// For pad and flip, each dim has a table of where its positions come from in x; rows along the dim
// that is densest in the output are copied as one run but for what the run leaves out at its ends.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "ops/indexing.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 32 * 1024;  // worth a parallel region
constexpr int64_t kOutside = -1;

// Positions in x for those along each dim of y; kOutside where y holds a constant.
std::vector<Sizes> FindSources(const NodeSite& site) {
  const TensorRef &x = site.inputs[0].ref, &y = site.outputs[0].ref;
  const Attrs& attrs = site.node->attrs;
  std::vector<Sizes> sources;
  Sizes pads, axes;
  if (site.node->op->name == "pad") {
    pads = attrs.GetInts("pads");
  } else {
    axes = attrs.GetInts("axes");
  }
  for (int64_t d = 0; d < y.rank(); ++d) {
    if (!pads.empty()) {
      sources.push_back(PadSources(x.dims[d], pads[2 * d], y.dims[d], attrs.GetString("mode")));
      continue;
    }
    bool flipped = std::ranges::find(axes, d) != axes.end();
    Sizes& source = sources.emplace_back(y.dims[d]);
    for (int64_t i = 0; i < y.dims[d]; ++i) source[i] = flipped ? y.dims[d] - 1 - i : i;
  }
  return sources;
}

class MapStep final : public PreparedStep {
 public:
  explicit MapStep(const NodeSite& site) : x_(site.inputs[0]), y_(site.outputs[0]) {
    const TensorRef& y = y_.ref;
    std::vector<Sizes> sources = FindSources(site);
    size_t inner = 0;
    for (size_t d = 0; d < y.dims.size(); ++d) {
      if (y.strides[d] <= y.strides[inner]) inner = d;
    }
    for (size_t d = 0; d < y.dims.size(); ++d) {
      if (d != inner) outer_.push_back({std::move(sources[d]), x_.ref.strides[d], y.strides[d]});
    }
    if (!y.dims.empty())
      inner_ = {std::move(sources[inner]), x_.ref.strides[inner], y.strides[inner]};
    if (y.dims.empty()) inner_ = {{0}, 1, 1};
    FindRun();
    num_rows_ = y.num_elements() / static_cast<int64_t>(inner_.sources.size());
    is_parallel_ = y.num_elements() >= kMinElements;
    const Attr* value = site.node->attrs.Find("value");
    if (value == nullptr) return;
    DispatchDType(y.dtype, [&](auto zero) {
      auto constant = scalar::CastTo<decltype(zero)>(std::get<double>(*value));
      std::memcpy(&constant_, &constant, sizeof(constant));
    });
  }

  void Run(const StepArgs& args) const override {
    auto run = [&](int64_t begin, int64_t end) {
      DispatchSize(y_.ref.dtype,
                   [&](auto element) { RunRows<decltype(element)>(args, begin, end); });
    };
    is_parallel_ ? ParallelFor(num_rows_, run) : run(0, num_rows_);
  }

 private:
  struct Dimension {
    Sizes sources;
    int64_t x_stride = 0, y_stride = 0;
  };

  // The longest stretch along the inner dim that reads x in order.
  void FindRun() {
    const Sizes& sources = inner_.sources;
    int64_t size = static_cast<int64_t>(sources.size());
    for (int64_t first = 0; first < size;) {
      int64_t last = first + 1;
      if (sources[first] == kOutside) {
        first = last;
        continue;
      }
      while (last < size && sources[last] == sources[last - 1] + 1) ++last;
      if (last - first > run_last_ - run_first_) {
        run_first_ = first;
        run_last_ = last;
      }
      first = last;
    }
  }

  template <typename T>
  void RunRows(const StepArgs& args, int64_t begin, int64_t end) const {
    T constant;
    std::memcpy(&constant, &constant_, sizeof(T));
    for (int64_t row = begin; row < end; ++row) {
      int64_t rest = row, from = 0, to = 0;
      bool inside = true;
      for (size_t d = outer_.size(); d-- > 0;) {
        const Dimension& dim = outer_[d];
        int64_t size = static_cast<int64_t>(dim.sources.size()), i = rest % size;
        rest /= size;
        inside = inside && dim.sources[i] != kOutside;
        from += dim.sources[i] * dim.x_stride;
        to += i * dim.y_stride;
      }
      T* y = reinterpret_cast<T*>(y_.Find(args)) + to;
      if (inside) {
        CopyRow(reinterpret_cast<const T*>(x_.Find(args)) + from, y, constant);
      } else {
        Fill(y, 0, static_cast<int64_t>(inner_.sources.size()), constant);
      }
    }
  }

  template <typename T>
  void CopyRow(const T* x, T* y, T constant) const {
    int64_t x_step = inner_.x_stride, y_step = inner_.y_stride;
    auto copy_each = [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        int64_t source = inner_.sources[i];
        y[i * y_step] = source == kOutside ? constant : x[source * x_step];
      }
    };
    copy_each(0, run_first_);
    if (run_last_ > run_first_) {
      const T* from = x + inner_.sources[run_first_] * x_step;
      T* to = y + run_first_ * y_step;
      int64_t n = run_last_ - run_first_;
      if (x_step == 1 && y_step == 1) {
        std::copy_n(from, n, to);
      } else {
        for (int64_t i = 0; i < n; ++i) to[i * y_step] = from[i * x_step];
      }
    }
    copy_each(run_last_, static_cast<int64_t>(inner_.sources.size()));
  }

  template <typename T>
  void Fill(T* y, int64_t first, int64_t last, T constant) const {
    if (inner_.y_stride == 1) {
      std::fill(y + first, y + last, constant);
      return;
    }
    for (int64_t i = first; i < last; ++i) y[i * inner_.y_stride] = constant;
  }

  NodeInput x_;
  NodeOutput y_;
  std::vector<Dimension> outer_;
  Dimension inner_;
  uint64_t constant_ = 0;  // as bytes of an element
  int64_t run_first_ = 0, run_last_ = 0, num_rows_ = 0;
  bool is_parallel_ = false;
};

class TriangleStep final : public PreparedStep {
 public:
  explicit TriangleStep(const NodeSite& site)
      : x_(site.inputs[0]),
        y_(site.outputs[0]),
        diagonal_(site.node->attrs.GetInt("diagonal")),
        is_upper_(site.node->op->name == "triu") {
    const TensorRef &x = x_.ref, &y = y_.ref;
    const int64_t axes[] = {static_cast<int64_t>(y.dims.size()) - 1};
    rows_ = OffsetGrid<2>(Drop(y.dims, axes), {Drop(x.strides, axes), Drop(y.strides, axes)});
    is_parallel_ = y.num_elements() >= kMinElements;
  }

  void Run(const StepArgs& args) const override {
    auto run = [&](int64_t begin, int64_t end) {
      DispatchSize(y_.ref.dtype,
                   [&](auto element) { RunRows<decltype(element)>(args, begin, end); });
    };
    is_parallel_ ? ParallelFor(rows_.size(), run) : run(0, rows_.size());
  }

 private:
  template <typename T>
  void RunRows(const StepArgs& args, int64_t begin, int64_t end) const {
    const T* x = reinterpret_cast<const T*>(x_.Find(args));
    T* y = reinterpret_cast<T*>(y_.Find(args));
    int64_t size = y_.ref.dims.back(), num_rows = y_.ref.dims[y_.ref.dims.size() - 2];
    int64_t x_step = x_.ref.strides.back(), y_step = y_.ref.strides.back();
    rows_.Walk(begin, end, [&](int64_t row, const auto& at) {
      // Kept: from the diagonal on, or up to it.
      int64_t edge = std::clamp<int64_t>(row % num_rows + diagonal_ + (is_upper_ ? 0 : 1), 0, size);
      int64_t first = is_upper_ ? edge : 0, last = is_upper_ ? size : edge;
      const T* from = x + at[0];
      T* to = y + at[1];
      for (int64_t i = 0; i < first; ++i) to[i * y_step] = T{0};
      for (int64_t i = first; i < last; ++i) to[i * y_step] = from[i * x_step];
      for (int64_t i = last; i < size; ++i) to[i * y_step] = T{0};
    });
  }

  NodeInput x_;
  NodeOutput y_;
  OffsetGrid<2> rows_;
  int64_t diagonal_;
  bool is_upper_, is_parallel_ = false;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareMap(const NodeSite& site) {
  bool is_triangle = site.node->op->name == "tril" || site.node->op->name == "triu";
  if (is_triangle) return std::make_unique<TriangleStep>(site);
  return std::make_unique<MapStep>(site);
}

}  // namespace stator
