// Depthwise convolution of images whose channels lie next to each other, with pointwise nodes
// behind.
//
// A thread computes `rows` x `columns` neighbouring outputs of `vec` channels in registers: it goes
// down the rows of the input that they need, reads each one's positions once for all windows that
// share them, and reads the next row ahead. The weights of a block's channels lie in shared memory,
// channels innermost, as float; where they are constant they are read before what ran before has
// ended. A block's threads are `groups` of channels times `strips` of outputs, neighbours along the
// height, so that rows that two strips read come from the first-level cache.
#include <algorithm>

#include "codegen/families.h"
#include "codegen/window_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kLanes = 32;                          // groups of channels of a block, at most
constexpr int kMinThreads = 64, kMaxThreads = 256;  // of a block
constexpr int kMaxSmem = 40 << 10;                  // of weights, in bytes

struct Depthwise {
  AnchoredBody body;
  int64_t channels = 0;
  int64_t window[2] = {}, stride[2] = {}, padding[2] = {};
};

std::optional<Depthwise> FindDepthwise(const CudaSite& site) {
  std::optional<AnchoredBody> body = FindAnchoredBody(site);
  if (!body || body->anchor->op->name != "conv") return std::nullopt;
  const Attrs& attrs = body->anchor->attrs;
  const KernelOperand &x = site.inputs[body->operands[0]], &w = site.inputs[body->operands[1]];
  Depthwise found{.body = *body};
  bool is_image = x.dims.size() == 4 && x.dtype != DType::kFloat64 && !attrs.GetBool("transposed");
  if (!is_image || !IsStatic(w.dims) || !(w.dims[1] == Dim(1))) return std::nullopt;
  found.channels = w.dims[0].value();
  bool is_depthwise =
      x.dims[1] == w.dims[0] && attrs.GetDim("groups") == w.dims[0] && found.channels > 0;
  // A coordinate along another innermost dim would make each read a line of its own.
  bool is_channels_last = x.strides[1] == Dim(1) && site.outputs[0].strides[1] == Dim(1);
  if (!is_depthwise || !is_channels_last) return std::nullopt;
  for (int i = 0; i < 2; ++i) {
    found.window[i] = w.dims[i + 2].value();
    found.stride[i] = attrs.GetInts("stride")[i];
    found.padding[i] = attrs.GetInts("padding")[i];
    if (attrs.GetInts("dilation")[i] != 1 && found.window[i] != 1) return std::nullopt;
  }
  constexpr int64_t kMaxRow = 16;  // positions that a thread holds besides its first window
  if (found.window[0] == 0 || found.window[1] == 0 || found.window[1] > kMaxRow)
    return std::nullopt;
  return found;
}

// The work of a block.
struct Tiling {
  int vec = 1, columns = 1, rows = 1;
  int groups = 1, strips = 1;  // threads: along the channels, along the outputs
  int64_t channel_blocks = 1;
  Dim row_tiles, column_tiles, tiles;  // of all images
  int pitch = 0;                       // of a tap's weights in shared memory, in groups

  int used_threads() const { return groups * strips; }
  int threads() const { return (used_threads() + 31) / 32 * 32; }  // whole warps
};

int64_t CeilOf(int64_t a, int64_t b) { return (a + b - 1) / b; }

Tiling FindTiling(const CudaSite& site, const Depthwise& conv, const Attrs& variant) {
  Tiling tiling;
  tiling.vec = FindChannelVec(site, conv.body, static_cast<int>(variant.GetInt("vec")));
  tiling.columns = static_cast<int>(variant.GetInt("columns"));
  tiling.rows = static_cast<int>(variant.GetInt("rows"));
  int64_t groups = CeilOf(conv.channels, tiling.vec);
  tiling.channel_blocks = CeilOf(groups, kLanes);
  tiling.groups = static_cast<int>(CeilOf(groups, tiling.channel_blocks));
  tiling.pitch = tiling.groups + 1;
  const Dims& y = site.outputs[0].dims;
  tiling.row_tiles = CeilDiv(y[2], tiling.rows);
  tiling.column_tiles = CeilDiv(y[3], tiling.columns);
  tiling.tiles = y[0] * tiling.row_tiles * tiling.column_tiles;
  tiling.strips = std::max(1, kMaxThreads / tiling.groups);
  // Few outputs: smaller blocks, so that all multiprocessors have one.
  while (tiling.tiles.is_static() && tiling.threads() / 2 >= kMinThreads &&
         tiling.channel_blocks * CeilOf(tiling.tiles.value(), tiling.strips) <
             site.target.num_sms) {
    tiling.strips /= 2;
  }
  return tiling;
}

std::vector<Attrs> FindDepthwiseVariants(const CudaSite& site) {
  std::optional<Depthwise> conv = FindDepthwise(site);
  if (!conv) return {};
  std::vector<Attrs> variants;
  const Dims& y = site.outputs[0].dims;
  auto add = [&](int max_vec, int64_t max_columns, int rows) {
    int64_t columns = max_columns;
    if (y[3].is_static() && y[3].value() > 0) {  // tiles of one width
      columns = CeilOf(y[3].value(), CeilOf(y[3].value(), max_columns));
    }
    constexpr int kWordBytes = 8;
    int size = static_cast<int>(DTypeSize(site.inputs[conv->body.operands[0]].dtype));
    int vec = FindChannelVec(site, conv->body, std::min(max_vec, kWordBytes / size));
    Attrs variant = {{"vec", Dim(vec)}, {"columns", Dim(columns)}, {"rows", Dim(rows)}};
    Tiling tiling = FindTiling(site, *conv, variant);
    int64_t smem = conv->window[0] * conv->window[1] * tiling.pitch * tiling.vec *
                   static_cast<int64_t>(sizeof(float));
    if (smem > kMaxSmem || std::ranges::count(variants, variant) > 0) return;
    variants.push_back(std::move(variant));
  };
  Dim outputs = y[0] * y[2] * y[3];
  // Long strips where there are enough of them.
  constexpr int64_t kStrip = 16;
  bool few = outputs.is_static() &&
             outputs.value() * conv->channels < 2 * kStrip * kMaxThreads * site.target.num_sms;
  if (!few) add(2, 8, 2);
  add(2, 4, few ? 1 : 2);
  add(2, 8, 1);
  if (few) add(2, 2, 1);
  return variants;
}

class DepthwiseWriter {
 public:
  DepthwiseWriter(const CudaSite& site, const Depthwise& conv, const Attrs& variant)
      : site_(site),
        conv_(conv),
        text_(site),
        tiling_(FindTiling(site, conv, variant)),
        output_(text_, conv.body, WindowNames(4), tiling_.vec),
        x_(Operand(0)),
        w_(Operand(1)),
        position_(PositionType(site)) {}

  CudaKernel Write() {
    WriteWeights();
    WritePosition();
    WriteSums();
    WriteRead();
    WriteRows();
    WriteOutputs();
    return text_.Finish(EntryName("depthwise", site_.body),
                        {CeilDiv(tiling_.tiles, tiling_.strips) * tiling_.channel_blocks},
                        tiling_.threads());
  }

 private:
  const KernelOperand& Operand(size_t i) const { return site_.inputs[conv_.body.operands[i]]; }
  std::string At(size_t i) const { return text_.input_at(conv_.body.operands[i]); }
  int64_t NumTaps() const { return conv_.window[0] * conv_.window[1]; }
  int64_t NumPositions() const {  // of a row of the input that a thread reads
    return (tiling_.columns - 1) * conv_.stride[1] + conv_.window[1];
  }

  // weights[tap * pitch + group], of the block's channels.
  void WriteWeights() {
    int width = tiling_.groups * tiling_.vec;
    text_.Line("__shared__ Vec<float, {}> weights[{}];", tiling_.vec, NumTaps() * tiling_.pitch);
    text_.Line("const Index c0 = blockIdx.x % {} * {};", tiling_.channel_blocks, width);
    text_.Line("LaunchDependents();");
    if (!w_.constant) text_.Line("WaitForInputs();");
    text_.Open("for (unsigned i = threadIdx.x; i < {}; i += {})", NumTaps() * width,
               tiling_.threads());
    text_.Line("const unsigned channel = i / {0}, tap = i % {0};", NumTaps());
    std::string at = text_.Offset({{"(c0 + channel)", w_.strides[0]},
                                   {fmt::format("(tap / {})", conv_.window[1]), w_.strides[2]},
                                   {fmt::format("(tap % {})", conv_.window[1]), w_.strides[3]}});
    text_.Line("const float weight = c0 + channel < {} ? ToCompute({}[{}]) : 0.0f;", conv_.channels,
               At(1), at);
    text_.Line("weights[tap * {0} + channel / {1}][channel % {1}] = weight;", tiling_.pitch,
               tiling_.vec);
    text_.Close();
    text_.Line("__syncthreads();");
  }

  // The thread's channels c, and its outputs from row0 and column0 on.
  void WritePosition() {
    text_.Line("const unsigned group = threadIdx.x % {};", tiling_.groups);
    text_.Line("const Index tile = blockIdx.x / {} * {} + threadIdx.x / {};",
               tiling_.channel_blocks, tiling_.strips, tiling_.groups);
    text_.Line("const Index c = c0 + group * {};", tiling_.vec);
    text_.Line("if (tile >= {} || c >= {}) return;", text_.Size(tiling_.tiles), conv_.channels);
    if (tiling_.threads() > tiling_.used_threads()) {
      text_.Line("if (threadIdx.x >= {}) return;", tiling_.used_threads());
    }
    std::string rows = text_.Size(tiling_.row_tiles), columns = text_.Size(tiling_.column_tiles);
    text_.Line("const Index row0 = tile % {} * {};", rows, tiling_.rows);
    text_.Line("const Index column0 = tile / {} % {} * {};", rows, columns, tiling_.columns);
    text_.Line("const Index n = tile / {} / {};", rows, columns);
    if (w_.constant) text_.Line("WaitForInputs();");
  }

  // The sums start with the bias.
  void WriteSums() {
    bool has_bias = conv_.body.operands.size() > 2 && conv_.body.operands[2] >= 0;
    text_.Line("float sum[{}][{}][{}];", tiling_.rows, tiling_.columns, tiling_.vec);
    text_.OpenLoop("j", tiling_.vec);
    std::string start = "0.0f";
    if (has_bias) {
      start = fmt::format("ToCompute({}[{}])", At(2),
                          text_.Offset({{"(c + j)", Operand(2).strides[0]}}));
    }
    text_.Line("const float start = {};", start);
    text_.OpenLoop("r", tiling_.rows);
    text_.OpenLoop("p", tiling_.columns);
    text_.Line("sum[r][p][j] = start;");
    for (int i = 0; i < 3; ++i) text_.Close();
  }

  // read(y): the positions of row y of those that the thread needs; zeros outside of the image.
  void WriteRead() {
    text_.Line("const {0} q0 = {0}(row0) * {1} - {2}, q1 = {0}(column0) * {3} - {4};", position_,
               conv_.stride[0], conv_.padding[0], conv_.stride[1], conv_.padding[1]);
    text_.Line("Word<{}, {}> next[{}];", ElementType(x_.dtype), tiling_.vec, NumPositions());
    text_.Open("const auto read = [&](int y)");
    text_.Line("const {} row = q0 + y;", position_);
    text_.Line("const bool has_row = row >= 0 && row < {};", text_.Size(x_.dims[2]));
    text_.Line("const {}* const line = {} + ({});", ElementType(x_.dtype), At(0),
               text_.Offset({{position_ + "(n)", x_.strides[0]},
                             {"row", x_.strides[2]},
                             {"q1", x_.strides[3]},
                             {position_ + "(c)", x_.strides[1]}}));
    text_.OpenLoop("i", NumPositions());
    text_.Line("const bool inside = has_row && q1 + i >= 0 && q1 + i < {};",
               text_.Size(x_.dims[3]));
    text_.Line("next[i] = LoadWordIf<{}>(inside, line + i * {});", tiling_.vec,
               text_.Size(x_.strides[3]));
    text_.Close();
    text_.Close(";");
  }

  void WriteRows() {
    int64_t num_rows = (tiling_.rows - 1) * conv_.stride[0] + conv_.window[0];
    text_.Line("read(0);");
    text_.Line("#pragma unroll 1");
    text_.Open("for (int y = 0; y < {}; ++y)", num_rows);
    text_.Line("float x[{}][{}];", NumPositions(), tiling_.vec);
    text_.OpenLoop("i", NumPositions());
    text_.Line("const auto x_vec = __builtin_bit_cast(Vec<{}, {}>, next[i]);",
               ElementType(x_.dtype), tiling_.vec);
    text_.OpenLoop("j", tiling_.vec);
    text_.Line("x[i][j] = ToCompute(x_vec[j]);");
    text_.Close();
    text_.Close();
    text_.Line("if (y + 1 < {}) read(y + 1);", num_rows);
    text_.OpenLoop("r", tiling_.rows);
    if (tiling_.rows == 1) {
      text_.Line("const int k0 = y;");
    } else {
      text_.Line("const int k0 = y - r * {};", conv_.stride[0]);
      text_.Line("if (k0 < 0 || k0 >= {}) continue;", conv_.window[0]);
    }
    text_.OpenLoop("k1", conv_.window[1]);
    text_.Line("const auto w = weights[(k0 * {} + k1) * {} + group];", conv_.window[1],
               tiling_.pitch);
    text_.OpenLoop("p", tiling_.columns);
    text_.OpenLoop("j", tiling_.vec);
    text_.Line("sum[r][p][j] += x[p * {} + k1][j] * w[j];", conv_.stride[1]);
    for (int i = 0; i < 5; ++i) text_.Close();
  }

  void WriteOutputs() {
    const Dims& y = site_.outputs[0].dims;
    text_.OpenLoop("r", tiling_.rows);
    text_.OpenLoop("p", tiling_.columns);
    text_.Line("const Index p0 = row0 + r, p1 = column0 + p;");
    std::string inside;
    if (!IsMultiple(y[2], tiling_.rows)) inside = fmt::format("p0 < {}", text_.Size(y[2]));
    if (!IsMultiple(y[3], tiling_.columns)) {
      inside += fmt::format("{}p1 < {}", inside.empty() ? "" : " && ", text_.Size(y[3]));
    }
    if (!inside.empty()) text_.Open("if ({})", inside);
    if (tiling_.vec == 1) text_.Line("constexpr int j = 0;");
    output_.WriteResults("sum[r][p][j]");
    if (!inside.empty()) text_.Close();
    text_.Close();
    text_.Close();
  }

  const CudaSite& site_;
  const Depthwise& conv_;
  KernelText text_;
  Tiling tiling_;
  OutputText output_;
  const KernelOperand &x_, &w_;
  std::string position_;
};

CudaKernel MakeDepthwiseKernel(const CudaSite& site, const Attrs& variant) {
  if (std::optional<Depthwise> conv = FindDepthwise(site)) {
    return DepthwiseWriter(site, *conv, variant).Write();
  }
  // Symbolic sizes along which channels are not known to lie next to each other.
  return kConvFamily.make(site, kConvFamily.find_variants(site).back());
}

}  // namespace

const KernelFamily kDepthwiseFamily = {"depthwise", FindDepthwiseVariants, MakeDepthwiseKernel};

}  // namespace stator
