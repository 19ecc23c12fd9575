#include "cpu/run/tiles.h"

#include <algorithm>
#include <numeric>

namespace stator {
namespace {

bool MayMerge(const LoopNest& nest, size_t outer, size_t inner) {
  if (nest.inner[outer] != nest.inner[inner]) return false;
  return std::all_of(nest.strides.begin(), nest.strides.end(), [&](const Sizes& strides) {
    return strides[outer] == strides[inner] * nest.dims[inner];
  });
}

}  // namespace

LoopNest MakeLoopNest(LoopNest nest, size_t lead, bool inner_last) {
  std::vector<int> order;
  for (size_t dim = 0; dim < nest.dims.size(); ++dim) {
    if (nest.dims[dim] != 1) order.push_back(static_cast<int>(dim));
  }
  auto before = [&](int a, int b) {
    if (inner_last && nest.inner[a] != nest.inner[b]) return static_cast<bool>(nest.inner[b]);
    int64_t left = nest.strides[lead][a], right = nest.strides[lead][b];
    if ((left == 0) != (right == 0)) return left == 0;
    return left > right;
  };
  std::stable_sort(order.begin(), order.end(), before);

  LoopNest merged;
  merged.strides.resize(nest.strides.size());
  for (size_t i = 0; i < order.size(); ++i) {
    int dim = order[i];
    bool merge = i > 0 && MayMerge(nest, order[i - 1], dim);
    if (merge) {
      merged.dims.back() *= nest.dims[dim];
    } else {
      merged.dims.push_back(nest.dims[dim]);
      merged.inner.push_back(nest.inner[dim]);
    }
    for (size_t k = 0; k < nest.strides.size(); ++k) {
      if (merge) {
        merged.strides[k].back() = nest.strides[k][dim];
      } else {
        merged.strides[k].push_back(nest.strides[k][dim]);
      }
    }
  }
  if (merged.dims.empty() || (inner_last && !merged.inner.back())) {
    merged.dims.push_back(1);
    merged.inner.push_back(inner_last);
    for (Sizes& strides : merged.strides) strides.push_back(0);
  }
  return merged;
}

// The dim along which an operand lies that skips elements along the last dim; -1 if none does.
static int FindCrossDim(const LoopNest& nest) {
  int last = static_cast<int>(nest.dims.size()) - 1;
  for (const Sizes& strides : nest.strides) {
    if (strides[last] == 0 || strides[last] == 1) continue;
    for (int dim = 0; dim < last; ++dim) {
      if (strides[dim] == 1) return dim;
    }
  }
  return -1;
}

TileShape ChooseTileShape(const LoopNest& nest, int64_t num_elements) {
  constexpr int64_t kCrossColumns = 64, kLanes = 16;
  int last = static_cast<int>(nest.dims.size()) - 1;
  int64_t size = nest.dims[last];
  int cross = FindCrossDim(nest);
  TileShape shape{.column_dim = last, .row_dim = cross >= 0 ? cross : last - 1};
  if (cross >= 0) num_elements = std::max<int64_t>(num_elements, kCrossColumns * kLanes);
  int64_t limit = cross >= 0 ? kCrossColumns : num_elements;
  int64_t num_blocks = (size + limit - 1) / limit;
  shape.columns = (size + num_blocks - 1) / num_blocks;
  if (num_blocks > 1) shape.columns = (shape.columns + kLanes - 1) / kLanes * kLanes;
  bool has_rows = shape.row_dim >= 0 && (cross >= 0 || shape.columns == size);
  if (has_rows) {
    shape.rows = std::clamp<int64_t>(num_elements / shape.columns, 1, nest.dims[shape.row_dim]);
  }
  if (shape.rows == 1) shape.row_dim = -1;
  return shape;
}

TileGrid::TileGrid(const LoopNest& nest, const TileShape& shape, std::span<const size_t> sizes,
                   bool inner_last) {
  std::vector<int> order(nest.dims.size());
  std::iota(order.begin(), order.end(), 0);
  // Columns are walked innermost, rows around them.
  auto rank = [&](int dim) { return dim == shape.column_dim ? 2 : dim == shape.row_dim ? 1 : 0; };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    if (inner_last && nest.inner[a] != nest.inner[b]) return static_cast<bool>(nest.inner[b]);
    return rank(a) < rank(b);
  });
  for (int dim : order) {
    TileLoop loop{.size = nest.dims[dim]};
    if (dim == shape.column_dim) {
      column_loop_ = static_cast<int>(loops_.size());
      loop.block = shape.columns;
    } else if (dim == shape.row_dim) {
      row_loop_ = static_cast<int>(loops_.size());
      loop.block = shape.rows;
    }
    loop.count = (loop.size + loop.block - 1) / loop.block;
    for (size_t k = 0; k < nest.strides.size(); ++k) {
      loop.steps.push_back(loop.block * nest.strides[k][dim] * static_cast<int64_t>(sizes[k]));
    }
    num_tiles_ *= loop.count;
    if (nest.inner[dim]) num_inner_tiles_ *= loop.count;
    loops_.push_back(std::move(loop));
  }
}

bool TileGrid::IsFixed(size_t operand) const {
  return std::all_of(loops_.begin(), loops_.end(), [&](const TileLoop& loop) {
    return loop.count == 1 || loop.steps[operand] == 0;
  });
}

TileWalk::TileWalk(const TileGrid& grid, std::span<std::byte*> operands, int64_t first)
    : grid_(grid), operands_(operands) {
  for (size_t i = grid.loops_.size(); i-- > 0;) {
    const TileLoop& loop = grid.loops_[i];
    position_[i] = first % loop.count;
    first /= loop.count;
    Move(loop, position_[i]);
  }
}

void TileWalk::Next() {
  for (size_t i = grid_.loops_.size(); i-- > 0;) {
    const TileLoop& loop = grid_.loops_[i];
    if (++position_[i] < loop.count) {
      Move(loop, 1);
      return;
    }
    Move(loop, 1 - loop.count);
    position_[i] = 0;
  }
}

int64_t TileWalk::Extent(int loop) const {
  if (loop < 0) return 1;
  const TileLoop& of = grid_.loops_[loop];
  return std::min(of.block, of.size - position_[loop] * of.block);
}

void TileWalk::Move(const TileLoop& loop, int64_t iterations) {
  if (iterations == 0) return;
  for (size_t k = 0; k < operands_.size(); ++k) operands_[k] += iterations * loop.steps[k];
}

}  // namespace stator
