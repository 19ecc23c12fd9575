// Transposition of a block of elements, and of a matrix into panels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stator {

// to[row * to_pitch + column] = from[row + column * from_pitch], elements of 1, 2, 4 or 8 bytes;
// pitches count elements. A block of at most 64 by 64 is read and written in whole cache lines.
void Transpose(std::byte* to, int64_t to_pitch, const std::byte* from, int64_t from_pitch,
               int64_t rows, int64_t columns, size_t element_size);

// A panel of rows of a matrix of 4-byte elements, as products read them: to[c * width + r] =
// from[r * pitch + c] for c < depth and r < rows. Zero for other r < width, and for c up to
// padded_depth. Width is at most kMaxPanelWidth. It is written past the caches, at the speed of a
// copy: a weight is read once and needed later.
struct Panel {
  std::byte* to = nullptr;
  int64_t width = 0;
  const std::byte* from = nullptr;
  int64_t pitch = 0, rows = 0, depth = 0, padded_depth = 0;
};
inline constexpr int64_t kMaxPanelWidth = 64;
void PackPanel(const Panel& panel);

}  // namespace stator
