// What the rows of src/ops/index.cc mean, for kernels of their own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "ir/attr.h"

namespace stator {

// How what scatter writes joins what is there; kNone takes its place.
enum class Reduce { kNone, kSum, kProd, kMean, kMax, kMin };

// From the attribute `reduce`, kNone when it is absent; empty for a name that there is not.
std::optional<Reduce> FindReduce(const Attrs& attrs);

// What an element becomes when another one joins it, a sum for kMean: integers wrap, a NaN stays,
// and of bools a sum is whether one is true.
template <Reduce reduce, typename T>
inline T Joined(T to, T value) {
  if constexpr (reduce == Reduce::kMax) {
    return to != to || to > value ? to : value;
  } else if constexpr (reduce == Reduce::kMin) {
    return to != to || to < value ? to : value;
  } else if constexpr (std::is_same_v<T, bool>) {
    return reduce == Reduce::kProd ? to && value : to || value;
  } else if constexpr (std::is_integral_v<T>) {
    uint64_t a = static_cast<uint64_t>(to), b = static_cast<uint64_t>(value);
    return static_cast<T>(reduce == Reduce::kProd ? a * b : a + b);
  } else {
    return reduce == Reduce::kProd ? to * value : to + value;
  }
}

// For each position along a padded dim, the position in x, or -1 for the constant. Raises
// InvalidArgument for a pad that the mode cannot fill.
std::vector<int64_t> PadSources(int64_t size, int64_t begin, int64_t padded,
                                const std::string& mode);

// Advanced indexing, one optional index per leading dim of x.
//
// The indices broadcast together. Their dims take the place of the indexed dims when those are
// neighbours, and go in front when a dim in between is not indexed (NumPy, "Advanced indexing").
struct IndexPlan {
  std::vector<int64_t> indexed;  // dims of x with an index
  std::vector<int64_t> kept;     // the others
  size_t num_before = 0;         // how many kept dims stand before the indices' dims
};

// `is_present(i)`: whether dim i of x has an index.
template <typename IsPresent>
IndexPlan PlanIndex(int rank, IsPresent&& is_present) {
  IndexPlan plan;
  for (int i = 0; i < rank; ++i) (is_present(i) ? plan.indexed : plan.kept).push_back(i);
  if (plan.indexed.empty()) return plan;
  bool neighbours =
      plan.indexed.back() - plan.indexed.front() + 1 == static_cast<int64_t>(plan.indexed.size());
  plan.num_before = neighbours ? plan.indexed.front() : 0;
  return plan;
}

}  // namespace stator
