#include "codegen/mma_tile.h"

#include "codegen/window_text.h"
#include "ir/op_def.h"

namespace stator {
MmaTile::MmaTile(const CudaSite& site, const Mma& mma, const Shape& shape)
    : site_(site),
      mma_(mma),
      shape_(shape),
      text_(site),
      vec_(OutputText::FindVec(site, mma.body, mma.n_dim, kMmaChunk)),
      output_(text_, mma_.body, mma_.names, vec_),
      position_(PositionType(site)),
      a_at_(text_.input_at(mma.body.operands[0])),
      b_at_(text_.input_at(mma.body.operands[1])) {}

int MmaTile::StageBytes() const {
  return ABytes() + (mma_.b_along_k ? shape_.n * kMmaRowBytes : kMmaDepth * shape_.n * 2);
}

void MmaTile::WritePlace() {
  text_.Line("// A thread copies one chunk of every {}th row. The same chunk of 8 rows, which",
             RowsAtOnce());
  text_.Line("// products read at once, lies in 8 places.");
  text_.Line("const unsigned my_row = threadIdx.x / 8, my_chunk = threadIdx.x % 8;");
  text_.Line("const unsigned place = my_row * {} + (my_chunk ^ my_row % 8) * 16;", kMmaRowBytes);
}

// Coordinates of the output's row `row`.
void MmaTile::WriteRow() {
  std::vector<std::string> names = mma_.names;
  names.erase(names.begin() + static_cast<std::ptrdiff_t>(mma_.n_dim));
  WriteCoordinates(text_, mma_.rows, "row", names, std::vector<bool>(names.size(), true));
}

// `name`: a position along a dim of `size`, which `position` is, but inside: what is beyond is
// copied from elsewhere, and its results are not stored.
void MmaTile::WriteInside(const char* name, const std::string& position, const Dim& size,
                          int64_t tile) {
  if (IsMultiple(size, tile)) {
    text_.Line("const Index {} = {};", name, position);
    return;
  }
  text_.Line("const Index any_{} = {};", name, position);
  text_.Line("const Index {0} = any_{0} < {1} ? any_{0} : 0;", name, text_.Size(size));
}

// a_row[i]: the thread's place in its rows of a; of a convolution, the image, and start0[i],
// start1[i], ... the window's first position in it.
void MmaTile::WriteRowsOfA() {
  int count = shape_.m / RowsAtOnce();
  text_.Line("const {}* a_row[{}];", ElementType(mma_.a->dtype), count);
  const Attrs& attrs = mma_.body.anchor->attrs;
  size_t num_spatial = mma_.is_conv ? mma_.a->dims.size() - 2 : 0;
  for (size_t d = 0; d < num_spatial; ++d) {
    text_.Line("{} start{}[{}];", position_, d, count);
  }
  text_.OpenLoop("i", count);
  WriteInside("row", fmt::format("row0 + my_row + {} * i", RowsAtOnce()), mma_.rows.count(),
              shape_.m);
  WriteRow();
  std::vector<KernelText::Term> terms;
  if (mma_.is_conv) {
    terms.push_back({"image", mma_.a->strides[0]});
    for (size_t d = 0; d < num_spatial; ++d) {
      text_.Line("start{0}[i] = {1}(p{0}) * {2} - {3};", d, position_, attrs.GetInts("stride")[d],
                 attrs.GetInts("padding")[d]);
    }
  } else {
    for (size_t d = 0; d < mma_.a_batch.size(); ++d) {
      terms.push_back({fmt::format("b{}", d), mma_.a_batch[d]});
    }
    terms.push_back({"m", mma_.a->strides[mma_.a->strides.size() - 2]});
    terms.push_back({"my_chunk", Dim(kMmaChunk)});
  }
  text_.Line("a_row[i] = {};", KernelText::At(a_at_, text_.Offset(terms)));
  text_.Close();
}

// Rows of b along k that a thread copies a chunk of; of a b along n, columns of 64.
int MmaTile::NumRowsOfB() const { return shape_.n / (mma_.b_along_k ? RowsAtOnce() : kMmaDepth); }

// b_row: the thread's place in the first of its rows; b_row[i] where some are beyond.
void MmaTile::WriteRowsOfB() {
  std::string type = ElementType(mma_.b->dtype);
  bool along_k = mma_.b_along_k;
  auto place = [&](const std::string& n) {
    using Terms = std::vector<KernelText::Term>;
    Terms terms = along_k ? Terms{{n, mma_.b_stride}, {"my_chunk", Dim(kMmaChunk)}}
                          : Terms{{n, Dim(1)}, {"my_row", mma_.b_stride}};
    return KernelText::At(b_at_, text_.Offset(terms));
  };
  std::string first = along_k ? "n0 + my_row" : fmt::format("n0 + my_chunk * {}", kMmaChunk);
  if (!HasRowsBeyond()) {
    text_.Line("const {}* const b_row = {};", type, place("(" + first + ")"));
    return;
  }
  text_.Line("const {}* b_row[{}];", type, NumRowsOfB());
  text_.OpenLoop("i", NumRowsOfB());
  WriteInside("n", fmt::format("{} + {} * i", first, along_k ? RowsAtOnce() : kMmaDepth), mma_.n,
              shape_.n);
  text_.Line("b_row[i] = {};", place("n"));
  text_.Close();
}

void MmaTile::WriteLoads() {
  WriteRowsOfA();
  WriteRowsOfB();
  std::string past = mma_.k_size % kMmaDepth == 0 ? "true" : "inside";
  text_.Open("const auto load_a = [&](unsigned step)");
  text_.Line("unsigned char* const to = ring + (step - first_step) % {} * {} + place;",
             shape_.stages, StageBytes());
  if (mma_.is_conv) {
    WriteWindowRead();
  } else {
    WriteWhetherInside();
    text_.OpenLoop("i", shape_.m / RowsAtOnce());
    text_.Line("CopyAsync(to + i * {}, a_row[i] + step * {}, {});", RowsAtOnce() * kMmaRowBytes,
               kMmaDepth, past);
    text_.Close();
  }
  text_.Close(";");

  text_.Open("const auto load_b = [&](unsigned step)");
  text_.Line("unsigned char* const to = ring + (step - first_step) % {} * {} + {} + place;",
             shape_.stages, StageBytes(), ABytes());
  bool along_k = mma_.b_along_k;
  if (along_k) WriteWhetherInside();
  text_.OpenLoop("i", NumRowsOfB());
  std::string row = HasRowsBeyond() ? "b_row[i]" : "b_row";
  if (!HasRowsBeyond()) {
    Dim next = along_k ? mma_.b_stride * RowsAtOnce() : Dim(kMmaDepth);
    row += " + " + text_.Offset({{"i", next}});
  }
  if (along_k) {
    text_.Line("CopyAsync(to + i * {}, {} + step * {}, {});", RowsAtOnce() * kMmaRowBytes, row,
               kMmaDepth, past);
  } else {
    text_.OpenLoop("r", kMmaDepth / RowsAtOnce());
    if (past != "true") {
      text_.Line("const bool inside = step * {} + my_row + {} * r < {};", kMmaDepth, RowsAtOnce(),
                 mma_.k_size);
    }
    std::string k = fmt::format("Index(step * {} + {} * r)", kMmaDepth, RowsAtOnce());
    text_.Line("CopyAsync(to + i * {} + r * {}, {} + {}, {});", kMmaDepth * kMmaRowBytes,
               RowsAtOnce() * kMmaRowBytes, row, text_.Offset({{k, mma_.b_stride}}), past);
    text_.Close();
  }
  text_.Close();
  text_.Close(";");
}

// Behind the end of the sum are zeros.
void MmaTile::WriteWhetherInside() {
  if (mma_.k_size % kMmaDepth == 0) return;
  text_.Line("const bool inside = step * {} + my_chunk * {} < {};", kMmaDepth, kMmaChunk,
             mma_.k_size);
}

void MmaTile::WriteWindowRead() {
  const Attrs& attrs = mma_.body.anchor->attrs;
  const Dims& w = mma_.b->dims;
  text_.Line("const Index k = step * {} + my_chunk * {};", kMmaDepth, kMmaChunk);
  text_.Line("const Index tap = k / {0}, channel = k % {0};", text_.Size(w[1]));
  Dim inner = 1;
  for (size_t d = w.size() - 2; d-- > 0;) {
    std::string tap = inner == Dim(1) ? "tap" : fmt::format("tap / {}", text_.Size(inner));
    if (d > 0) tap += fmt::format(" % {}", text_.Size(w[d + 2]));
    text_.Line("const {0} move{1} = {0}({2}) * {3};", position_, d, tap,
               attrs.GetInts("dilation")[d]);
    inner = inner * w[d + 2];
  }
  text_.OpenLoop("i", shape_.m / RowsAtOnce());
  std::string inside;
  if (mma_.k_size % kMmaDepth != 0) inside = fmt::format("k < {} && ", mma_.k_size);
  std::vector<KernelText::Term> terms;
  for (size_t d = 0; d + 2 < w.size(); ++d) {
    text_.Line("const {0} q{1} = start{1}[i] + move{1};", position_, d);
    inside += fmt::format("{0}q{1} >= 0 && q{1} < {2}", d == 0 ? "" : " && ", d,
                          text_.Size(mma_.a->dims[d + 2]));
    terms.push_back({fmt::format("q{}", d), mma_.a->strides[d + 2]});
  }
  terms.push_back({"channel", Dim(1)});
  text_.Line("const bool inside = {};", inside);
  text_.Line("CopyAsync(to + i * {}, a_row[i] + {}, inside);", RowsAtOnce() * kMmaRowBytes,
             text_.Offset(terms));
  text_.Close();
}

void MmaTile::WriteFirstLoads(int count) {
  text_.Line("const unsigned ahead = min(first_step + {}, last_step);", count);
  if (mma_.b->constant) {
    text_.Line("for (unsigned step = first_step; step < ahead; ++step) load_b(step);");
  }
  text_.Line("WaitForInputs();");
  text_.Line("#pragma unroll");
  text_.Open("for (unsigned i = 0; i < {}; ++i)", count);
  text_.Open("if (first_step + i < ahead)");
  text_.Line("load_a(first_step + i);");
  if (!mma_.b->constant) text_.Line("load_b(first_step + i);");
  text_.Close();
  text_.Line("CommitCopies();");
  text_.Close();
}

// The coordinates of the vector `at` of the tile, and whether it is `inside`: those beyond are read
// as if they were.
void MmaTile::WriteVectorPlace(int split) {
  int rows = shape_.m / split, vectors = shape_.n / vec_;
  std::string first = split == 1 ? "" : fmt::format("part * {} + ", rows);
  text_.Line("const unsigned tile_row = {}at / {}, column = at % {} * {};", first, vectors, vectors,
             vec_);
  WriteInside("row", "row0 + tile_row", mma_.rows.count(), shape_.m);
  WriteInside("n", "n0 + column", mma_.n, shape_.n);
  WriteRow();
}

void MmaTile::WriteOutput(int pitch, int split) {
  int total = shape_.m / split * shape_.n / vec_;
  // What as many elements are read from as are stored is read for some vectors at once.
  std::vector<size_t> large = output_.FindLargeInputs();
  int at_once = 4;
  while (large.empty() || total % (at_once * shape_.threads) != 0) {
    if (at_once == 1) break;
    at_once /= 2;
  }
  if (at_once > 1) {
    text_.Open("for (unsigned first = threadIdx.x; first < {}; first += {})", total,
               at_once * shape_.threads);
    for (size_t i : large) {
      text_.Line("Vec<{}, {}> {}_ahead[{}];", ElementType(site_.inputs[i].dtype), vec_,
                 text_.input_name(i), at_once);
      output_.Provide(i, text_.input_name(i) + "_ahead[u]");
    }
    text_.OpenLoop("u", at_once);
    text_.Line("const unsigned at = first + u * {};", shape_.threads);
    WriteVectorPlace(split);
    for (size_t i : large) {
      text_.Line("{}_ahead[u] = Load<{}>({});", text_.input_name(i), vec_, output_.AddressOf(i));
    }
    text_.Close();
    text_.OpenLoop("u", at_once);
    text_.Line("const unsigned at = first + u * {};", shape_.threads);
  } else {
    text_.Open("for (unsigned at = threadIdx.x; at < {}; at += {})", total, shape_.threads);
  }
  WriteVectorPlace(split);
  bool checks_rows = !IsMultiple(mma_.rows.count(), shape_.m);
  std::string where;
  if (checks_rows || HasRowsBeyond()) {
    where = fmt::format("if ({}{}{}) ", checks_rows ? "any_row == row" : "",
                        checks_rows && HasRowsBeyond() ? " && " : "",
                        HasRowsBeyond() ? "any_n == n" : "");
  }
  text_.Line("const float* const mine = sums + tile_row * {} + column;", pitch);
  text_.Line("auto total = {};", split == 1 ? fmt::format("Load<{}>(mine)", vec_)
                                            : fmt::format("LoadFromBlock<{}>(mine, 0)", vec_));
  if (split > 1) {
    text_.Line("#pragma unroll");
    text_.Open("for (int other = 1; other < {}; ++other)", split);
    text_.Line("const auto more = LoadFromBlock<{}>(mine, other);", vec_);
    text_.OpenLoop("j", vec_);
    text_.Line("total[j] += more[j];");
    text_.Close();
    text_.Close();
  }
  bool has_bias = mma_.is_conv && mma_.body.operands.size() > 2 && mma_.body.operands[2] >= 0;
  if (has_bias) {
    text_.OpenLoop("j", vec_);
    int bias = mma_.body.operands[2];
    text_.Line("total[j] += ToCompute({}[{}]);", text_.input_at(bias),
               text_.Offset({{"(n + j)", site_.inputs[bias].strides[0]}}));
    text_.Close();
  }
  if (vec_ == 1) text_.Line("constexpr int j = 0;");
  output_.WriteResults("total[j]", where);
  text_.Close();
  if (at_once > 1) text_.Close();
}

}  // namespace stator
