// PrepareSearch: argmax and argmin along one dim.
//
// Lines that are neighbours in memory go side by side as columns; others one by one.
#include <algorithm>
#include <array>

#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "cpu/simd/search_kernels.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 32 * 1024;     // worth a parallel region
constexpr int64_t kMaxLine = int64_t{1} << 31;  // places are 32 bits

class SearchStep final : public PreparedStep {
 public:
  explicit SearchStep(const NodeSite& site) : x_(site.inputs[0]), y_(site.outputs[0]) {
    const TensorRef& x = x_.ref;
    int64_t dim = site.node->attrs.GetInts("axes").at(0);
    shape_ = {
        .is_largest = site.node->op->name == "argmax", .size = x.dims[dim], .step = x.strides[dim]};
    if (shape_.size == 0) {
      Fail(ErrorKind::kInvalidArgument, "nothing to choose from along a dim of size 0");
    }
    if (shape_.size >= kMaxLine) Fail(ErrorKind::kUnsupported, "a line of {}", shape_.size);
    kernel_ = GetSearchKernel(x.dtype);
    size_ = static_cast<int64_t>(DTypeSize(x.dtype));
    bool keepdim = site.node->attrs.GetBool("keepdim");
    const int64_t axes[] = {dim};
    Sizes dims = Drop(x.dims, axes), x_strides = Drop(x.strides, axes),
          y_strides = keepdim ? Drop(y_.ref.strides, axes) : y_.ref.strides;
    constexpr int64_t kMinColumns = 8;
    for (size_t i = dims.size(); i-- > 0 && num_columns_ == 0;) {
      if (x_strides[i] != 1 || dims[i] < kMinColumns) continue;
      num_columns_ = dims[i];
      y_column_ = y_strides[i];
      for (Sizes* sizes : {&dims, &x_strides, &y_strides}) {
        sizes->erase(sizes->begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    lines_ = OffsetGrid<2>(dims, {x_strides, y_strides});
    is_parallel_ = x.num_elements() >= kMinElements;
  }

  void Run(const StepArgs& args) const override {
    int64_t per_line = std::max<int64_t>(1, (num_columns_ + kSearchColumns - 1) / kSearchColumns);
    int64_t num_tasks = lines_.size() * per_line;
    auto run = [&](int64_t begin, int64_t end) { RunTasks(args, per_line, begin, end); };
    is_parallel_ ? ParallelFor(num_tasks, run) : run(0, num_tasks);
  }

 private:
  void RunTasks(const StepArgs& args, int64_t per_line, int64_t begin, int64_t end) const {
    const std::byte* x = x_.Find(args);
    int64_t* y = reinterpret_cast<int64_t*>(y_.Find(args));
    if (num_columns_ == 0) {
      lines_.Walk(begin, end, [&](int64_t, const auto& at) {
        y[at[1]] = kernel_.line(shape_, x + at[0] * size_);
      });
      return;
    }
    for (int64_t task = begin; task < end; ++task) {
      int64_t first = task % per_line * kSearchColumns, line = task / per_line;
      int64_t num = std::min(kSearchColumns, num_columns_ - first);
      std::array<int32_t, kSearchColumns> places;
      lines_.Walk(line, line + 1, [&](int64_t, const auto& at) {
        kernel_.columns(shape_, x + (at[0] + first) * size_, places.data(), num);
        for (int64_t j = 0; j < num; ++j) y[at[1] + (first + j) * y_column_] = places[j];
      });
    }
  }

  NodeInput x_;
  NodeOutput y_;
  SearchKernel kernel_;
  SearchShape shape_;
  OffsetGrid<2> lines_;
  int64_t size_ = 0, num_columns_ = 0, y_column_ = 0;
  bool is_parallel_ = false;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareSearch(const NodeSite& site) {
  return std::make_unique<SearchStep>(site);
}

}  // namespace stator
