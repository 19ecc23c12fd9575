// Packing of strided matrices into panels as wide as the register tile of attention's products.
//
// In:  a matrix of any strides and float dtype (or bool, as 0 and 1). Out: dense floats, transposed
// or not, in the order in which the products read them.
// Included once per SIMD target, inside Highway's foreach_target; needs SIMD.

#if defined(STATOR_CPU_RUN_ATTENTION_PACK_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STATOR_CPU_RUN_ATTENTION_PACK_H_
#undef STATOR_CPU_RUN_ATTENTION_PACK_H_
#else
#define STATOR_CPU_RUN_ATTENTION_PACK_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/simd/attention_kernels.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {
namespace attention {

#if HWY_TARGET != HWY_SCALAR

// The register tile: kRows broadcast operands times up to kVectors vectors of the other operand. 24
// accumulators of 32 registers, or 12 of 16.
constexpr int64_t kVectors = 3;
constexpr int64_t kRows = kLanes == 16 ? 8 : 4;
constexpr int64_t kWidth = kLanes;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t unit) { return CeilDiv(a, unit) * unit; }

// `size` elements as vectors, in panels of up to kVectors vectors, as even as can be.
struct Panels {
  int64_t vectors, count;
  explicit Panels(int64_t size)
      : vectors(CeilDiv(size, kWidth)), count(CeilDiv(vectors, kVectors)) {}
  // The first vector of a panel.
  int64_t Begin(int64_t panel) const { return vectors * panel / count; }
  int64_t Size(int64_t panel) const { return Begin(panel + 1) - Begin(panel); }
};

// Rows of a matrix as floats.
class Rows {
 public:
  Rows(const std::byte* data, const MatrixLayout& layout)
      : data_(data),
        row_bytes_(layout.row_stride * static_cast<int64_t>(DTypeSize(layout.dtype))),
        column_bytes_(layout.column_stride * static_cast<int64_t>(DTypeSize(layout.dtype))),
        column_stride_(layout.column_stride),
        load_(FindLoad(layout.dtype)),
        in_place_(layout.dtype == DType::kFloat32 && layout.column_stride == 1) {}

  // Elements [column, column + n) of a row: in place, or in `buffer`.
  const float* Get(int64_t row, int64_t column, int64_t n, float* buffer) const {
    const std::byte* from = data_ + row * row_bytes_ + column * column_bytes_;
    if (in_place_) return reinterpret_cast<const float*>(from);
    load_(buffer, from, column_stride_, n);
    return buffer;
  }

 private:
  const std::byte* data_;
  int64_t row_bytes_, column_bytes_, column_stride_;
  TapeLoad load_;
  bool in_place_;
};

// to[c * group + r] = rows[r][c] * scale, for 4 rows.
HWY_INLINE void Transpose4(const float* const (&rows)[4], int64_t columns, float scale,
                           int64_t group, float* to) {
  const hn::FixedTag<float, 4> d;
  const auto factor = hn::Set(d, scale);
  int64_t c = 0;
  for (; c + 4 <= columns; c += 4) {
    auto a0 = hn::LoadU(d, rows[0] + c), a1 = hn::LoadU(d, rows[1] + c);
    auto a2 = hn::LoadU(d, rows[2] + c), a3 = hn::LoadU(d, rows[3] + c);
    auto even_low = hn::InterleaveLower(d, a0, a2), odd_low = hn::InterleaveLower(d, a1, a3);
    auto even_high = hn::InterleaveUpper(d, a0, a2), odd_high = hn::InterleaveUpper(d, a1, a3);
    float* out = to + c * group;
    hn::StoreU(hn::Mul(hn::InterleaveLower(d, even_low, odd_low), factor), d, out);
    hn::StoreU(hn::Mul(hn::InterleaveUpper(d, even_low, odd_low), factor), d, out + group);
    hn::StoreU(hn::Mul(hn::InterleaveLower(d, even_high, odd_high), factor), d, out + 2 * group);
    hn::StoreU(hn::Mul(hn::InterleaveUpper(d, even_high, odd_high), factor), d, out + 3 * group);
  }
  for (; c < columns; ++c) {
    for (int r = 0; r < 4; ++r) to[c * group + r] = rows[r][c] * scale;
  }
}

// Rows [first, first + n) and columns [column, column + columns) as [ceil(n /
// group)][columns][group], scaled; the last group's missing rows are copies of row `first`.
// `buffer` holds 4 rows.
inline void PackTransposed(const Rows& from, int64_t first, int64_t n, int64_t column,
                           int64_t columns, float scale, int64_t group, float* buffer, float* to) {
  for (int64_t r = 0; r < RoundUp(n, group); r += 4) {
    const float* rows[4];
    for (int i = 0; i < 4; ++i) {
      int64_t row = r + i < n ? first + r + i : first;
      rows[i] = from.Get(row, column, columns, buffer + i * columns);
    }
    Transpose4(rows, columns, scale, group, to + r / group * group * columns + r % group);
  }
}

// Rows [0, n) as panels [n][vectors of the panel]; missing columns are zero.
inline void PackPanels(const Rows& from, int64_t n, int64_t columns, float* buffer, float* to) {
  Panels panels(columns);
  for (int64_t p = 0; p < panels.count; ++p) {
    int64_t begin = panels.Begin(p) * kWidth, size = panels.Size(p) * kWidth;
    int64_t present = std::min(size, columns - begin);
    for (int64_t r = 0; r < n; ++r, to += size) {
      const float* row = from.Get(r, begin, present, buffer);
      int64_t c = 0;
      for (; c + kWidth <= present; c += kWidth) Store(Load(row + c), to + c);
      if (c < size) Store(LoadFirst(row + c, present - c), to + c);
    }
  }
}

#endif

}  // namespace attention
}  // namespace simd
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
