// Registers of a tape: from as many virtual ones as there are results to few real ones.
//
// Linear scan (Poletto & Sarkar 1999), exact here because a tape has no branches and writes each
// virtual register once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/run/tape.h"

namespace stator {

// Slots of virtual registers are numbered from here.
inline constexpr int kFirstVirtual = 1 << 20;

// Gives every virtual register a slot from `first_slot` on and returns the bytes of each such slot,
// for tiles of `shape`. What `start` writes, and `result`, are kept to the end of a run.
std::vector<int64_t> AssignRegisters(const TileShape& shape, int first_slot,
                                     std::span<TapeInstr> start, std::span<TapeInstr> instrs,
                                     TapeInstr::Place& result);

}  // namespace stator
