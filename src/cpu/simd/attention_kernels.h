// Attention on floats, block by block: the parts that are compiled per SIMD target.
//
// In:  the layout of one head's matrices, and where each head starts. Out: blocks of queries of the
// result, each computed on its own. Algorithm: softmax kept online over blocks of keys (Milakov &
// Gimelshein 2018; Dao et al. 2022, "FlashAttention"), with scores held transposed, [key][query],
// so that every query is a SIMD lane and no step of the softmax crosses lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace stator {

// Strides of a head's matrix, in elements.
struct MatrixLayout {
  DType dtype = DType::kFloat32;
  int64_t row_stride = 0;
  int64_t column_stride = 0;
};

// q[queries, width], k[keys, width], v[keys, value_width], mask[queries, keys], y[queries,
// value_width]. Dtypes f32, f16 and bf16; the mask's may be bool, for -inf where it is false.
struct AttentionShape {
  int64_t queries = 0, keys = 0, width = 0, value_width = 0;
  MatrixLayout q, k, v, mask, y;
  bool has_mask = false;
  bool causal = false;
  float scale = 1;
};

// Offsets in bytes of a head's matrices from the tensors' first elements.
struct AttentionHead {
  int64_t q = 0, k = 0, v = 0, mask = 0, y = 0;
};

// First elements of the tensors, and the heads.
struct AttentionCall {
  const std::byte *q = nullptr, *k = nullptr, *v = nullptr, *mask = nullptr;
  std::byte* y = nullptr;
  const AttentionHead* heads = nullptr;
};

struct AttentionKernel {
  // Blocks of queries that a head is split into.
  int64_t (*num_blocks)(const AttentionShape& shape);
  // Scratch of one thread, in floats: a multiple of 16.
  int64_t (*ws_floats)(const AttentionShape& shape);
  // Computes blocks [begin, end) of the num_blocks blocks of each head, head after head. Heads with
  // equal k and v should follow each other: their keys and values are packed once.
  void (*run)(const AttentionShape& shape, const AttentionCall& call, int64_t begin, int64_t end,
              float* ws);
};

// The kernel of the best SIMD target of this machine; null functions when it has no SIMD.
AttentionKernel GetAttentionKernel();

}  // namespace stator
