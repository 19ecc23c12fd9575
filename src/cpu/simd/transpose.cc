// Blocks of 4-byte elements are transposed four by four in registers of 16 bytes, the rest element
// by element. Sixteen rows at a time: one cache line of each column read, whole lines written.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/transpose.cc"
#include <algorithm>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/transpose.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kRowsAtATime = 16;

template <typename T>
void TransposePlain(T* to, int64_t to_pitch, const T* from, int64_t from_pitch, int64_t rows,
                    int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      to[row * to_pitch + column] = from[row + column * from_pitch];
    }
  }
}

#if HWY_TARGET == HWY_SCALAR
void Transpose4Bytes(uint32_t* to, int64_t to_pitch, const uint32_t* from, int64_t from_pitch,
                     int64_t rows, int64_t columns) {
  TransposePlain(to, to_pitch, from, from_pitch, rows, columns);
}
#else
HWY_INLINE void TransposeFour(uint32_t* to, int64_t to_pitch, const uint32_t* from,
                              int64_t from_pitch) {
  const hn::Full128<uint32_t> d;
  const hn::Repartition<uint64_t, decltype(d)> d64;
  auto c0 = hn::LoadU(d, from), c1 = hn::LoadU(d, from + from_pitch);
  auto c2 = hn::LoadU(d, from + 2 * from_pitch), c3 = hn::LoadU(d, from + 3 * from_pitch);
  auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, c0, c1));   // rows 0, 1 of columns 0, 1
  auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, c0, c1));  // rows 2, 3
  auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, c2, c3));
  auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, c2, c3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, to + to_pitch);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d, to + 2 * to_pitch);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d, to + 3 * to_pitch);
}

void Transpose4Bytes(uint32_t* to, int64_t to_pitch, const uint32_t* from, int64_t from_pitch,
                     int64_t rows, int64_t columns) {
  int64_t whole_columns = columns / 4 * 4;
  for (int64_t first = 0; first < rows; first += kRowsAtATime) {
    int64_t last = std::min(first + kRowsAtATime, rows),
            whole_last = first + (last - first) / 4 * 4;
    for (int64_t column = 0; column < whole_columns; column += 4) {
      for (int64_t row = first; row < whole_last; row += 4) {
        TransposeFour(to + row * to_pitch + column, to_pitch, from + row + column * from_pitch,
                      from_pitch);
      }
    }
    TransposePlain(to + whole_last * to_pitch, to_pitch, from + whole_last, from_pitch,
                   last - whole_last, columns);
    TransposePlain(to + first * to_pitch + whole_columns, to_pitch,
                   from + first + whole_columns * from_pitch, from_pitch, whole_last - first,
                   columns - whole_columns);
  }
}
#endif

void TransposeBytes(std::byte* to, int64_t to_pitch, const std::byte* from, int64_t from_pitch,
                    int64_t rows, int64_t columns, size_t element_size) {
  auto plain = [&](auto element) {
    using T = decltype(element);
    for (int64_t row = 0; row < rows; row += kRowsAtATime) {
      TransposePlain(reinterpret_cast<T*>(to) + row * to_pitch, to_pitch,
                     reinterpret_cast<const T*>(from) + row, from_pitch,
                     std::min(kRowsAtATime, rows - row), columns);
    }
  };
  switch (element_size) {
    case 1: plain(uint8_t{}); break;
    case 2: plain(uint16_t{}); break;
    case 8: plain(uint64_t{}); break;
    default:
      Transpose4Bytes(reinterpret_cast<uint32_t*>(to), to_pitch,
                      reinterpret_cast<const uint32_t*>(from), from_pitch, rows, columns);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(TransposeBytes);

void Transpose(std::byte* to, int64_t to_pitch, const std::byte* from, int64_t from_pitch,
               int64_t rows, int64_t columns, size_t element_size) {
  HWY_DYNAMIC_DISPATCH(TransposeBytes)
  (to, to_pitch, from, from_pitch, rows, columns, element_size);
}

}  // namespace stator
#endif
