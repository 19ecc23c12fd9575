#include "cpu/run/panels.h"

#include <algorithm>
#include <vector>

#include "cpu/run/parallel.h"
#include "cpu/simd/transpose.h"

namespace stator {

using dnnl::memory;

std::optional<PanelLayout> FindPanels(const memory::desc& from, const memory::desc& to) {
  constexpr auto kBlocked = memory::format_kind::blocked;
  constexpr auto kFloat = memory::data_type::f32;
  if (from.get_format_kind() != kBlocked || to.get_format_kind() != kBlocked ||
      from.get_data_type() != kFloat || to.get_data_type() != kFloat ||
      from.get_inner_nblks() != 0 || from.get_submemory_offset() != 0 ||
      to.get_submemory_offset() != 0) {
    return std::nullopt;
  }
  memory::dims dims = from.get_dims(), strides = from.get_strides();
  memory::dims padded = to.get_padded_dims(), outer = to.get_strides();
  std::vector<int> large;  // dims
  for (int i = 0; i < static_cast<int>(dims.size()); ++i) {
    if (dims[i] > 1) large.push_back(i);
    if (dims[i] == 1 && padded[i] != 1) return std::nullopt;
  }
  if (large.size() != 2) return std::nullopt;
  auto [row, column] = std::pair(large[0], large[1]);
  if (strides[row] == 1) std::swap(row, column);
  if (strides[column] != 1 || strides[row] < dims[column]) return std::nullopt;

  memory::dims blocks = to.get_inner_blks(), blocked = to.get_inner_idxs();
  if (blocks.empty() || blocks.size() > 2 || blocked.back() != row) return std::nullopt;
  int64_t width = blocks.back(), chunk = 1;  // columns of a block
  if (blocks.size() == 2) {
    if (blocked[0] != column) return std::nullopt;
    chunk = blocks[0];
  }
  bool dense = outer[column] == chunk * width || padded[column] == chunk;
  if (!dense || width > kMaxPanelWidth) return std::nullopt;
  return PanelLayout{.rows = dims[row],
                     .depth = dims[column],
                     .pitch = strides[row],
                     .count = padded[row] / width,
                     .width = width,
                     .stride = outer[row],
                     .padded_depth = padded[column]};
}

void PackPanels(const PanelLayout& layout, const std::byte* from, std::byte* to) {
  constexpr int64_t kSize = sizeof(float);
  ParallelFor(layout.count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t first = i * layout.width;
      PackPanel({.to = to + i * layout.stride * kSize,
                 .width = layout.width,
                 .from = from + first * layout.pitch * kSize,
                 .pitch = layout.pitch,
                 .rows = std::clamp<int64_t>(layout.rows - first, 0, layout.width),
                 .depth = layout.depth,
                 .padded_depth = layout.padded_depth});
    }
  });
}

}  // namespace stator
