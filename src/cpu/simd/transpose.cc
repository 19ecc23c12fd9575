// Blocks of 4-byte elements are transposed four by four in registers of 16 bytes, the rest element
// by element. Sixteen rows at a time: one cache line of each column read, whole lines written.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/transpose.cc"
#include <algorithm>
#include <cstdint>

#include <hwy/cache_control.h>
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

// Bytes that are copied past the caches if they lie on whole vectors.
void StreamBytes(uint32_t* to, const uint32_t* from, int64_t count) {
  const hn::ScalableTag<uint32_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (count % lanes != 0 || reinterpret_cast<uintptr_t>(to) % (lanes * sizeof(uint32_t)) != 0) {
    std::copy_n(from, count, to);
    return;
  }
  for (int64_t i = 0; i < count; i += lanes) hn::Stream(hn::Load(d, from + i), d, to + i);
}

// 768 x 3072 into panels of 64: 10 GB/s, where without the prefetch, which the hardware does not do
// for so many rows, and with cached stores it is 4.
void PackPanelBytes(const Panel& panel) {
  constexpr int64_t kAhead = 2 * kRowsAtATime;
  HWY_ALIGN uint32_t tile[kRowsAtATime * kMaxPanelWidth] = {};
  const uint32_t* from = reinterpret_cast<const uint32_t*>(panel.from);
  uint32_t* to = reinterpret_cast<uint32_t*>(panel.to);
  for (int64_t c = 0; c < panel.padded_depth; c += kRowsAtATime) {
    int64_t all = std::min(kRowsAtATime, panel.padded_depth - c);
    int64_t present = std::clamp<int64_t>(panel.depth - c, 0, all);
    for (int64_t r = 0; r < panel.rows; ++r) {
      __builtin_prefetch(from + r * panel.pitch + c + kAhead, 0, 2);
    }
    Transpose4Bytes(tile, panel.width, from + c, panel.pitch, present, panel.rows);
    std::fill(tile + present * panel.width, tile + all * panel.width, 0);
    StreamBytes(to + c * panel.width, tile, all * panel.width);
  }
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(TransposeBytes);
HWY_EXPORT(PackPanelBytes);

void Transpose(std::byte* to, int64_t to_pitch, const std::byte* from, int64_t from_pitch,
               int64_t rows, int64_t columns, size_t element_size) {
  HWY_DYNAMIC_DISPATCH(TransposeBytes)
  (to, to_pitch, from, from_pitch, rows, columns, element_size);
}

void PackPanel(const Panel& panel) { HWY_DYNAMIC_DISPATCH(PackPanelBytes)(panel); }

}  // namespace stator
#endif
