// PrepareCopy against CopyTensor: every layout to every layout, every element size.
#include "cpu_run_testing.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

void CheckCopy(const TensorRef& from, Layout layout) {
  HostTensor to = MakeInLayout(from.dtype, from.dims, layout);
  Step step;
  StepSite site{.step = &step, .body = {}, .inputs = {from}, .outputs = {to.ref}};
  RunStep(*PrepareCopy(site), {from}, {to.ref});
  ExpectClose(to.ref, from);
  ExpectMarginUntouched(to);
}

TEST(Copy, EveryLayoutAndElementSize) {
  const Sizes kDims[] = {{},          {1},          {0, 3},         {5000},       {3, 5},
                         {2, 17, 33}, {1, 130, 70}, {2, 3, 20, 31}, {1, 8, 1, 4}, {2, 66, 9, 67}};
  std::mt19937 random(3);
  ForEachSimdTarget([&] {
    for (DType dtype : {DType::kInt8, DType::kBFloat16, DType::kFloat32, DType::kInt64}) {
      for (const Sizes& dims : kDims) {
        for (Layout from_layout : kLayouts) {
          HostTensor from = MakeInLayout(dtype, dims, from_layout);
          FillRandom(from.ref, random, false);
          for (Layout to_layout : kLayouts) CheckCopy(from.ref, to_layout);
        }
      }
    }
  });
}

TEST(Copy, RepeatsWhatIsBroadcast) {
  HostTensor row = MakeInLayout(DType::kFloat32, {70}, Layout::kDense);
  std::mt19937 random(4);
  FillRandom(row.ref, random, false);
  TensorRef along_rows = row.ref, along_columns = row.ref;
  along_rows.dims = {3, 70}, along_rows.strides = {0, 1};
  along_columns.dims = {70, 5}, along_columns.strides = {1, 0};
  for (Layout layout : kLayouts) {
    CheckCopy(along_rows, layout);
    CheckCopy(along_columns, layout);
  }
}

TEST(Copy, WritesIntoAWindow) {
  HostTensor from = MakeInLayout(DType::kFloat32, {4, 5}, Layout::kDense);
  HostTensor whole = MakeInLayout(DType::kFloat32, {4, 9}, Layout::kDense);
  std::mt19937 random(5);
  FillRandom(from.ref, random, false);
  std::fill_n(Data<float>(whole.ref), 36, -1.0f);
  TensorRef window = whole.ref;
  window.data += 2 * sizeof(float);
  window.dims = {4, 5};
  Step step;
  RunStep(*PrepareCopy({.step = &step, .body = {}, .inputs = {from.ref}, .outputs = {window}}),
          {from.ref}, {window});
  ExpectClose(window, from.ref);
  for (int row = 0; row < 4; ++row) {
    for (int column : {0, 1, 7, 8}) EXPECT_EQ(Data<float>(whole.ref)[row * 9 + column], -1.0f);
  }
}

}  // namespace
}  // namespace stator
