// PrepareGroupNorm: statistics of each sample's groups of channels, and what they normalise.
//
// Statistics take two passes, in floats whose partial sums are added up in double (f64: double).
// Where channels are neighbours in memory, channels side by side as columns; else group by group,
// in runs.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "cpu/run/tiles.h"
#include "cpu/simd/norm_kernels.h"
#include "cpu/simd/tape_kernels.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 8 * 1024;  // worth a parallel region
constexpr int64_t kRun = 4096;              // elements that are summed up in Real
constexpr int64_t kRows = 128;              // the same, of columns
constexpr int64_t kMinColumns = 16;         // of one task

template <typename T>
class GroupNormStep final : public PreparedStep {
 public:
  using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

  explicit GroupNormStep(const NodeSite& site)
      : x_(site.inputs[0]),
        y_(site.outputs[0]),
        eps_(site.node->attrs.GetFloat("eps")),
        num_groups_(site.node->attrs.GetInt("groups")),
        num_channels_(x_.ref.dims[1] / num_groups_) {
    if (site.inputs.size() > 1) weight_ = site.inputs[1];
    if (site.inputs.size() > 2) bias_ = site.inputs[2];
    const TensorRef &x = x_.ref, &y = y_.ref;
    for (int64_t i = 2; i < x.rank(); ++i) num_positions_ *= x.dims[i];
    by_columns_ =
        x.strides[1] == 1 && y.strides[1] == 1 && x.dims[1] >= kMinColumns && num_positions_ > 1;
    bool is_parallel = x.num_elements() >= kMinElements;
    int64_t num_threads = is_parallel ? NumThreads() : 1;
    by_columns_ ? PlanColumns(num_threads) : PlanRuns();
    num_parts_ = std::min(num_threads, num_tasks_);
    part_bytes_ = (part_bytes_ + 63) / 64 * 64;
  }

  int64_t ws_bytes() const override { return num_parts_ * part_bytes_; }

  void Run(const StepArgs& args) const override {
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        std::byte* ws = args.ws + part * part_bytes_;
        int64_t last = num_tasks_ * (part + 1) / num_parts_;
        for (int64_t task = num_tasks_ * part / num_parts_; task < last; ++task) {
          by_columns_ ? RunColumns(args, ws, task) : RunGroup(args, ws, task);
        }
      }
    });
  }

 private:
  static constexpr bool kIsReal = std::is_same_v<T, Real>;

  // Dims 1 (as far as `first_dim` is 1) and those behind, as they lie in y.
  LoopNest MakeNest(size_t first_dim) const {
    const TensorRef &x = x_.ref, &y = y_.ref;
    auto rest = [&](const Sizes& sizes) {
      return Sizes(sizes.begin() + static_cast<std::ptrdiff_t>(first_dim), sizes.end());
    };
    LoopNest nest{.dims = rest(x.dims),
                  .inner = std::vector<bool>(x.dims.size() - first_dim, false),
                  .strides = {rest(x.strides), rest(y.strides), Sizes(x.dims.size() - first_dim)}};
    if (first_dim == 1) {
      nest.dims[0] = num_channels_;
      nest.strides[2][0] = 1;
    }
    return MakeLoopNest(std::move(nest), 1, false);
  }

  // The last dim of a nest, apart from the others.
  static int64_t TakeLast(LoopNest& nest, std::array<int64_t, 3>& steps) {
    for (size_t k = 0; k < steps.size(); ++k) {
      steps[k] = nest.strides[k].back();
      nest.strides[k].pop_back();
    }
    int64_t size = nest.dims.back();
    nest.dims.pop_back();
    return size;
  }

  static OffsetGrid<3> MakeGrid(const LoopNest& nest) {
    return OffsetGrid<3>(nest.dims, {nest.strides[0], nest.strides[1], nest.strides[2]});
  }

  double Parameter(const StepArgs& args, const NodeInput& input, int64_t channel,
                   double absent) const {
    if (!input.present) return absent;
    const T* values = reinterpret_cast<const T*>(input.Find(args));
    return static_cast<double>(ToAccumulator(values[channel * input.ref.strides[0]]));
  }

  double CountOf() const { return static_cast<double>(num_channels_ * num_positions_); }

  // `n` elements from `x` on as Reals that lie densely: where they are, or in `buffer`.
  const Real* Load(const T* x, int64_t step, int64_t n, Real* buffer) const {
    if constexpr (kIsReal) {
      if (step == 1) return x;
    }
    load_(buffer, reinterpret_cast<const std::byte*>(x), step, n);
    return buffer;
  }

  // ---- group by group
  void PlanRuns() {
    LoopNest nest = MakeNest(1);
    LoopNest values = nest;  // which statistics may merge over channels
    values.strides[2].assign(values.dims.size(), 0);
    values = MakeLoopNest(std::move(values), 0, false);
    std::array<int64_t, 3> steps;
    sum_run_ = TakeLast(values, steps);
    sum_step_ = steps[0];
    sum_grid_ = MakeGrid(values);
    run_ = TakeLast(nest, run_steps_);
    grid_ = MakeGrid(nest);
    num_tasks_ = x_.ref.dims[0] * num_groups_;
    part_bytes_ = 2 * kRun * static_cast<int64_t>(sizeof(Real));
    if (run_steps_[2] != 0) part_bytes_ += 3 * num_channels_ * static_cast<int64_t>(sizeof(Real));
  }

  template <typename Term>
  double SumOver(const T* x, Real* buffer, Term&& term) const {
    double sum = 0;
    sum_grid_.Walk(0, sum_grid_.size(), [&](int64_t, const auto& at) {
      for (int64_t i = 0; i < sum_run_; i += kRun) {
        int64_t n = std::min(kRun, sum_run_ - i);
        sum += term(Load(x + at[0] + i * sum_step_, sum_step_, n, buffer), n);
      }
    });
    return sum;
  }

  void RunGroup(const StepArgs& args, std::byte* ws, int64_t task) const {
    int64_t sample = task / num_groups_, channel = task % num_groups_ * num_channels_;
    const TensorRef &x_ref = x_.ref, &y_ref = y_.ref;
    const T* x = reinterpret_cast<const T*>(x_.Find(args)) + sample * x_ref.strides[0] +
                 channel * x_ref.strides[1];
    T* y = reinterpret_cast<T*>(y_.Find(args)) + sample * y_ref.strides[0] +
           channel * y_ref.strides[1];
    Real* buffer = reinterpret_cast<Real*>(ws);
    double sum = SumOver(x, buffer, [&](const Real* p, int64_t n) { return kernels_.sum(p, n); });
    Real mean = static_cast<Real>(sum / CountOf());
    double squares =
        SumOver(x, buffer, [&](const Real* p, int64_t n) { return kernels_.squares(p, n, mean); });
    double factor = 1 / std::sqrt(squares / CountOf() + eps_);
    Real* vectors = buffer + 2 * kRun;  // centre, scale and shift of channels that make a run
    if (run_steps_[2] != 0) FillVectors(args, channel, 1, &mean, &factor, vectors);
    grid_.Walk(0, grid_.size(), [&](int64_t, const auto& at) {
      int64_t c = channel + at[2];
      Real scale = static_cast<Real>(factor * Parameter(args, weight_, c, 1));
      Real shift = static_cast<Real>(Parameter(args, bias_, c, 0));
      for (int64_t i = 0; i < run_; i += kRun) {
        int64_t n = std::min(kRun, run_ - i);
        const Real* from = Load(x + at[0] + i * run_steps_[0], run_steps_[0], n, buffer);
        Write(y + at[1] + i * run_steps_[1], run_steps_[1], n, buffer + kRun, [&](Real* to) {
          if (run_steps_[2] == 0) {
            kernels_.affine(to, from, n, mean, scale, shift);
          } else {
            const Real* v = vectors + i;
            kernels_.affine_columns(to, from, n, v, v + num_channels_, v + 2 * num_channels_);
          }
        });
      }
    });
  }

  // Calls fill with where n Reals shall go: y, or `buffer`, from where they come to y.
  template <typename Fill>
  void Write(T* y, int64_t step, int64_t n, Real* buffer, Fill&& fill) const {
    if constexpr (kIsReal) {
      if (step == 1) return fill(y);
    }
    fill(buffer);
    store_(reinterpret_cast<std::byte*>(y), buffer, step, n);
  }

  // The centre, scale and shift of the channels of groups from `channel` on, one array after the
  // other.
  void FillVectors(const StepArgs& args, int64_t channel, int64_t num_groups, const Real* means,
                   const double* factors, Real* vectors) const {
    int64_t num = num_groups * num_channels_;
    for (int64_t c = 0; c < num; ++c) {
      vectors[c] = means[c / num_channels_];
      vectors[num + c] =
          static_cast<Real>(factors[c / num_channels_] * Parameter(args, weight_, channel + c, 1));
      vectors[2 * num + c] = static_cast<Real>(Parameter(args, bias_, channel + c, 0));
    }
  }

  // ---- channels side by side
  void PlanColumns(int64_t num_threads) {
    LoopNest nest = MakeNest(2);
    run_ = TakeLast(nest, run_steps_);
    grid_ = MakeGrid(nest);
    int64_t num_samples = x_.ref.dims[0];
    int64_t wanted = (num_threads + num_samples - 1) / std::max<int64_t>(num_samples, 1);
    int64_t most = std::max<int64_t>(1, num_channels_ * num_groups_ / kMinColumns);
    num_chunks_ = std::clamp<int64_t>(std::min(wanted, most), 1, num_groups_);
    num_tasks_ = num_samples * num_chunks_;
    int64_t groups = (num_groups_ + num_chunks_ - 1) / num_chunks_;
    int64_t columns = groups * num_channels_;
    num_rows_ = std::clamp<int64_t>(4 * kRun / columns, 1, kRows);
    int64_t buffer = (kIsReal ? 0 : 2 * num_rows_ * columns) + 3 * columns;
    int64_t reals = (buffer + groups + 1) / 2 * 2;
    part_bytes_ = reals * static_cast<int64_t>(sizeof(Real)) +
                  (columns + groups) * static_cast<int64_t>(sizeof(double));
  }

  // Calls visit(row of x, row of y, number of rows) for blocks of rows that lie evenly.
  template <typename Visit>
  void ForEachBlock(const T* x, T* y, Visit&& visit) const {
    grid_.Walk(0, grid_.size(), [&](int64_t, const auto& at) {
      for (int64_t r = 0; r < run_; r += num_rows_) {
        visit(x + at[0] + r * run_steps_[0], y + at[1] + r * run_steps_[1],
              std::min(num_rows_, run_ - r));
      }
    });
  }

  // Rows of x as Reals `pitch` apart: where they are, or in `buffer`.
  const Real* LoadRows(const T* x, int64_t num_rows, int64_t columns, Real* buffer,
                       int64_t& pitch) const {
    if constexpr (kIsReal) {
      pitch = run_steps_[0];
      return x;
    } else {
      pitch = columns;
      for (int64_t r = 0; r < num_rows; ++r) {
        load_(buffer + r * columns, reinterpret_cast<const std::byte*>(x + r * run_steps_[0]), 1,
              columns);
      }
      return buffer;
    }
  }

  void RunColumns(const StepArgs& args, std::byte* ws, int64_t task) const {
    int64_t sample = task / num_chunks_, chunk = task % num_chunks_;
    int64_t first = num_groups_ * chunk / num_chunks_;
    int64_t groups = num_groups_ * (chunk + 1) / num_chunks_ - first;
    int64_t channel = first * num_channels_, columns = groups * num_channels_;
    const T* x = reinterpret_cast<const T*>(x_.Find(args)) + sample * x_.ref.strides[0] + channel;
    T* y = reinterpret_cast<T*>(y_.Find(args)) + sample * y_.ref.strides[0] + channel;
    double* sums = reinterpret_cast<double*>(ws);
    double* factors = sums + columns;
    Real* vectors = reinterpret_cast<Real*>(factors + groups);
    Real* means = vectors + 3 * columns;
    Real* buffer = means + groups;
    auto total = [&](int64_t group) {
      const double* of = sums + group * num_channels_;
      double sum = 0;
      for (int64_t c = 0; c < num_channels_; ++c) sum += of[c];
      return sum / CountOf();
    };
    int64_t pitch = 0;
    std::fill_n(sums, columns, 0.0);
    ForEachBlock(x, y, [&](const T* from, T*, int64_t rows) {
      const Real* p = LoadRows(from, rows, columns, buffer, pitch);
      kernels_.add_columns(sums, p, pitch, rows, columns);
    });
    for (int64_t g = 0; g < groups; ++g) means[g] = static_cast<Real>(total(g));
    std::fill_n(factors, groups, 0.0);
    FillVectors(args, channel, groups, means, factors, vectors);  // the centres
    std::fill_n(sums, columns, 0.0);
    ForEachBlock(x, y, [&](const T* from, T*, int64_t rows) {
      const Real* p = LoadRows(from, rows, columns, buffer, pitch);
      kernels_.add_squares(sums, p, pitch, rows, columns, vectors);
    });
    for (int64_t g = 0; g < groups; ++g) factors[g] = 1 / std::sqrt(total(g) + eps_);
    FillVectors(args, channel, groups, means, factors, vectors);
    ForEachBlock(x, y, [&](const T* from, T* to, int64_t rows) {
      const Real* p = LoadRows(from, rows, columns, buffer, pitch);
      for (int64_t r = 0; r < rows; ++r) {
        Write(to + r * run_steps_[1], 1, columns, buffer + num_rows_ * columns, [&](Real* out) {
          kernels_.affine_columns(out, p + r * pitch, columns, vectors, vectors + columns,
                                  vectors + 2 * columns);
        });
      }
    });
  }

  NodeInput x_, weight_, bias_;
  NodeOutput y_;
  double eps_;
  int64_t num_groups_, num_channels_;  // channels of a group
  int64_t num_positions_ = 1;
  NormKernels<Real> kernels_ = GetNormKernels<Real>();
  TapeLoad load_ = FindLoad(x_.ref.dtype);
  TapeStore store_ = FindStore(x_.ref.dtype);
  bool by_columns_ = false;
  // Runs and what lies around them: with steps in x, y and the channels; of columns, rows.
  OffsetGrid<3> grid_, sum_grid_;
  std::array<int64_t, 3> run_steps_{};
  int64_t run_ = 1, sum_run_ = 1, sum_step_ = 1;
  int64_t num_chunks_ = 1, num_rows_ = 1;  // of columns
  int64_t num_tasks_ = 0, num_parts_ = 1, part_bytes_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareGroupNorm(const NodeSite& site) {
  std::unique_ptr<PreparedStep> step;
  DispatchFloat(site.inputs[0].ref.dtype,
                [&](auto zero) { step = std::make_unique<GroupNormStep<decltype(zero)>>(site); });
  return step;
}

}  // namespace stator
