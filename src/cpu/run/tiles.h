// A domain cut into tiles: how a step walks over its operands.
//
// In:  the domain's dims and each operand's strides on them (0 where it broadcasts).
// Out: tiles of rows x columns elements, visited in order, with each operand's pointer to the
//      tile's first element.
// Invariants: tiles cover the domain once; a walk allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ir/op_def.h"
#include "ops/tensor.h"

namespace stator {

// Dims from outermost to innermost, with the strides (in elements) of every operand. Dims marked
// `inner` are those a row or a reduction runs over.
struct LoopNest {
  Sizes dims;
  std::vector<bool> inner;
  std::vector<Sizes> strides;  // [operand][dim]
};

// Drops dims of size 1, orders the others as they lie in operand `lead` (its largest stride first,
// dims it broadcasts over before all) and merges neighbours that every operand steps through alike.
// With `inner_last`, inner dims come after the others. The result has at least one dim.
LoopNest MakeLoopNest(LoopNest nest, size_t lead, bool inner_last);

// The dims of a nest that tiles extend over, and how far.
struct TileShape {
  int column_dim = 0;
  int row_dim = -1;  // -1: one row
  int64_t rows = 1, columns = 1;
};

// Tiles of about `num_elements` elements along the last dim, and along the one before it when a
// tile holds all of the last; for an operand that lies along another dim than the last, across both
// dims, so that whole cache lines are read.
TileShape ChooseTileShape(const LoopNest& nest, int64_t num_elements);

// One loop of a walk over tiles.
struct TileLoop {
  int64_t count = 1;           // iterations
  int64_t size = 1;            // elements of the dim
  int64_t block = 1;           // elements per iteration
  std::vector<int64_t> steps;  // bytes per iteration, by operand
};

class TileGrid {
 public:
  static constexpr int kMaxLoops = 16;

  TileGrid() = default;
  // `sizes` are the bytes of an operand's elements. Loops go over the dims that are not inner
  // first, then over inner ones when `inner_last`; else all in the nest's order.
  TileGrid(const LoopNest& nest, const TileShape& shape, std::span<const size_t> sizes,
           bool inner_last);

  int64_t num_tiles() const { return num_tiles_; }
  // How many consecutive tiles differ only in their position along inner dims.
  int64_t num_inner_tiles() const { return num_inner_tiles_; }
  bool fits() const { return loops_.size() <= kMaxLoops; }
  // Whether the operand's pointer is the same for every tile.
  bool IsFixed(size_t operand) const;

 private:
  friend class TileWalk;
  std::vector<TileLoop> loops_;
  int row_loop_ = -1, column_loop_ = -1;
  int64_t num_tiles_ = 1, num_inner_tiles_ = 1;
};

// A position in a grid. Moves the operands' pointers along.
class TileWalk {
 public:
  // `operands` point to the domain's first element; here they are moved to tile `first`.
  TileWalk(const TileGrid& grid, std::span<std::byte*> operands, int64_t first);
  void Next();
  int64_t rows() const { return Extent(grid_.row_loop_); }
  int64_t columns() const { return Extent(grid_.column_loop_); }

 private:
  int64_t Extent(int loop) const;
  void Move(const TileLoop& loop, int64_t iterations);

  const TileGrid& grid_;
  std::span<std::byte*> operands_;
  int64_t position_[TileGrid::kMaxLoops] = {};
};

}  // namespace stator
