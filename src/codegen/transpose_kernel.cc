// Transposing kernels: pointwise kernels and copies whose inputs are contiguous along another dim
// than their outputs.
//
// A block computes a tile of 32 x 32 elements: it reads the transposed inputs along their own
// contiguous dim into shared memory, and then runs over the tile along the outputs'. Rows of a tile
// are one element longer than needed, so that its columns lie in different banks.
#include "base/error.h"
#include "codegen/body_text.h"
#include "codegen/families.h"
#include "codegen/pointwise_body.h"
#include "codegen/vector_text.h"

namespace stator {
namespace {

constexpr int kTile = 32, kBlock = 256, kRows = kBlock / kTile;
constexpr int64_t kMinSize = 8;  // along both dims: below, tiles are mostly empty

struct Transposition {
  LoopDims loop;
  size_t inner = 0, other = 0;  // the dims along which outputs and transposed inputs are contiguous
  std::vector<size_t> inputs;   // those transposed
};

bool IsLong(const Dim& dim) { return !dim.is_static() || dim.value() >= kMinSize; }

std::optional<Transposition> FindTransposition(const CudaSite& site) {
  if (!IsPointwise(site)) return std::nullopt;
  Transposition found{.loop = FindPointwiseLoop(site)};
  const LoopDims& loop = found.loop;
  found.inner = loop.dims.size() - 1;
  if (!IsLong(loop.dims[found.inner])) return std::nullopt;
  for (size_t i = 0; i < site.inputs.size(); ++i) {
    const Dims& strides = loop.strides[site.outputs.size() + i];
    if (strides[found.inner] == Dim(0) || strides[found.inner] == Dim(1)) continue;
    for (size_t d = 0; d < found.inner; ++d) {
      if (!(strides[d] == Dim(1)) || !IsLong(loop.dims[d])) continue;
      if (found.inputs.empty()) found.other = d;
      if (found.other == d) found.inputs.push_back(i);
    }
  }
  if (found.inputs.empty()) return std::nullopt;
  return found;
}

std::vector<Attrs> FindTransposeVariants(const CudaSite& site) {
  if (!FindTransposition(site)) return {};
  return {Attrs{}};
}

class TransposeWriter {
 public:
  explicit TransposeWriter(const CudaSite& site)
      : site_(site),
        found_(*FindTransposition(site)),
        text_(site, PointwiseTypes(site)),
        body_(text_),
        vectors_(text_, found_.loop, 1, "", MakeNames(), IsCopy(site)) {}

  CudaKernel Write() {
    const LoopDims& loop = found_.loop;
    Dim inner_tiles = CeilDiv(loop.dims[found_.inner], kTile);
    Dim other_tiles = CeilDiv(loop.dims[found_.other], kTile);
    for (size_t i : found_.inputs) {
      text_.Line("__shared__ {} {}_tile[{}][{}];", vectors_.InputType(i), text_.input_name(i),
                 kTile, kTile + 1);
    }
    text_.Line("const Index tile = blockIdx.x;");
    text_.Line("const Index a0 = tile % {} * {};", text_.Size(inner_tiles), kTile);
    text_.Line("const Index b0 = tile / {} % {} * {};", text_.Size(inner_tiles),
               text_.Size(other_tiles), kTile);
    Dim count = WriteOtherCoordinates(inner_tiles * other_tiles);
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");

    OpenTile("k", "lane");
    for (size_t i : found_.inputs) {
      std::string element = vectors_.Load(i);
      text_.Line("{}_tile[k][lane] = {};", text_.input_name(i), element);
    }
    CloseTile();
    text_.Line("__syncthreads();");
    OpenTile("lane", "k");
    WriteElement();
    CloseTile();
    return text_.Finish(IsCopy(site_) ? "copy_transposed" : EntryName("transpose", site_.body),
                        {inner_tiles * other_tiles * count}, kBlock);
  }

 private:
  std::vector<std::string> MakeNames() const {
    std::vector<std::string> names;
    for (size_t d = 0; d < found_.loop.dims.size(); ++d) {
      names.push_back(d == found_.inner ? "a" : d == found_.other ? "b" : fmt::format("i{}", d));
    }
    return names;
  }

  // The coordinates of the dims that a tile does not have; returns how many tiles lie behind each
  // other along them.
  Dim WriteOtherCoordinates(const Dim& num_tiles) {
    LoopDims others;
    std::vector<std::string> names, all_names = MakeNames();
    for (size_t d = 0; d < found_.loop.dims.size(); ++d) {
      if (d == found_.inner || d == found_.other) continue;
      others.dims.push_back(found_.loop.dims[d]);
      names.push_back(all_names[d]);
    }
    if (others.dims.empty()) return 1;
    text_.Line("const Index outer = tile / {};", text_.Size(num_tiles));
    WriteCoordinates(text_, others, "outer", names, std::vector<bool>(names.size(), true));
    return others.count();
  }

  // A loop over the tile's elements, (a0 + row, b0 + column) for each.
  void OpenTile(std::string_view row, std::string_view column) {
    text_.Line("#pragma unroll");
    text_.Open("for (Index k = threadIdx.x / {}; k < {}; k += {})", kTile, kTile, kRows);
    text_.Line("const Index lane = threadIdx.x % {};", kTile);
    text_.Line("const Index a = a0 + {}, b = b0 + {};", row, column);
    text_.Open("if (a < {} && b < {})", text_.Size(found_.loop.dims[found_.inner]),
               text_.Size(found_.loop.dims[found_.other]));
  }
  void CloseTile() {
    text_.Close();
    text_.Close();
  }

  void WriteElement() {
    std::vector<std::string> elements(site_.inputs.size());
    for (size_t i : found_.inputs) {
      elements[i] = fmt::format("{}_tile[lane][k]", text_.input_name(i));
    }
    for (size_t i = 0; i < elements.size(); ++i) {
      if (elements[i].empty()) elements[i] = vectors_.Load(i);
    }
    std::vector<std::string> results = WritePointwise(site_, body_, elements);
    for (size_t i = 0; i < results.size(); ++i) {
      text_.Line("{} = {};", vectors_.Target(i), results[i]);
    }
  }

  const CudaSite& site_;
  Transposition found_;
  KernelText text_;
  BodyText body_;
  VectorText vectors_;
};

CudaKernel MakeTransposeKernel(const CudaSite& site, const Attrs&) {
  // Symbolic sizes may leave the dims in an order in which nothing is transposed.
  if (!FindTransposition(site)) {
    return kPointwiseFamily.make(site, {{"block", Dim(kBlock)}, {"vec", Dim(1)}});
  }
  return TransposeWriter(site).Write();
}

}  // namespace

const KernelFamily kTransposeFamily = {"transpose", FindTransposeVariants, MakeTransposeKernel};

}  // namespace stator
