// PrepareLines: gather and scatter, with what scatter joins: sums, products, means, extrema.
//
// A line runs along the indexed dim; positions along it come from the index. Neighbouring lines go
// side by side as columns when that is how memory lies. Two lines never meet in the output, so
// they may run on different threads. Sums are as torch's: f32 and f64 in their own precision in the
// order of the index, f16 and bf16 in float, integers wrapping.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "cpu/simd/index_kernels.h"
#include "ops/indexing.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 16 * 1024;  // worth a parallel region
constexpr int64_t kMinColumns = 16;          // of one task

// Strides in elements: of the index, of the tensor that is indexed, of the other one.
struct LineShape {
  int64_t size = 0, index_step = 0, far_step = 0, near_step = 0;
  int64_t num_columns = 1, index_column = 0, far_column = 0, near_column = 0;
  int64_t num_positions = 0;  // along the indexed dim
  int64_t dim = 0;            // for errors
};

// How a walk visits the elements of an index, by offsets in far and near: one by one, neighbours in
// memory that have one position as a run, and lines whose index and near lie densely as kernels do
// (null: one by one).
template <typename Visit, typename VisitRun>
struct LineVisitor {
  Visit visit;
  VisitRun visit_run;
  IndexedLine line = nullptr;
  std::byte *far = nullptr, *near = nullptr;  // what the kernel works on
  int64_t far_bytes = 0, near_bytes = 0;      // of their elements
};
template <typename Visit, typename VisitRun, typename... Rest>
LineVisitor(Visit, VisitRun, Rest...) -> LineVisitor<Visit, VisitRun>;

// The walk over the index that gather and scatter share.
class LineWalk {
 public:
  // `far` is the tensor that is indexed, `near` the one that lies like the index.
  LineWalk(const NodeSite& site, const TensorRef& index, const TensorRef& far,
           const TensorRef& near) {
    origin_ = site.origin;
    int64_t dim = site.node->attrs.GetInt("dim");
    is_i32_ = index.dtype == DType::kInt32;
    shape_ = {.size = index.dims[dim],
              .index_step = index.strides[dim],
              .far_step = far.strides[dim],
              .near_step = near.strides[dim],
              .num_positions = far.dims[dim],
              .dim = dim};
    std::vector<int64_t> axes = {dim};
    // Columns: the dim along which both tensors are densest, when that is not the line itself.
    int64_t best = -1;
    for (int64_t i = 0; i < index.rank(); ++i) {
      bool denser = far.strides[i] < far.strides[dim] && near.strides[i] < near.strides[dim];
      if (i == dim || index.dims[i] == 1 || !denser) continue;
      if (best < 0 || near.strides[i] < near.strides[best]) best = i;
    }
    if (best >= 0) {
      axes.push_back(best);
      shape_.num_columns = index.dims[best];
      shape_.index_column = index.strides[best];
      shape_.far_column = far.strides[best];
      shape_.near_column = near.strides[best];
    }
    lines_ = OffsetGrid<3>(
        Drop(index.dims, axes),
        {Drop(index.strides, axes), Drop(far.strides, axes), Drop(near.strides, axes)});
    if (index.num_elements() >= kMinElements) {
      int64_t wanted = (2 * NumThreads() + lines_.size() - 1) / std::max<int64_t>(lines_.size(), 1);
      num_chunks_ = std::clamp<int64_t>(shape_.num_columns / kMinColumns, 1, wanted);
      num_parts_ = lines_.size() * num_chunks_;
    }
  }

  bool is_i32() const { return is_i32_; }

  // `V`: a LineVisitor.
  template <typename V>
  void Run(const std::byte* index, const V& visitor) const {
    auto run = [&](int64_t begin, int64_t end) {
      is_i32_ ? RunParts(reinterpret_cast<const int32_t*>(index), begin, end, visitor)
              : RunParts(reinterpret_cast<const int64_t*>(index), begin, end, visitor);
    };
    int64_t num_parts = lines_.size() * num_chunks_;
    num_parts_ > 1 ? ParallelFor(num_parts, run) : run(0, num_parts);
  }

 private:
  template <typename Index, typename V>
  void RunParts(const Index* index, int64_t begin, int64_t end, const V& visitor) const {
    for (int64_t part = begin; part < end; ++part) {
      int64_t line = part / num_chunks_, chunk = part % num_chunks_;
      int64_t first = shape_.num_columns * chunk / num_chunks_;
      int64_t last = shape_.num_columns * (chunk + 1) / num_chunks_;
      lines_.Walk(line, line + 1, [&](int64_t, const auto& at) {
        RunLine(index + at[0], at[1], at[2], first, last, visitor);
      });
    }
  }

  template <typename Index, typename V>
  void RunLine(const Index* index, int64_t far, int64_t near, int64_t first, int64_t last,
               const V& visitor) const {
    const LineShape shape = shape_;
    const auto& [visit, visit_run, line, far_data, near_data, far_bytes, near_bytes] = visitor;
    if (shape.num_columns == 1) {
      bool is_dense = shape.index_step == 1 && shape.near_step == 1;
      if (line != nullptr && is_dense &&
          line(far_data + far * far_bytes, shape.far_step, shape.num_positions,
               reinterpret_cast<const std::byte*>(index), near_data + near * near_bytes,
               shape.size)) {
        return;
      }
      // One by one, also to find the index that is out of range.
      for (int64_t i = 0; i < shape.size; ++i) {
        visit(far + Check(index[i * shape.index_step]) * shape.far_step,
              near + i * shape.near_step);
      }
      return;
    }
    bool is_run = shape.index_column == 0 && shape.far_column == 1 && shape.near_column == 1;
    for (int64_t i = 0; i < shape.size; ++i) {
      const Index* row = index + i * shape.index_step;
      int64_t near_row = near + i * shape.near_step;
      if (is_run) {
        visit_run(far + Check(*row) * shape.far_step + first, near_row + first, last - first);
        continue;
      }
      for (int64_t j = first; j < last; ++j) {
        int64_t position = Check(row[j * shape.index_column]);
        visit(far + position * shape.far_step + j * shape.far_column,
              near_row + j * shape.near_column);
      }
    }
  }

  int64_t Check(int64_t position) const {
    if (static_cast<uint64_t>(position) >= static_cast<uint64_t>(shape_.num_positions))
        [[unlikely]] {
      Raise(position);
    }
    return position;
  }

  [[noreturn, gnu::noinline]] void Raise(int64_t position) const {
    throw Error(ErrorKind::kInvalidArgument,
                fmt::format("index {} is out of bounds for dimension {} with size {}", position,
                            shape_.dim, shape_.num_positions),
                origin_);
  }

  LineShape shape_;
  OffsetGrid<3> lines_;
  bool is_i32_ = false;
  int64_t num_chunks_ = 1, num_parts_ = 1;
  std::string origin_;
};

// ---- gather
class GatherLines final : public PreparedStep {
 public:
  explicit GatherLines(const NodeSite& site)
      : x_(site.inputs[0]),
        index_(site.inputs[1]),
        y_(site.outputs[0]),
        walk_(site, index_.ref, x_.ref, y_.ref) {}

  void Run(const StepArgs& args) const override {
    DispatchSize(x_.ref.dtype, [&](auto element) {
      using T = decltype(element);
      const T* x = reinterpret_cast<const T*>(x_.Find(args));
      T* y = reinterpret_cast<T*>(y_.Find(args));
      walk_.Run(index_.Find(args), LineVisitor{[=](int64_t far, int64_t near) { y[near] = x[far]; },
                                               [=](int64_t far, int64_t near, int64_t n) {
                                                 std::copy_n(x + far, n, y + near);
                                               },
                                               FindGatherLine(sizeof(T), walk_.is_i32()),
                                               x_.Find(args), y_.Find(args), sizeof(T), sizeof(T)});
    });
  }

 private:
  NodeInput x_, index_;
  NodeOutput y_;
  LineWalk walk_;
};

// ---- scatter
template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

// What an element that x takes no part in starts from.
template <typename T>
T StartOf(Reduce reduce) {
  using Limits = std::numeric_limits<T>;
  switch (reduce) {
    case Reduce::kProd: return T(1);
    case Reduce::kMax: return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    case Reduce::kMin: return Limits::has_infinity ? Limits::infinity() : Limits::max();
    default: return T(0);
  }
}

class ScatterLines final : public PreparedStep {
 public:
  explicit ScatterLines(const NodeSite& site)
      : x_(site.inputs[0]),
        index_(site.inputs[1]),
        src_(site.inputs[2]),
        y_(site.outputs[0]),
        reduce_(*FindReduce(site.node->attrs)),
        sums_(y_.ref),
        walk_(site, index_.ref, y_.ref, src_.ref),
        dense_walk_(walk_) {
    const Attr* include_self = site.node->attrs.Find("include_self");
    include_self_ = include_self == nullptr || std::get<bool>(*include_self);
    sums_.strides = DenseStrides(sums_.dims);
    dense_walk_ = LineWalk(site, index_.ref, sums_, src_.ref);
    bool is_half = x_.ref.dtype == DType::kFloat16 || x_.ref.dtype == DType::kBFloat16;
    widens_ = is_half && reduce_ != Reduce::kNone;
    int64_t num = sums_.num_elements();
    if (widens_) sum_bytes_ = (num * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
    if (reduce_ == Reduce::kMean) count_bytes_ = num * static_cast<int64_t>(sizeof(int32_t));
    StepSite copy{.step = nullptr, .body = {}, .inputs = {x_.ref}, .outputs = {y_.ref}};
    copy_ = PrepareCopy(copy);
    all_ = OffsetGrid<2>(sums_.dims, {y_.ref.strides, sums_.strides});
  }

  int64_t ws_bytes() const override { return sum_bytes_ + count_bytes_; }

  void Run(const StepArgs& args) const override {
    std::byte *x = x_.Find(args), *y = y_.Find(args);
    if (x != y) copy_->Run({.inputs = &x, .outputs = &y, .ws = nullptr});
    if (reduce_ == Reduce::kNone) {
      DispatchSize(x_.ref.dtype, [&](auto element) { Write<decltype(element)>(args); });
    } else {
      DispatchDType(x_.ref.dtype, [&](auto zero) { JoinAll<decltype(zero)>(args); });
    }
  }

 private:
  template <typename T>
  void Write(const StepArgs& args) const {
    const T* src = reinterpret_cast<const T*>(src_.Find(args));
    T* y = reinterpret_cast<T*>(y_.Find(args));
    walk_.Run(index_.Find(args), LineVisitor{[=](int64_t far, int64_t near) { y[far] = src[near]; },
                                             [=](int64_t far, int64_t near, int64_t n) {
                                               std::copy_n(src + near, n, y + far);
                                             },
                                             FindScatterLine(sizeof(T), walk_.is_i32()),
                                             y_.Find(args), src_.Find(args), sizeof(T), sizeof(T)});
  }

  template <typename T>
  void JoinAll(const StepArgs& args) const {
    if constexpr (kIsHalf<T>) {
      T* y = reinterpret_cast<T*>(y_.Find(args));
      float* sums = reinterpret_cast<float*>(args.ws);
      all_.Walk(0, all_.size(), [&](int64_t, const auto& at) { sums[at[1]] = float(y[at[0]]); });
      JoinIn<T, float>(args, sums, dense_walk_);
      all_.Walk(0, all_.size(), [&](int64_t, const auto& at) { y[at[0]] = T(sums[at[1]]); });
    } else if constexpr (!std::is_same_v<T, bool>) {
      JoinIn<T, T>(args, reinterpret_cast<T*>(y_.Find(args)), walk_);
    }
  }

  // Joins src into `sums`, which `walk` knows the strides of.
  template <typename T, typename Sum>
  void JoinIn(const StepArgs& args, Sum* sums, const LineWalk& walk) const {
    const std::byte* index = index_.Find(args);
    if (!include_self_) {
      Sum start = StartOf<Sum>(reduce_);
      walk.Run(index, LineVisitor{[=](int64_t far, int64_t) { sums[far] = start; },
                                  [=](int64_t far, int64_t, int64_t n) {
                                    std::fill_n(sums + far, n, start);
                                  }});
    }
    switch (reduce_) {
      case Reduce::kProd: Join<Reduce::kProd, T>(args, sums, walk); break;
      case Reduce::kMax: Join<Reduce::kMax, T>(args, sums, walk); break;
      case Reduce::kMin: Join<Reduce::kMin, T>(args, sums, walk); break;
      default: Join<Reduce::kSum, T>(args, sums, walk);
    }
    if (reduce_ == Reduce::kMean) Divide(args, sums, widens_);
  }

  template <Reduce reduce, typename T, typename Sum>
  void Join(const StepArgs& args, Sum* sums, const LineWalk& walk) const {
    const T* src = reinterpret_cast<const T*>(src_.Find(args));
    JoinRun join = FindJoinRun(reduce, x_.ref.dtype);
    walk.Run(
        index_.Find(args),
        LineVisitor{[=](int64_t far, int64_t near) {
                      sums[far] = Joined<reduce>(sums[far], static_cast<Sum>(src[near]));
                    },
                    [=](int64_t far, int64_t near, int64_t n) {
                      join(reinterpret_cast<std::byte*>(sums + far),
                           reinterpret_cast<const std::byte*>(src + near), n);
                    },
                    FindJoinLine(reduce, x_.ref.dtype, walk.is_i32()),
                    reinterpret_cast<std::byte*>(sums), src_.Find(args), sizeof(Sum), sizeof(T)});
  }

  // Divides each sum by how many elements it is of.
  template <typename Sum>
  void Divide(const StepArgs& args, Sum* sums, bool dense) const {
    auto* counts = reinterpret_cast<int32_t*>(args.ws + sum_bytes_);
    std::fill_n(counts, all_.size(), include_self_ ? 1 : 0);
    dense_walk_.Run(index_.Find(args), LineVisitor{[=](int64_t far, int64_t) { ++counts[far]; },
                                                   [=](int64_t far, int64_t, int64_t n) {
                                                     for (int64_t i = 0; i < n; ++i)
                                                       ++counts[far + i];
                                                   }});
    all_.Walk(0, all_.size(), [&](int64_t, const auto& at) {
      Sum& sum = sums[dense ? at[1] : at[0]];
      if (counts[at[1]] > 1) sum = Quotient(sum, counts[at[1]]);
    });
  }

  // An integer mean is rounded to minus infinity.
  template <typename Sum>
  static Sum Quotient(Sum sum, int32_t count) {
    if constexpr (std::is_floating_point_v<Sum>) {
      return sum / static_cast<Sum>(count);
    } else {
      using Wide = scalar::Int<int64_t>;
      return static_cast<Sum>(floor_div(Wide(sum), Wide(count)).value);
    }
  }

  NodeInput x_, index_, src_;
  NodeOutput y_;
  Reduce reduce_;
  TensorRef sums_;  // y, dense
  LineWalk walk_, dense_walk_;
  OffsetGrid<2> all_;  // y and a dense y
  std::unique_ptr<PreparedStep> copy_;
  bool include_self_ = true, widens_ = false;
  int64_t sum_bytes_ = 0, count_bytes_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareLines(const NodeSite& site) {
  if (site.node->op->name == "gather") return std::make_unique<GatherLines>(site);
  return std::make_unique<ScatterLines>(site);
}

}  // namespace stator
