// Attention on floats, compiled per SIMD target.
//
// A block of queries meets the head's keys in blocks: scores = K Q^T, softmax, then O += P V. K, Q
// and V are packed into panels as wide as the register tile, which makes any strides and dtypes one
// case and keeps the inner loops free of address arithmetic. 12 heads of 197 or 128 queries and
// keys with 64 columns run at 77 % (AVX-512) and 73 % (AVX2) of the FMA peak, and at 84 % without
// the softmax (bench/cpu_attention_bench.cc). A few queries, as in decoding, read keys and values
// once and in place instead.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/attention_kernels.cc"
#include <algorithm>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/attention_kernels.h"
#include "cpu/simd/attention_pack.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {
namespace attention {

#if HWY_TARGET == HWY_SCALAR
AttentionKernel GetKernel() { return {}; }
#else

constexpr int64_t kMaxQueries = kVectors * kWidth;
// Keys per block: their scores, packed keys and values (256 * (48 + 64 + 64) floats) stay in L2.
constexpr int64_t kKeyBlock = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Causal queries see no key beyond the last query.
int64_t NumKeys(const AttentionShape& shape) {
  return shape.causal ? std::min(shape.keys, shape.queries) : shape.keys;
}

// The scratch of one thread.
struct Workspace {
  float *keys, *values, *queries, *scores, *bias, *sums, *rows;
  int64_t floats = 0;

  Workspace(const AttentionShape& shape, float* ws) {
    auto take = [&](int64_t size) {
      float* part = ws + floats;
      floats += RoundUp(size, 16);
      return part;
    };
    int64_t num_keys = NumKeys(shape);
    int64_t block = RoundUp(std::min(num_keys, kKeyBlock), kRows);
    values = take(num_keys * RoundUp(shape.value_width, kWidth));
    keys = take(RoundUp(num_keys, kRows) * shape.width);
    queries = take(kMaxQueries * shape.width);
    scores = take(kMaxQueries * block);
    bias = take(shape.has_mask ? kMaxQueries * block : 0);
    sums = take(kMaxQueries * RoundUp(shape.value_width, kWidth));
    rows = take(4 * std::max({shape.width, shape.value_width, block}));
  }
};

// ---- the two products
// scores[j][q] = sum_e keys[j][e] * queries[e][q], for keys packed in groups of kRows and kQ
// vectors of queries; whole groups are written.
template <int kQ>
HWY_INLINE void Scores(const float* HWY_RESTRICT keys, const float* HWY_RESTRICT queries,
                       int64_t width, int64_t num_keys, float* HWY_RESTRICT scores) {
  for (int64_t j = 0; j < num_keys; j += kRows) {
    VF sums[kRows][kQ];
    for (auto& row : sums) {
      for (VF& sum : row) sum = hn::Zero(kD);
    }
    const float* key = keys + j * width;
    const float* query = queries;
    for (int64_t e = 0; e < width; ++e) {
      VF q[kQ];
      for (int v = 0; v < kQ; ++v) q[v] = hn::LoadU(kD, query + v * kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        VF k = hn::Set(kD, key[r]);
#pragma GCC unroll 3
        for (int v = 0; v < kQ; ++v) sums[r][v] = hn::MulAdd(k, q[v], sums[r][v]);
      }
      key += kRows;
      query += kQ * kWidth;
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kQ; ++v) {
        hn::StoreU(sums[r][v], kD, scores + ((j + r) * kQ + v) * kWidth);
      }
    }
  }
}

// sums[q][c] = sums[q][c] * factors[q] + sum_j weights[j][q] * values[j][c], for kRows queries and
// kV vectors of columns; the old sums count as 0 when `factors` is null.
template <int kV>
HWY_INLINE void AddValues(const float* HWY_RESTRICT weights, int64_t weight_stride,
                          const float* HWY_RESTRICT values, int64_t num_keys, const float* factors,
                          float* HWY_RESTRICT sums, int64_t sum_stride) {
  VF acc[kRows][kV];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kV; ++v) acc[r][v] = hn::Zero(kD);
  }
  for (int64_t j = 0; j < num_keys; ++j) {
    VF x[kV];
    for (int v = 0; v < kV; ++v) x[v] = hn::LoadU(kD, values + v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      VF w = hn::Set(kD, weights[r]);
#pragma GCC unroll 3
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(w, x[v], acc[r][v]);
    }
    weights += weight_stride;
    values += kV * kWidth;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kV; ++v) {
      float* sum = sums + r * sum_stride + v * kWidth;
      VF added = factors == nullptr
                     ? acc[r][v]
                     : hn::MulAdd(hn::Set(kD, factors[r]), hn::LoadU(kD, sum), acc[r][v]);
      hn::StoreU(added, kD, sum);
    }
  }
}

// ---- softmax
// e^x for x <= 0 within 3 ULP of the largest weight, 1; below 2^-126 the result is 0 or tiny.
// 2^y = 2^n * 2^r, |r| <= 1/2; the polynomial is our own minimax fit with p(0) = 1, relative error
// 9.4e-8.
HWY_INLINE F ExpOfNegative(F x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  F y = hn::Max(F(-127.0f).v, (x * F(1.44269504088896341f)).v);  // NaN stays NaN
  F t = y + F(kRound);
  F r = y - (t - F(kRound));
  F p = mul_add(r, 1.32695539e-3f, 9.67129320e-3f);
  p = mul_add(p, r, 5.55071086e-2f);
  p = mul_add(p, r, 2.40222469e-1f);
  p = mul_add(p, r, 6.93147004e-1f);
  p = mul_add(p, r, 1.0f);
  return ScaleByExponent(p, t);
}

// What is added to the scores of one block of keys.
struct Bias {
  enum Kind { kNone, kPerKey, kPerScore } kind = kNone;
  bool is_bool = false;           // 0 stands for -inf, 1 for 0
  const float* values = nullptr;  // [key], or [key][query]
};

// Adds the bias, hides keys from earlier queries when `causal` (`distance`: the first key's
// position less the first query's), and raises `top` to the largest score of each query.
template <int kQ>
void FinishScores(const Bias& bias, bool causal, int64_t distance, int64_t num_keys, float* scores,
                  F (&top)[kQ]) {
  bool changes = bias.kind != Bias::kNone || causal;
  for (int64_t j = 0; j < num_keys; ++j) {
    for (int v = 0; v < kQ; ++v) {
      float* at = scores + (j * kQ + v) * kWidth;
      F score = Load(at);
      if (bias.kind != Bias::kNone) {
        F add = bias.kind == Bias::kPerKey ? F(bias.values[j])
                                           : Load(bias.values + (j * kQ + v) * kWidth);
        score = score + (bias.is_bool ? where(add == 0, -kInfinity, 0.0f) : add);
      }
      if (causal && distance + j > 0) {
        F query = hn::Iota(kD, static_cast<float>(v * kWidth));
        score = where(query >= F(static_cast<float>(distance + j)), score, -kInfinity);
      }
      if (changes) Store(score, at);
      top[v] = hn::Max(top[v].v, score.v);
    }
  }
}

// scores = e^(scores - top), and in `total` their sum. `top` is finite or NaN, or +inf for a NaN
// result.
template <int kQ>
void Exponentiate(int64_t num_keys, const F (&top)[kQ], float* scores, F (&total)[kQ]) {
  std::fill(total, total + kQ, F(0));
  for (int64_t j = 0; j < num_keys; ++j) {
    for (int v = 0; v < kQ; ++v) {
      float* at = scores + (j * kQ + v) * kWidth;
      F weight = ExpOfNegative(Load(at) - top[v]);
      total[v] = total[v] + weight;
      Store(weight, at);
    }
  }
}

// ---- one block of queries
class HeadRunner {
 public:
  HeadRunner(const AttentionShape& shape, const AttentionCall& call, float* ws)
      : shape_(shape), call_(call), ws_(shape, ws) {}

  void PackKeys(const AttentionHead& head) {
    int64_t n = NumKeys(shape_);
    PackTransposed(Rows(call_.k + head.k, shape_.k), 0, n, 0, shape_.width, 1.0f, kRows, ws_.rows,
                   ws_.keys);
    PackPanels(Rows(call_.v + head.v, shape_.v), n, shape_.value_width, ws_.rows, ws_.values);
  }

  // Queries [first, first + kQ vectors) of the head, as far as there are any.
  template <int kQ>
  void RunBlock(const AttentionHead& head, int64_t first) {
    constexpr int64_t kQueries = kQ * kWidth;
    int64_t num_queries = std::min(kQueries, shape_.queries - first);
    PackTransposed(Rows(call_.q + head.q, shape_.q), first, num_queries, 0, shape_.width,
                   shape_.scale, kQueries, ws_.rows, ws_.queries);
    F top[kQ], total[kQ];
    for (int v = 0; v < kQ; ++v) top[v] = -kInfinity, total[v] = 0;
    int64_t end = shape_.causal ? std::min(shape_.keys, first + num_queries) : shape_.keys;
    for (int64_t key = 0; key < end; key += kKeyBlock) {
      int64_t n = std::min(kKeyBlock, end - key);
      Scores<kQ>(ws_.keys + key * shape_.width, ws_.queries, shape_.width, n, ws_.scores);
      Bias bias = GetBias(head, first, num_queries, key, n, kQueries);
      F old_top[kQ];
      std::copy(top, top + kQ, old_top);
      FinishScores<kQ>(bias, shape_.causal, key - first, n, ws_.scores, top);
      HWY_ALIGN float factors[kQueries];
      F base[kQ], added[kQ];
      for (int v = 0; v < kQ; ++v) {
        // A query that has seen no key yet: any base but -inf keeps its weights at 0.
        base[v] = where(top[v] == -kInfinity, 0.0f, top[v]);
        F factor = ExpOfNegative(old_top[v] - base[v]);
        total[v] = total[v] * factor;
        Store(factor, factors + v * kWidth);
      }
      Exponentiate<kQ>(n, base, ws_.scores, added);
      for (int v = 0; v < kQ; ++v) total[v] = total[v] + added[v];
      AddBlock(key, n, num_queries, kQueries, key == 0 ? nullptr : factors);
    }
    HWY_ALIGN float totals[kQueries];
    for (int v = 0; v < kQ; ++v) Store(total[v], totals + v * kWidth);
    WriteRows(head, first, num_queries, totals);
  }

 private:
  Bias GetBias(const AttentionHead& head, int64_t first, int64_t num_queries, int64_t key,
               int64_t num_keys, int64_t group) {
    if (!shape_.has_mask) return {};
    Bias bias{.is_bool = shape_.mask.dtype == DType::kBool};
    Rows mask(call_.mask + head.mask, shape_.mask);
    if (shape_.mask.row_stride == 0) {
      bias.kind = Bias::kPerKey;
      bias.values = mask.Get(0, key, num_keys, ws_.bias);
    } else {
      bias.kind = Bias::kPerScore;
      bias.values = ws_.bias;
      PackTransposed(mask, first, num_queries, key, num_keys, 1.0f, group, ws_.rows, ws_.bias);
    }
    return bias;
  }

  // sums = sums * factors + weights * values, for the keys [key, key + num_keys).
  void AddBlock(int64_t key, int64_t num_keys, int64_t num_queries, int64_t group,
                const float* factors) {
    Panels panels(shape_.value_width);
    int64_t stride = panels.vectors * kWidth;
    for (int64_t p = 0; p < panels.count; ++p) {
      int64_t begin = panels.Begin(p) * kWidth, size = panels.Size(p);
      const float* values = ws_.values + begin * NumKeys(shape_) + key * size * kWidth;
      for (int64_t q = 0; q < num_queries; q += kRows) {
        auto add = size == 1 ? AddValues<1> : size == 2 ? AddValues<2> : AddValues<3>;
        add(ws_.scores + q, group, values, num_keys, factors == nullptr ? nullptr : factors + q,
            ws_.sums + q * stride + begin, stride);
      }
    }
  }

  // y = sums / totals; zeros for a query that saw no key.
  void WriteRows(const AttentionHead& head, int64_t first, int64_t num_queries,
                 const float* totals) {
    int64_t stride = RoundUp(shape_.value_width, kWidth);
    int64_t size = static_cast<int64_t>(DTypeSize(shape_.y.dtype));
    TapeStore store = FindStore(shape_.y.dtype);
    std::byte* to = call_.y + head.y + first * shape_.y.row_stride * size;
    for (int64_t q = 0; q < num_queries; ++q, to += shape_.y.row_stride * size) {
      float* sums = ws_.sums + q * stride;
      for (int64_t c = 0; c < stride; c += kWidth) {
        Store(totals[q] == 0 ? F(0) : Load(sums + c) / F(totals[q]), sums + c);
      }
      store(to, sums, shape_.y.column_stride, shape_.value_width);
    }
  }

  const AttentionShape& shape_;
  const AttentionCall& call_;
  Workspace ws_;
};

// ---- a few queries: one at a time, keys as lanes
class QueryRunner {
 public:
  QueryRunner(const AttentionShape& shape, const AttentionCall& call, float* ws)
      : shape_(shape), call_(call), scores_(ws), query_(scores_ + RoundUp(NumKeys(shape), 16)) {
    sums_ = query_ + RoundUp(shape.width, 16);
    block_ = sums_ + RoundUp(shape.value_width, 16);
    row_ = block_ + RoundUp(shape.value_width, 16);
  }

  static int64_t WsFloats(const AttentionShape& shape) {
    int64_t row = std::max({shape.width, shape.value_width, NumKeys(shape)});
    return RoundUp(NumKeys(shape), 16) + RoundUp(shape.width, 16) +
           2 * RoundUp(shape.value_width, 16) + RoundUp(row, 16);
  }

  void Run(const AttentionHead& head, int64_t query) {
    int64_t n = shape_.causal ? std::min(query + 1, shape_.keys) : shape_.keys;
    const float* q = Rows(call_.q + head.q, shape_.q).Get(query, 0, shape_.width, row_);
    for (int64_t e = 0; e < shape_.width; ++e) query_[e] = q[e] * shape_.scale;
    Rows keys(call_.k + head.k, shape_.k);
    for (int64_t j = 0; j < n; ++j) scores_[j] = Dot(query_, keys.Get(j, 0, shape_.width, row_));
    if (shape_.has_mask) AddMask(head, query, n);
    float total = Softmax(n);
    std::fill(sums_, sums_ + shape_.value_width, 0.0f);
    Rows values(call_.v + head.v, shape_.v);
    for (int64_t first = 0; first < n; first += kKeyBlock) {
      std::fill(block_, block_ + shape_.value_width, 0.0f);
      for (int64_t j = first; j < std::min(n, first + kKeyBlock); ++j) {
        AddScaled(scores_[j], values.Get(j, 0, shape_.value_width, row_));
      }
      for (int64_t c = 0; c < shape_.value_width; ++c) sums_[c] += block_[c];
    }
    for (int64_t c = 0; c < shape_.value_width; ++c) sums_[c] = total == 0 ? 0 : sums_[c] / total;
    int64_t size = static_cast<int64_t>(DTypeSize(shape_.y.dtype));
    FindStore(shape_.y.dtype)(call_.y + head.y + query * shape_.y.row_stride * size, sums_,
                              shape_.y.column_stride, shape_.value_width);
  }

 private:
  float Dot(const float* a, const float* b) const {
    F low = 0.0f, high = 0.0f;
    int64_t e = 0;
    for (; e + 2 * kWidth <= shape_.width; e += 2 * kWidth) {
      low = mul_add(Load(a + e), Load(b + e), low);
      high = mul_add(Load(a + e + kWidth), Load(b + e + kWidth), high);
    }
    for (; e < shape_.width; e += kWidth) {
      int64_t left = std::min(kWidth, shape_.width - e);
      low = mul_add(LoadFirst(a + e, left), LoadFirst(b + e, left), low);
    }
    return hn::GetLane(hn::SumOfLanes(kD, (low + high).v));
  }

  void AddMask(const AttentionHead& head, int64_t query, int64_t n) {
    const float* mask = Rows(call_.mask + head.mask, shape_.mask).Get(query, 0, n, row_);
    bool is_bool = shape_.mask.dtype == DType::kBool;
    for (int64_t j = 0; j < n; ++j) {
      scores_[j] += is_bool ? (mask[j] == 0 ? -kInfinity : 0.0f) : mask[j];
    }
  }

  // Turns n scores into weights and returns their sum, 0 when no key is seen.
  float Softmax(int64_t n) {
    std::fill(scores_ + n, scores_ + RoundUp(n, kWidth), -kInfinity);
    F top = -kInfinity, total = 0.0f;
    for (int64_t j = 0; j < n; j += kWidth) top = hn::Max(top.v, Load(scores_ + j).v);
    top = hn::MaxOfLanes(kD, top.v);
    top = where(top == -kInfinity, 0.0f, top);
    for (int64_t j = 0; j < n; j += kWidth) {
      F weight = ExpOfNegative(Load(scores_ + j) - top);
      total = total + weight;
      Store(weight, scores_ + j);
    }
    return hn::GetLane(hn::SumOfLanes(kD, total.v));
  }

  void AddScaled(float weight, const float* value) {
    int64_t c = 0, n = shape_.value_width;
    for (; c + kWidth <= n; c += kWidth) {
      Store(mul_add(F(weight), Load(value + c), Load(block_ + c)), block_ + c);
    }
    for (; c < n; ++c) block_[c] += weight * value[c];
  }

  const AttentionShape& shape_;
  const AttentionCall& call_;
  float *scores_, *query_, *sums_, *block_, *row_;
};

// Up to so many queries packing costs more than it gains: with 1024 keys, 1 query is 3.7 times as
// fast without, and 4 queries take as long either way.
bool HasFewQueries(const AttentionShape& shape) { return shape.queries < 4; }

int64_t NumBlocks(const AttentionShape& shape) {
  return HasFewQueries(shape) ? shape.queries : Panels(shape.queries).count;
}

int64_t WsFloats(const AttentionShape& shape) {
  return HasFewQueries(shape) ? QueryRunner::WsFloats(shape) : Workspace(shape, nullptr).floats;
}

void Run(const AttentionShape& shape, const AttentionCall& call, int64_t begin, int64_t end,
         float* ws) {
  if (HasFewQueries(shape)) {
    QueryRunner runner(shape, call, ws);
    for (int64_t task = begin; task < end; ++task) {
      runner.Run(call.heads[task / shape.queries], task % shape.queries);
    }
    return;
  }
  HeadRunner runner(shape, call, ws);
  Panels panels(shape.queries);
  const AttentionHead* packed = nullptr;
  for (int64_t task = begin; task < end; ++task) {
    const AttentionHead& head = call.heads[task / panels.count];
    if (packed == nullptr || packed->k != head.k || packed->v != head.v) runner.PackKeys(head);
    packed = &head;
    int64_t block = task % panels.count, first = panels.Begin(block) * kWidth;
    switch (panels.Size(block)) {
      case 1: runner.RunBlock<1>(head, first); break;
      case 2: runner.RunBlock<2>(head, first); break;
      default: runner.RunBlock<3>(head, first); break;
    }
  }
}

AttentionKernel GetKernel() { return {.num_blocks = NumBlocks, .ws_floats = WsFloats, .run = Run}; }

#endif

}  // namespace attention
}  // namespace simd
using simd::attention::GetKernel;
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {

HWY_EXPORT(GetKernel);

AttentionKernel GetAttentionKernel() { return HWY_DYNAMIC_DISPATCH(GetKernel)(); }

}  // namespace stator
#endif
