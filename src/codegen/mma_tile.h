// A block's tile of a product on tensor cores: what its kernels share.
//
// In:  a product (mma_site.h) and the tile's shape. Out: statements that fill a ring of stages in
// shared memory, kMmaDepth deep along k, and that finish and store a tile of sums.
// Invariant: a stage holds the tile of a, then that of b; rows are 128 bytes whose 16-byte chunks
// are permuted by the row's number, so that the same chunk of 8 rows lies in 8 places (for wgmma,
// "128-byte swizzle"). A row is 64 elements along k, of a b that lies along n a step of k's 64
// columns; further columns follow. A ring begins at a multiple of 1024 bytes, and so does a stage.
#pragma once

#include "codegen/mma_site.h"

namespace stator {

inline constexpr int kMmaDepth = 64;  // of a stage, in elements of a and b: 128 bytes
inline constexpr int kMmaRowBytes = kMmaDepth * 2;

class MmaTile {
 public:
  struct Shape {
    int m = 0, n = 0, threads = 0, stages = 0;
  };

  MmaTile(const CudaSite& site, const Mma& mma, const Shape& shape);

  KernelText& text() { return text_; }
  int ABytes() const { return shape_.m * kMmaRowBytes; }
  int StageBytes() const;
  int64_t NumSteps() const { return (mma_.k_size + kMmaDepth - 1) / kMmaDepth; }
  Dim NumRowTiles() const { return CeilDiv(mma_.rows.count(), shape_.m); }
  int64_t NumColumnTiles() const { return (mma_.n_size + shape_.n - 1) / shape_.n; }

  // Which chunk of which rows a thread copies. Needs `ring`; then row0 and n0, where the tile is.
  void WritePlace();
  // load_a and load_b: begin to copy a step's tiles into its stage. Needs first_step.
  void WriteLoads();
  // The first `count` steps' copies; b's, when it is constant, before inputs are waited for.
  void WriteFirstLoads(int count);
  // Finishes and stores the tile's rows that are this block's part of `split`. Needs their sums in
  // floats at `sums`, a row `pitch` long; of further parts in the cluster's other blocks.
  void WriteOutput(int pitch, int split = 1);

 private:
  int RowsAtOnce() const { return shape_.threads / (kMmaDepth / kMmaChunk); }
  void WriteRow();
  void WriteVectorPlace(int split);
  bool HasRowsBeyond() const { return mma_.n_size % shape_.n != 0; }
  int NumRowsOfB() const;
  void WriteInside(const char* name, const std::string& position, const Dim& size, int64_t tile);
  void WriteRowsOfA();
  void WriteRowsOfB();
  void WriteWhetherInside();
  void WriteWindowRead();

  const CudaSite& site_;
  const Mma& mma_;
  Shape shape_;
  KernelText text_;
  int vec_;
  OutputText output_;
  std::string position_, a_at_, b_at_;
};

}  // namespace stator
