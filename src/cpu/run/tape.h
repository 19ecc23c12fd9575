// The tape: nodes of a body as a linear program over registers that hold one tile.
//
// In:  pointwise nodes (and rowwise nodes, when a tile's columns are whole rows) and how each
//      operand's elements lie in a tile.
// Out: instructions (cpu/simd/tape_kernels.h), run on one tile after the other.
// Invariants: a tape is immutable; what a run changes lies in its frame. A value that is the same
// in all columns or all rows is kept, and computed, once per row or column. f16, bf16 and bool
// values are rounded as if each node wrote them to memory.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "cpu/run/step.h"
#include "cpu/run/tiles.h"
#include "cpu/simd/tape_kernels.h"

namespace stator {

// The tensors that a body reads and writes: its inputs, then its constants of several elements,
// then its outputs.
struct BodyOperands {
  std::vector<TensorRef> tensors;  // data of constants only
  std::vector<ValueId> values;
  size_t num_inputs = 0, first_output = 0;

  // Where they lie in a call; `pointers` has one entry per tensor.
  void SetPointers(const StepArgs& args, std::span<std::byte*> pointers) const;
};
BodyOperands FindOperands(const StepSite& site);

// Along which sides of a tile a value varies: bits kRow and kColumn.
enum Extent : uint8_t { kScalar = 0, kRow = 1, kColumn = 2, kTile = 3 };

// How an operand's elements lie in a tile: strides in elements.
struct TapeAccess {
  int64_t row_stride = 0, column_stride = 0;
  bool fixed = false;  // every tile reads the same elements, along whole columns
};

struct TapeInstr {
  enum Kind : uint8_t { kLoad, kStore, kRun };
  // A place that an instruction reads (a, b, c) or writes.
  struct Place {
    int slot = -1;  // -1: none
    Extent extent = kScalar;
    uint8_t size = 4;  // bytes of an element
  };
  Kind kind = kRun;
  bool by_rows = false;  // one call per row, else one for all elements of `out`
  Place out;
  std::array<Place, 3> in;
  TapeKernel kernel = nullptr;
  std::array<double, 2> params{};
  int operand = -1;  // loads and stores: the operand in memory
};

struct TapeSite {
  const Graph* body = nullptr;
  std::vector<NodeId> nodes;  // what the tape computes
  const BodyOperands* operands = nullptr;
  std::vector<TapeAccess> accesses;  // one per operand
  TileShape shape;
  bool whole_columns = true;  // every tile has all elements of the column dim
  bool store_outputs = true;
  ValueId result;  // a value to be read after a run (Tape::result), or invalid
};

class Tape {
 public:
  // Slots of pointers: the operands, the constants, the registers.
  struct Frame {
    std::byte** slots = nullptr;
    std::span<std::byte*> operands;
  };

  int64_t ws_bytes() const { return ws_bytes_; }
  // Lays a frame out in `ws` (64-byte aligned), operands unset.
  Frame MakeFrame(std::byte* ws) const;
  // Loads what every tile shares. Operands are set.
  void Start(const Frame& frame) const;
  // Runs on the tile that the operands point to.
  void Run(const Frame& frame, int64_t rows, int64_t columns) const;
  // TapeSite::result: its place after a run, rows `columns` apart.
  const TapeInstr::Place& result() const { return result_; }
  size_t num_instrs() const { return instrs_.size(); }

 private:
  friend class TapeBuilder;
  struct Operand {
    TapeLoad load = nullptr;
    TapeStore store = nullptr;
    int64_t row_stride = 0, column_stride = 0;
    int64_t size = 4;       // bytes of an element in memory
    bool is_native = true;  // registers hold the elements as memory does
  };
  void Execute(const TapeInstr& instr, const Frame& frame, int64_t rows, int64_t columns) const;
  void Load(const TapeInstr& instr, const Frame& frame, int64_t rows, int64_t columns) const;
  void Store(const TapeInstr& instr, const Frame& frame, int64_t rows, int64_t columns) const;

  std::vector<Operand> operands_;
  std::vector<std::array<std::byte, 8>> constants_;
  std::vector<int64_t> register_bytes_;
  std::vector<TapeInstr> start_, instrs_;
  TapeInstr::Place result_;
  TileShape shape_;
  int64_t ws_bytes_ = 0;
};

// Empty when a node has no instruction.
std::optional<Tape> MakeTape(const TapeSite& site);

}  // namespace stator
