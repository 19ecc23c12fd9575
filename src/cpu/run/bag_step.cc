// PrepareBag: embedding_bag.
//
// Bags split over threads; the rows of one are added up in float (f64 in double), or the largest
// taken, straight in the output's row where that is of the same type.
#include <algorithm>
#include <type_traits>

#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu/run/parallel.h"
#include "cpu/simd/index_kernels.h"
#include "ops/tensor.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 16 * 1024;  // worth a parallel region

enum class BagMode { kSum, kMean, kMax };

class BagStep final : public PreparedStep {
 public:
  explicit BagStep(const NodeSite& site)
      : weight_(site.inputs[0]),
        indices_(site.inputs[1]),
        offsets_(site.inputs[2]),
        y_(site.outputs[0]),
        origin_(site.origin),
        padding_(site.node->attrs.GetInt("padding_idx")) {
    const std::string& mode = site.node->attrs.GetString("mode");
    mode_ = mode == "sum" ? BagMode::kSum : mode == "mean" ? BagMode::kMean : BagMode::kMax;
    if (site.inputs.size() > 3) scales_ = site.inputs[3];
    num_bags_ = y_.ref.dims[0];
    size_ = y_.ref.dims[1];
    is_parallel_ = indices_.ref.dims[0] * size_ >= kMinElements;
    num_parts_ = is_parallel_ ? std::min<int64_t>(NumThreads(), num_bags_) : 1;
    DType dtype = weight_.ref.dtype;
    bool in_output =
        (dtype == DType::kFloat32 || dtype == DType::kFloat64) && y_.ref.strides[1] == 1;
    bool is_dense = weight_.ref.strides[1] == 1 && indices_.ref.strides[0] == 1 &&
                    (!scales_.present || scales_.ref.strides[0] == 1);
    if (dtype == DType::kFloat32 && is_dense && padding_ < 0 && mode_ != BagMode::kMax) {
      sum_rows_ = FindSumRows(indices_.ref.dtype == DType::kInt32);
    }
    if (!in_output) {
      int64_t bytes = size_ * (dtype == DType::kFloat64 ? 8 : 4);
      row_bytes_ = (bytes + 63) / 64 * 64;
    }
  }

  int64_t ws_bytes() const override { return num_parts_ * row_bytes_; }

  void Run(const StepArgs& args) const override {
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        DispatchFloat(weight_.ref.dtype, [&](auto zero) { RunPart<decltype(zero)>(args, part); });
      }
    });
  }

 private:
  template <typename T>
  using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

  template <typename T>
  void RunPart(const StepArgs& args, int64_t part) const {
    using Sum = SumOf<T>;
    T* y = reinterpret_cast<T*>(y_.Find(args));
    int64_t y_row = y_.ref.strides[0], y_column = y_.ref.strides[1];
    for (int64_t bag = num_bags_ * part / num_parts_; bag < num_bags_ * (part + 1) / num_parts_;
         ++bag) {
      Sum* row = reinterpret_cast<Sum*>(args.ws + part * row_bytes_);
      if constexpr (std::is_same_v<T, Sum>) {
        if (row_bytes_ == 0) row = y + bag * y_row;
      }
      JoinBag<T>(args, bag, row);
      if (row_bytes_ == 0) continue;
      for (int64_t j = 0; j < size_; ++j) {
        y[bag * y_row + j * y_column] = scalar::CastTo<T>(row[j]);
      }
    }
  }

  template <typename T>
  void JoinBag(const StepArgs& args, int64_t bag, SumOf<T>* row) const {
    using Sum = SumOf<T>;
    const T* weight = reinterpret_cast<const T*>(weight_.Find(args));
    const T* scales = scales_.present ? reinterpret_cast<const T*>(scales_.Find(args)) : nullptr;
    int64_t num_indices = indices_.ref.dims[0], num_rows = weight_.ref.dims[0];
    int64_t begin = IndexIn(offsets_, args, bag);
    int64_t end = bag + 1 < offsets_.ref.dims[0] ? IndexIn(offsets_, args, bag + 1) : num_indices;
    if (begin < 0 || end > num_indices) {
      Raise("a bag is indices {} to {}, which are {}", begin, end, num_indices);
    }
    if constexpr (std::is_same_v<T, float>) {
      if (sum_rows_ != nullptr && SumRowsOf(args, begin, end, row)) return;
    }
    std::fill_n(row, size_, Sum(0));
    int64_t count = 0;
    for (int64_t i = begin; i < end; ++i) {
      int64_t index = IndexIn(indices_, args, i);
      if (index < 0 || index >= num_rows) {
        Raise("index {} is out of bounds for dimension 0 with size {}", index, num_rows);
      }
      if (index == padding_) continue;
      const T* from = weight + index * weight_.ref.strides[0];
      if (mode_ == BagMode::kMax) {
        TakeLargest(from, count == 0, row);
      } else {
        Sum scale = 1;
        if (scales != nullptr) scale = static_cast<Sum>(scales[i * scales_.ref.strides[0]]);
        AddScaled(from, scale, row);
      }
      ++count;
    }
    if (mode_ != BagMode::kMean || count == 0) return;
    for (int64_t j = 0; j < size_; ++j) row[j] /= static_cast<Sum>(count);
  }

  // False, to find the index that is out of range, where there is one.
  bool SumRowsOf(const StepArgs& args, int64_t begin, int64_t end, float* row) const {
    const float* scales =
        scales_.present ? reinterpret_cast<const float*>(scales_.Find(args)) + begin : nullptr;
    const std::byte* index =
        indices_.Find(args) + begin * static_cast<int64_t>(DTypeSize(indices_.ref.dtype));
    if (!sum_rows_(reinterpret_cast<const float*>(weight_.Find(args)), weight_.ref.strides[0],
                   weight_.ref.dims[0], index, scales, end - begin, row, size_)) {
      return false;
    }
    if (mode_ != BagMode::kMean || end <= begin) return true;
    for (int64_t j = 0; j < size_; ++j) row[j] /= static_cast<float>(end - begin);
    return true;
  }

  template <typename T, typename Sum>
  void AddScaled(const T* from, Sum scale, Sum* row) const {
    int64_t step = weight_.ref.strides[1];
    if (step == 1) {
      for (int64_t j = 0; j < size_; ++j) row[j] += scale * static_cast<Sum>(from[j]);
    } else {
      for (int64_t j = 0; j < size_; ++j) row[j] += scale * static_cast<Sum>(from[j * step]);
    }
  }

  template <typename T, typename Sum>
  void TakeLargest(const T* from, bool first, Sum* row) const {
    int64_t step = weight_.ref.strides[1];
    for (int64_t j = 0; j < size_; ++j) {
      Sum value = static_cast<Sum>(from[j * step]);
      row[j] = first || value > row[j] ? value : row[j];
    }
  }

  static int64_t IndexIn(const NodeInput& tensor, const StepArgs& args, int64_t i) {
    int64_t at = i * tensor.ref.strides[0];
    const std::byte* data = tensor.Find(args);
    return tensor.ref.dtype == DType::kInt32 ? reinterpret_cast<const int32_t*>(data)[at]
                                             : reinterpret_cast<const int64_t*>(data)[at];
  }

  template <typename... Args>
  [[noreturn]] void Raise(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorKind::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...),
                origin_);
  }

  NodeInput weight_, indices_, offsets_, scales_;
  NodeOutput y_;
  std::string origin_;
  BagMode mode_ = BagMode::kSum;
  SumRows sum_rows_ = nullptr;  // where rows, indices and scales lie densely
  int64_t padding_ = -1, num_bags_ = 0, size_ = 0, num_parts_ = 1, row_bytes_ = 0;
  bool is_parallel_ = false;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareBag(const NodeSite& site) {
  return std::make_unique<BagStep>(site);
}

}  // namespace stator
