// Indices of some dims in row-major order, from any of them on, with their offsets in N tensors.
//
// In:  dims, and for each tensor the strides along them (elements; 0 where it is the same for all).
// Out: offsets. A walk allocates nothing, so each thread takes one over its range of indices.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "ops/tensor.h"

namespace stator {

template <size_t N>
class OffsetGrid {
 public:
  static constexpr size_t kMaxDims = 16;

  OffsetGrid() = default;
  // Raises Unsupported for more than kMaxDims dims, neighbours that lie alike being one.
  OffsetGrid(std::span<const int64_t> dims, const std::array<Sizes, N>& strides) {
    for (size_t i = 0; i < dims.size(); ++i) {
      num_ *= dims[i];
      if (dims[i] == 1) continue;
      if (rank_ > 0 && Joins(dims[i], strides, i)) {
        dims_[rank_ - 1] *= dims[i];
        for (size_t k = 0; k < N; ++k) strides_[k][rank_ - 1] = strides[k][i];
        continue;
      }
      if (rank_ == kMaxDims) Fail(ErrorKind::kUnsupported, "a walk over {} dims", dims.size());
      dims_[rank_] = dims[i];
      for (size_t k = 0; k < N; ++k) strides_[k][rank_] = strides[k][i];
      ++rank_;
    }
  }

  int64_t size() const { return num_; }
  // Whether each index's offset in tensor k is a multiple of step(k).
  bool is_line() const { return rank_ <= 1; }
  int64_t step(size_t k) const { return rank_ == 0 ? 0 : strides_[k][0]; }

  // Calls fn(index, offsets) for each index in [begin, end).
  template <typename Fn>
  void Walk(int64_t begin, int64_t end, Fn&& fn) const {
    if (begin >= end) return;  // of no elements a dim may be 0
    std::array<int64_t, N> offsets{};
    std::array<int64_t, kMaxDims> position{};
    int64_t rest = begin;
    for (size_t i = rank_; i-- > 0;) {
      position[i] = rest % dims_[i];
      rest /= dims_[i];
      for (size_t k = 0; k < N; ++k) offsets[k] += position[i] * strides_[k][i];
    }
    for (int64_t index = begin; index < end; ++index) {
      fn(index, static_cast<const std::array<int64_t, N>&>(offsets));
      for (size_t i = rank_; i-- > 0;) {
        for (size_t k = 0; k < N; ++k) offsets[k] += strides_[k][i];
        if (++position[i] < dims_[i]) break;
        for (size_t k = 0; k < N; ++k) offsets[k] -= strides_[k][i] * dims_[i];
        position[i] = 0;
      }
    }
  }

 private:
  // Whether a dim continues the last one for every tensor.
  bool Joins(int64_t size, const std::array<Sizes, N>& strides, size_t i) const {
    for (size_t k = 0; k < N; ++k) {
      if (strides_[k][rank_ - 1] != strides[k][i] * size) return false;
    }
    return true;
  }

  size_t rank_ = 0;
  int64_t num_ = 1;
  std::array<int64_t, kMaxDims> dims_{};
  std::array<std::array<int64_t, kMaxDims>, N> strides_{};
};

}  // namespace stator
