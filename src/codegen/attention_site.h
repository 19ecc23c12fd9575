// Scaled dot-product attention as a kernel sees it: y[h, l, e] = sum over s of
// softmax(scale q[h, l] k[hk, s] + mask[h, l, s]) v[hk, s, e], over any leading dims b0, b1, ...
//
// In:  a site. Out: its operands and sizes, and texts that the attention kernels share.
// Invariant: h, l, e name the output's last coordinates, hk the head of k and v.
#pragma once

#include "codegen/output_text.h"

namespace stator {

struct AttentionSite {
  AnchoredBody body;
  const KernelOperand *q = nullptr, *k = nullptr, *v = nullptr, *mask = nullptr;
  size_t rank = 0;
  int64_t width = 0, value_width = 0;
  Dim length, keys;
  bool causal = false;
  double scale = 1;

  Dim num_heads() const;  // of all batches
};

std::optional<AttentionSite> FindAttention(const CudaSite& site);

// Names of the output's coordinates.
std::vector<std::string> AttentionNames(const AttentionSite& attention);
// Writes a block's first query q0 of `tile` and the coordinates of its head.
void WriteHead(KernelText& text, const AttentionSite& attention, int tile);
// The offset of operand `i` (0 to 2: q, k, v) at (b..., head, row, e).
std::string OffsetInHead(KernelText& text, const AttentionSite& attention, size_t i,
                         const std::string& head, const std::string& row, const std::string& e);
// The score of query l and key s, of their product `dot`, scaled and masked, in `type`.
std::string ScoreText(KernelText& text, const AttentionSite& attention, const std::string& dot,
                      const std::string& type);

}  // namespace stator
