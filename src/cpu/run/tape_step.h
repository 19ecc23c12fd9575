// A step that runs one tape over all tiles of a domain, and what the steps on tapes share.
//
// Invariant: tiles are split over threads in contiguous ranges, each with a frame of its own in the
// workspace.
#pragma once

#include <memory>

#include "cpu/run/step.h"
#include "cpu/run/tape.h"

namespace stator {

// What the tensors broadcast to.
Sizes FindDomain(std::span<const TensorRef> tensors);

// The operands on a domain: dims, and strides with 0 where an operand broadcasts.
LoopNest MakeNestOf(const BodyOperands& operands, const Sizes& domain);

// How each operand lies in the tiles of a grid over `nest`.
std::vector<TapeAccess> MakeAccesses(const LoopNest& nest, const TileShape& shape,
                                     const TileGrid& grid);

// Bytes of the operands' elements.
std::vector<size_t> ElementSizes(const BodyOperands& operands);

// Elements of a tile such that the tile's registers stay in the first-level cache.
int64_t ChooseTileElements(const BodyOperands& operands);

// Parts that work of `num_element_ops` is worth splitting into, at most `max_tasks`.
int64_t ChooseNumTasks(int64_t num_element_ops, int64_t max_tasks);

// All nodes of the body on the nest's tiles; null when no tape can express them.
std::unique_ptr<PreparedStep> MakeTapeStep(const StepSite& site, BodyOperands operands,
                                           const LoopNest& nest, const TileShape& shape);

}  // namespace stator
