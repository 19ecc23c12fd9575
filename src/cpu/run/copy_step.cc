// PrepareCopy: strided copies, as runs of bytes where both sides have them, as blocked transposes
// where each side is contiguous along a dim of its own, else element by element.
#include <cstring>

#include "cpu/run/parallel.h"
#include "cpu/run/step.h"
#include "cpu/run/tiles.h"
#include "cpu/simd/transpose.h"

namespace stator {
namespace {

// Elements of a block: two of them, of 4 bytes, fill half of the first-level cache.
constexpr int64_t kBlockElements = 64 * 64;

class CopyStep final : public PreparedStep {
 public:
  CopyStep(const LoopNest& nest, size_t element_size) : size_(element_size) {
    TileShape shape = ChooseTileShape(nest, kBlockElements);
    const size_t sizes[] = {size_, size_};
    grid_ = TileGrid(nest, shape, sizes, false);
    auto stride = [&](int side, int dim) { return dim < 0 ? 0 : nest.strides[side][dim]; };
    for (int side : {0, 1}) {
      row_strides_[side] = stride(side, shape.row_dim);
      column_strides_[side] = stride(side, shape.column_dim);
    }
    int64_t num_bytes = static_cast<int64_t>(size_);
    for (int64_t dim : nest.dims) num_bytes *= dim;
    constexpr int64_t kMinBytes = 256 * 1024;  // of a copy worth a parallel region
    is_parallel_ = num_bytes >= kMinBytes;
  }

  bool fits() const { return grid_.fits(); }

  void Run(const StepArgs& args) const override {
    if (args.inputs[0] == args.outputs[0]) return;  // in place: nothing moves
    auto run = [&](int64_t begin, int64_t end) { CopyTiles(args, begin, end); };
    if (is_parallel_) {
      ParallelFor(grid_.num_tiles(), run);
    } else {
      run(0, grid_.num_tiles());
    }
  }

 private:
  void CopyTiles(const StepArgs& args, int64_t tile, int64_t end) const {
    std::byte* sides[] = {args.inputs[0], args.outputs[0]};
    TileWalk walk(grid_, sides, tile);
    while (true) {
      CopyTile(sides[0], sides[1], walk.rows(), walk.columns());
      if (++tile == end) return;
      walk.Next();
    }
  }

  void CopyTile(const std::byte* from, std::byte* to, int64_t rows, int64_t columns) const {
    bool is_run = column_strides_[0] == 1 && column_strides_[1] == 1;
    bool is_transpose = row_strides_[0] == 1 && column_strides_[1] == 1;
    if (!is_run && is_transpose) {
      Transpose(to, row_strides_[1], from, column_strides_[0], rows, columns, size_);
      return;
    }
    int64_t size = static_cast<int64_t>(size_);
    for (int64_t row = 0; row < rows; ++row) {
      const std::byte* from_row = from + row * row_strides_[0] * size;
      std::byte* to_row = to + row * row_strides_[1] * size;
      if (is_run) {
        std::memcpy(to_row, from_row, columns * size);
      } else {
        CopyRow(from_row, to_row, columns);
      }
    }
  }

  void CopyRow(const std::byte* from, std::byte* to, int64_t columns) const {
    auto copy = [&](auto element) {
      using T = decltype(element);
      for (int64_t i = 0; i < columns; ++i) {
        reinterpret_cast<T*>(to)[i * column_strides_[1]] =
            reinterpret_cast<const T*>(from)[i * column_strides_[0]];
      }
    };
    switch (size_) {
      case 1: copy(uint8_t{}); break;
      case 2: copy(uint16_t{}); break;
      case 4: copy(uint32_t{}); break;
      default: copy(uint64_t{}); break;
    }
  }

  size_t size_;
  TileGrid grid_;
  int64_t row_strides_[2], column_strides_[2];  // of the input and the output
  bool is_parallel_;
};

// What runs when the output has no elements.
class NoStep final : public PreparedStep {
 public:
  void Run(const StepArgs&) const override {}
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareCopy(const StepSite& site) {
  const TensorRef &from = site.inputs[0], &to = site.outputs[0];
  STATOR_CHECK(from.dtype == to.dtype && from.dims == to.dims, "copy between unlike tensors");
  if (to.num_elements() == 0) return std::make_unique<NoStep>();
  LoopNest nest{.dims = to.dims,
                .inner = std::vector<bool>(to.dims.size(), false),
                .strides = {from.strides, to.strides}};
  auto step =
      std::make_unique<CopyStep>(MakeLoopNest(std::move(nest), 1, false), DTypeSize(to.dtype));
  if (!step->fits()) Fail(ErrorKind::kUnsupported, "copy over {} dims", to.dims.size());
  return step;
}

}  // namespace stator
