// Rows of floats folded into one value, or mapped.
//
// Included once per SIMD target, inside Highway's foreach_target. Sums run in sixteen or more
// interleaved partial sums, which bounds their error as pairwise summation does for rows of a
// tile's length.

#if defined(STATOR_CPU_SIMD_ROW_FOLDS_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STATOR_CPU_SIMD_ROW_FOLDS_H_
#undef STATOR_CPU_SIMD_ROW_FOLDS_H_
#else
#define STATOR_CPU_SIMD_ROW_FOLDS_H_
#endif

#include <limits>

#include "cpu/simd/half.h"
#include "cpu/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- folds: two operands into one, the value that changes nothing, and all lanes into one
struct SumFold {
  static constexpr float kNeutral = 0;
  static HWY_INLINE F Call(F a, F b) { return a + b; }
  static HWY_INLINE float Finish(F a) { return hn::GetLane(hn::SumOfLanes(kD, a.v)); }
};

template <typename Fold>
HWY_INLINE float FoldLanes(F a) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(a.v, kD, lanes);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] = Fold::Scalar(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

struct ProdFold {
  static constexpr float kNeutral = 1;
  static HWY_INLINE F Call(F a, F b) { return a * b; }
  static HWY_INLINE float Scalar(float a, float b) { return a * b; }
  static HWY_INLINE float Finish(F a) { return FoldLanes<ProdFold>(a); }
};
struct MaxFold {
  static constexpr float kNeutral = -kInfinity;
  static HWY_INLINE F Call(F a, F b) { return maximum(a, b); }
  static HWY_INLINE float Scalar(float a, float b) { return scalar::maximum(a, b); }
  static HWY_INLINE float Finish(F a) { return FoldLanes<MaxFold>(a); }
};
struct MinFold {
  static constexpr float kNeutral = kInfinity;
  static HWY_INLINE F Call(F a, F b) { return minimum(a, b); }
  static HWY_INLINE float Scalar(float a, float b) { return scalar::minimum(a, b); }
  static HWY_INLINE float Finish(F a) { return FoldLanes<MinFold>(a); }
};

// The largest of a softmax row. A NaN may get lost here, but not in the row's sum of exponentials.
struct TopFold {
  static constexpr float kNeutral = -kInfinity;
  static HWY_INLINE F Call(F a, F b) { return MaxOrSecond(a, b); }
  static HWY_INLINE float Finish(F a) { return hn::GetLane(hn::MaxOfLanes(kD, a.v)); }
};

// The first n lanes of `a`, the fold's neutral value in the others.
template <typename Fold>
HWY_INLINE F KeepFirst(F a, size_t n) {
  return hn::IfThenElse(hn::FirstN(kD, n), a.v, F(Fold::kNeutral).v);
}

// Folds map(a[i]) over the row in four independent chains; of floats or halves.
template <typename Fold, typename T, typename Map>
HWY_INLINE float FoldRow(const T* a, int64_t n, Map map) {
  constexpr int64_t kStep = kLanes;
  F folds[4] = {Fold::kNeutral, Fold::kNeutral, Fold::kNeutral, Fold::kNeutral};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    for (int k = 0; k < 4; ++k) folds[k] = Fold::Call(folds[k], map(Load(a + i + k * kStep)));
  }
  for (; i + kStep <= n; i += kStep) folds[0] = Fold::Call(folds[0], map(Load(a + i)));
  if (i < n) {
    folds[1] = Fold::Call(folds[1], KeepFirst<Fold>(map(LoadFirst(a + i, n - i)), n - i));
  }
  return Fold::Finish(Fold::Call(Fold::Call(folds[0], folds[1]), Fold::Call(folds[2], folds[3])));
}

// out[i] = map(i, a[i]); `map` reads its other operands by `get`, which cuts the last vector short.
template <typename Map>
HWY_INLINE void MapRow(float* out, const float* a, int64_t n, Map map) {
  constexpr int64_t kStep = kLanes;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    Store(map(Load(a + i), [i](const float* p) HWY_ATTR { return Load(p + i); }), out + i);
  }
  if (i == n) return;
  size_t rest = static_cast<size_t>(n - i);
  auto get = [i, rest](const float* p) HWY_ATTR { return LoadFirst(p + i, rest); };
  StoreFirst(map(LoadFirst(a + i, rest), get), out + i, rest);
}

}  // namespace simd
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
