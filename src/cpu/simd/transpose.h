// Transposition of a block of elements.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stator {

// to[row * to_pitch + column] = from[row + column * from_pitch], elements of 1, 2, 4 or 8 bytes;
// pitches count elements. A block of at most 64 by 64 is read and written in whole cache lines.
void Transpose(std::byte* to, int64_t to_pitch, const std::byte* from, int64_t from_pitch,
               int64_t rows, int64_t columns, size_t element_size);

}  // namespace stator
