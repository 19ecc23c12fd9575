// PrepareIndexed: index and index_put.
//
// The indices give an offset for each of their tuples, found first; then what is not indexed moves
// in runs, or, with `accumulate`, is added: f32 and f64 in their own precision in the order of the
// indices, f16 and bf16 in float, integers wrapping. What is not indexed splits over threads;
// tuples do so only where nothing is written twice.
#include <algorithm>
#include <type_traits>

#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "cpu/simd/index_kernels.h"
#include "ops/indexing.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 16 * 1024;  // worth a parallel region
constexpr int64_t kMinColumns = 64;          // of one task

// The elements of `x` that the indices name, and their places in `picked`, which is laid out as
// x[indices].
class IndexedWalk {
 public:
  // `first`: the position of the first index among the node's inputs.
  IndexedWalk(const NodeSite& site, size_t first, const TensorRef& x, const TensorRef& picked)
      : origin_(site.origin) {
    std::span<const NodeInput> inputs = std::span(site.inputs).subspan(first);
    IndexPlan plan =
        PlanIndex(x.rank(), [&](size_t i) { return i < inputs.size() && inputs[i].present; });
    size_t num_index_dims = picked.dims.size() - plan.kept.size();
    Sizes index_dims, index_strides, kept_dims, kept_strides, kept_x_strides;
    size_t kept = 0;
    for (size_t i = 0; i < picked.dims.size(); ++i) {
      if (i >= plan.num_before && i < plan.num_before + num_index_dims) {
        index_dims.push_back(picked.dims[i]);
        index_strides.push_back(picked.strides[i]);
      } else {
        kept_dims.push_back(picked.dims[i]);
        kept_strides.push_back(picked.strides[i]);
        kept_x_strides.push_back(x.strides[plan.kept[kept++]]);
      }
    }
    SplitColumns(kept_dims, kept_x_strides, kept_strides);
    tuples_ = OffsetGrid<1>(index_dims, {index_strides});
    for (int64_t dim : plan.indexed) {
      const NodeInput& input = inputs[dim];
      indices_.push_back(
          {.input = input,
           .walk = OffsetGrid<1>(index_dims, {BroadcastStrides(input.ref, index_dims)}),
           .dim = dim,
           .size = x.dims[dim],
           .stride = x.strides[dim]});
    }
    num_elements_ = tuples_.size() * rows_.size() * num_columns_;
  }

  // Bytes of the tuples' offsets, in a call's workspace.
  int64_t ws_bytes() const {
    return (2 * tuples_.size() * static_cast<int64_t>(sizeof(int64_t)) + 63) / 64 * 64;
  }

  // Calls visit(offset in x, step in x, offset in picked, step in picked, elements) for runs that
  // make up all elements. `unique`: each element of x is visited once.
  template <typename Visit>
  void Run(const StepArgs& args, std::byte* ws, bool unique, Visit&& visit) const {
    int64_t* offsets = reinterpret_cast<int64_t*>(ws);
    bool is_parallel = num_elements_ >= kMinElements;
    int64_t num_threads = is_parallel ? NumThreads() : 1;
    // Parts: rows, each cut into chunks of columns, and, when nothing meets, ranges of tuples.
    int64_t wanted = (2 * num_threads + rows_.size() - 1) / std::max<int64_t>(rows_.size(), 1);
    if (!is_parallel) wanted = 1;
    int64_t num_ranges = unique ? std::clamp<int64_t>(tuples_.size(), 1, wanted) : 1;
    int64_t num_chunks = unique ? 1 : std::clamp<int64_t>(num_columns_ / kMinColumns, 1, wanted);
    int64_t per_row = num_ranges * num_chunks, num_parts = rows_.size() * per_row;
    bool is_each_alone = num_parts == num_ranges;  // no other part visits a part's tuples
    if (!is_each_alone) FindOffsets(args, offsets, 0, tuples_.size());
    auto run = [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        int64_t range = part % per_row / num_chunks, chunk = part % num_chunks;
        int64_t first = tuples_.size() * range / num_ranges;
        int64_t last = tuples_.size() * (range + 1) / num_ranges;
        if (is_each_alone) FindOffsets(args, offsets, first, last);
        int64_t column = num_columns_ * chunk / num_chunks;
        int64_t num = num_columns_ * (chunk + 1) / num_chunks - column;
        rows_.Walk(part / per_row, part / per_row + 1, [&](int64_t, const auto& at) {
          int64_t x_at = at[0] + column * x_column_, picked_at = at[1] + column * column_;
          const int64_t *in_x = offsets, *in_picked = offsets + tuples_.size();
          for (int64_t t = first; t < last; ++t) {
            visit(x_at + in_x[t], x_column_, picked_at + in_picked[t], column_, num);
          }
        });
      }
    };
    is_parallel ? ParallelFor(num_parts, run) : run(0, num_parts);
  }

 private:
  struct Index {
    NodeInput input;
    OffsetGrid<1> walk;
    int64_t dim, size, stride;
  };

  // The kept dim along which memory is densest makes the runs; the others, rows of them.
  void SplitColumns(const Sizes& dims, const Sizes& x_strides, const Sizes& strides) {
    int64_t best = -1;
    for (size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] != 1 && (best < 0 || x_strides[i] <= x_strides[best])) best = i;
    }
    std::vector<int64_t> axes;
    if (best >= 0) {
      axes.push_back(best);
      num_columns_ = dims[best];
      x_column_ = x_strides[best];
      column_ = strides[best];
    }
    rows_ = OffsetGrid<2>(Drop(dims, axes), {Drop(x_strides, axes), Drop(strides, axes)});
  }

  // The offsets of tuples [first, last) in x, and behind those of all tuples the ones in picked.
  void FindOffsets(const StepArgs& args, int64_t* offsets, int64_t first, int64_t last) const {
    int64_t *in_x = offsets, *in_picked = offsets + tuples_.size();
    if (tuples_.is_line()) {
      for (int64_t t = first; t < last; ++t) in_picked[t] = t * tuples_.step(0);
    } else {
      tuples_.Walk(first, last, [&](int64_t t, const auto& at) { in_picked[t] = at[0]; });
    }
    std::fill(in_x + first, in_x + last, 0);
    for (const Index& index : indices_) {
      const std::byte* data = index.input.Find(args);
      if (index.input.ref.dtype == DType::kInt32) {
        AddPositions(index, reinterpret_cast<const int32_t*>(data), in_x, first, last);
      } else {
        AddPositions(index, reinterpret_cast<const int64_t*>(data), in_x, first, last);
      }
    }
  }

  template <typename T>
  void AddPositions(const Index& index, const T* data, int64_t* in_x, int64_t first,
                    int64_t last) const {
    const int64_t size = index.size, stride = index.stride;
    auto add = [&](int64_t t, int64_t position) {
      if (position < -size || position >= size) [[unlikely]]
        Raise(index, position);
      in_x[t] += (position < 0 ? position + size : position) * stride;
    };
    if (index.walk.is_line()) {
      int64_t step = index.walk.step(0);
      for (int64_t t = first; t < last; ++t) add(t, data[t * step]);
    } else {
      index.walk.Walk(first, last, [&](int64_t t, const auto& at) { add(t, data[at[0]]); });
    }
  }

  [[noreturn, gnu::noinline]] void Raise(const Index& index, int64_t position) const {
    throw Error(ErrorKind::kInvalidArgument,
                fmt::format("index {} is out of bounds for dimension {} with size {}", position,
                            index.dim, index.size),
                origin_);
  }

  std::vector<Index> indices_;
  OffsetGrid<1> tuples_;
  OffsetGrid<2> rows_;
  int64_t num_columns_ = 1, x_column_ = 0, column_ = 0, num_elements_ = 0;
  std::string origin_;
};

template <typename T>
void MoveRun(const T* from, int64_t from_step, T* to, int64_t to_step, int64_t n) {
  if (n == 1) {
    *to = *from;
    return;
  }
  if (from_step == 1 && to_step == 1) {
    std::copy_n(from, n, to);
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
}

// ---- index
class IndexStep final : public PreparedStep {
 public:
  explicit IndexStep(const NodeSite& site)
      : x_(site.inputs[0]), y_(site.outputs[0]), walk_(site, 1, x_.ref, y_.ref) {}

  int64_t ws_bytes() const override { return walk_.ws_bytes(); }

  void Run(const StepArgs& args) const override {
    DispatchSize(x_.ref.dtype, [&](auto element) {
      using T = decltype(element);
      const T* x = reinterpret_cast<const T*>(x_.Find(args));
      T* y = reinterpret_cast<T*>(y_.Find(args));
      walk_.Run(args, args.ws, true,
                [=](int64_t x_at, int64_t x_step, int64_t y_at, int64_t y_step, int64_t n) {
                  MoveRun(x + x_at, x_step, y + y_at, y_step, n);
                });
    });
  }

 private:
  NodeInput x_;
  NodeOutput y_;
  IndexedWalk walk_;
};

// ---- index_put
template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

// The dims of x[indices], with the strides that `values` broadcast to them with.
TensorRef MakePicked(const NodeSite& site) {
  const TensorRef &x = site.inputs[0].ref, &values = site.inputs[1].ref;
  std::span<const NodeInput> inputs = std::span(site.inputs).subspan(2);
  IndexPlan plan =
      PlanIndex(x.rank(), [&](size_t i) { return i < inputs.size() && inputs[i].present; });
  Sizes index_dims;
  for (int64_t dim : plan.indexed) {
    const Sizes& dims = inputs[dim].ref.dims;
    index_dims.insert(index_dims.begin(),
                      std::max<size_t>(dims.size(), index_dims.size()) - index_dims.size(), 1);
    size_t skipped = index_dims.size() - dims.size();
    for (size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] != 1) index_dims[skipped + i] = dims[i];
    }
  }
  TensorRef picked{.data = nullptr, .dtype = x.dtype, .dims = Pick(x.dims, plan.kept)};
  picked.dims.insert(picked.dims.begin() + plan.num_before, index_dims.begin(), index_dims.end());
  picked.strides = BroadcastStrides(values, picked.dims);
  return picked;
}

class IndexPutStep final : public PreparedStep {
 public:
  explicit IndexPutStep(const NodeSite& site)
      : x_(site.inputs[0]),
        values_(site.inputs[1]),
        y_(site.outputs[0]),
        sums_(y_.ref),
        accumulates_(site.node->attrs.GetBool("accumulate")),
        walk_(site, 2, y_.ref, MakePicked(site)) {
    copy_ = PrepareCopy({.step = nullptr, .body = {}, .inputs = {x_.ref}, .outputs = {y_.ref}});
    sums_.strides = DenseStrides(sums_.dims);
    bool is_half = x_.ref.dtype == DType::kFloat16 || x_.ref.dtype == DType::kBFloat16;
    if (accumulates_ && is_half) {
      dense_walk_ = std::make_unique<IndexedWalk>(site, 2, sums_, MakePicked(site));
      sum_bytes_ = sums_.num_elements() * static_cast<int64_t>(sizeof(float));
      all_ = OffsetGrid<2>(sums_.dims, {y_.ref.strides, sums_.strides});
    }
  }

  int64_t ws_bytes() const override { return walk_.ws_bytes() + sum_bytes_; }

  void Run(const StepArgs& args) const override {
    std::byte *x = x_.Find(args), *y = y_.Find(args);
    if (x != y) copy_->Run({.inputs = &x, .outputs = &y, .ws = nullptr});
    if (accumulates_) {
      DispatchDType(x_.ref.dtype, [&](auto zero) { Accumulate<decltype(zero)>(args); });
    } else {
      DispatchSize(x_.ref.dtype, [&](auto element) { Write<decltype(element)>(args); });
    }
  }

 private:
  template <typename T>
  void Write(const StepArgs& args) const {
    const T* values = reinterpret_cast<const T*>(values_.Find(args));
    T* y = reinterpret_cast<T*>(y_.Find(args));
    walk_.Run(args, args.ws, false,
              [=](int64_t y_at, int64_t y_step, int64_t at, int64_t step, int64_t n) {
                MoveRun(values + at, step, y + y_at, y_step, n);
              });
  }

  template <typename T>
  void Accumulate(const StepArgs& args) const {
    T* y = reinterpret_cast<T*>(y_.Find(args));
    if constexpr (kIsHalf<T>) {
      float* sums = reinterpret_cast<float*>(args.ws + walk_.ws_bytes());
      all_.Walk(0, all_.size(), [&](int64_t, const auto& at) { sums[at[1]] = float(y[at[0]]); });
      Add<T>(args, sums, *dense_walk_);
      all_.Walk(0, all_.size(), [&](int64_t, const auto& at) { y[at[0]] = T(sums[at[1]]); });
    } else {
      Add<T>(args, y, walk_);
    }
  }

  template <typename T, typename Sum>
  void Add(const StepArgs& args, Sum* sums, const IndexedWalk& walk) const {
    const T* values = reinterpret_cast<const T*>(values_.Find(args));
    JoinRun join = FindJoinRun(Reduce::kSum, x_.ref.dtype);
    walk.Run(args, args.ws, false,
             [=](int64_t to, int64_t to_step, int64_t at, int64_t step, int64_t n) {
               if (to_step == 1 && step == 1 && n > 1) {
                 join(reinterpret_cast<std::byte*>(sums + to),
                      reinterpret_cast<const std::byte*>(values + at), n);
                 return;
               }
               for (int64_t i = 0; i < n; ++i) {
                 Sum& sum = sums[to + i * to_step];
                 sum = Joined<Reduce::kSum>(sum, static_cast<Sum>(values[at + i * step]));
               }
             });
  }

  NodeInput x_, values_;
  NodeOutput y_;
  TensorRef sums_;  // y, dense
  bool accumulates_;
  IndexedWalk walk_;
  std::unique_ptr<IndexedWalk> dense_walk_;
  OffsetGrid<2> all_;
  std::unique_ptr<PreparedStep> copy_;
  int64_t sum_bytes_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareIndexed(const NodeSite& site) {
  if (site.node->op->name == "index") return std::make_unique<IndexStep>(site);
  return std::make_unique<IndexPutStep>(site);
}

}  // namespace stator
