// PackPanels against oneDNN's own reorder, byte by byte.
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/run/onednn.h"
#include "cpu/run/panels.h"
#include "cpu_run_testing.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above
using dnnl::memory;
using Tag = memory::format_tag;

struct Packed {
  memory::desc from, to;
  std::vector<float> content;  // under `from`
};

Packed Make(const memory::dims& dims, const memory::dims& strides, Tag tag) {
  Packed packed{.from = memory::desc(dims, memory::data_type::f32, strides),
                .to = memory::desc(dims, memory::data_type::f32, tag),
                .content = {}};
  packed.content.resize(packed.from.get_size() / sizeof(float));
  std::iota(packed.content.begin(), packed.content.end(), 1.0f);
  return packed;
}

void ExpectSameAsReorder(Packed& packed, const PanelLayout& panels) {
  size_t bytes = packed.to.get_size();
  DeviceBuffer expected(CpuDevice(), static_cast<int64_t>(bytes));
  DeviceBuffer actual(CpuDevice(), static_cast<int64_t>(bytes));
  std::memset(actual.data(), 0x55, bytes);
  memory from(packed.from, OneDnnEngine(), packed.content.data());
  memory to(packed.to, OneDnnEngine(), expected.data());
  dnnl::stream stream(OneDnnEngine());
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
  PackPanels(panels, reinterpret_cast<const std::byte*>(packed.content.data()), actual.data());
  EXPECT_EQ(std::memcmp(actual.data(), expected.data(), bytes), 0);
}

TEST(Panels, AreWhatAReorderMakes) {
  constexpr Tag kMatrices[] = {Tag::BA16a64b, Tag::BA16a48b, Tag::BA16a32b, Tag::BA16a16b};
  constexpr Tag kLayers[] = {Tag::Acdb16a, Tag::Acdb64a, Tag::ABcd16b16a, Tag::ABcd8b8a};
  ForEachSimdTarget([&] {
    for (auto [k, n] : {std::pair<int64_t, int64_t>{64, 128}, {48, 33}, {7, 130}, {200, 2}}) {
      for (int64_t gap : {0, 5}) {
        for (Tag tag : kMatrices) {
          Packed packed = Make({k, n}, {1, k + gap}, tag);
          std::optional<PanelLayout> panels = FindPanels(packed.from, packed.to);
          ASSERT_TRUE(panels.has_value());
          ExpectSameAsReorder(packed, *panels);
        }
        for (Tag tag : kLayers) {
          Packed packed = Make({n, k, 1, 1}, {k + gap, 1, 1, 1}, tag);
          std::optional<PanelLayout> panels = FindPanels(packed.from, packed.to);
          ASSERT_TRUE(panels.has_value());
          ExpectSameAsReorder(packed, *panels);
        }
      }
    }
  });
}

TEST(Panels, AreNoneInOtherLayouts) {
  auto finds = [](const memory::dims& dims, const memory::dims& strides, Tag tag) {
    Packed packed = Make(dims, strides, tag);
    return FindPanels(packed.from, packed.to).has_value();
  };
  EXPECT_FALSE(finds({64, 64}, {64, 1}, Tag::BA16a64b));              // rows of b as they lie
  EXPECT_FALSE(finds({64, 64}, {1, 64}, Tag::ab));                    // no blocks
  EXPECT_FALSE(finds({64, 64}, {2, 128}, Tag::BA16a64b));             // gaps between elements
  EXPECT_FALSE(finds({64, 64}, {1, 0}, Tag::BA16a64b));               // one row for all
  EXPECT_FALSE(finds({64, 64, 3, 3}, {576, 9, 3, 1}, Tag::Acdb64a));  // four dims
  EXPECT_FALSE(finds({1, 64}, {64, 1}, Tag::BA16a64b));               // a padded vector
  memory::desc half({64, 64}, memory::data_type::f16, Tag::ba);
  EXPECT_FALSE(FindPanels(half, memory::desc({64, 64}, memory::data_type::f16, Tag::BA16a64b)));
}

}  // namespace
}  // namespace stator
