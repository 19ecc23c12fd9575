// The words that kernel texts are written in: element types and their compute types, vector loads
// and stores, reductions over warps and blocks, and the vocabulary of scalar bodies
// (ops/pointwise.def) for single elements, as ops/scalar.h has it.
//
// Compiled by NVRTC with every function a device function, and by the tests' emulator for the host
// (STATOR_EMULATED), which defines threadIdx and its kin, and the few functions that are PTX here.
// Needs no include. Elements of f16 and bf16 are computed in float; integers wrap.
#pragma once

namespace stator {

// ---- elements, named as in the IR
using u8 = unsigned char;
using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
struct f16 {
  unsigned short bits;
};
struct bf16 {
  unsigned short bits;
};
using f32 = float;
using f64 = double;
// For elements that are moved unread.
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;

#ifndef STATOR_EMULATED
inline float ToFloat(f16 a) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(a.bits));
  return value;
}
inline float ToFloat(bf16 a) { return __uint_as_float(static_cast<unsigned>(a.bits) << 16); }
inline f16 ToHalf(float a) {
  f16 value;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(value.bits) : "f"(a));
  return value;
}
inline bf16 ToBFloat(float a) {
  bf16 value;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(value.bits) : "f"(a));
  return value;
}

// ---- launches that overlap (PTX ISA, "griddepcontrol"). Before the wait a kernel may read
// constants only and write nothing: what ran before it may not have ended.
inline void WaitForInputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
inline void LaunchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
inline void PrefetchL2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// The launch's dynamic shared memory.
inline unsigned char* DynamicShared() {
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];
  return dynamic_shared;
}
inline unsigned SharedAddress(const void* address) {
  return static_cast<unsigned>(__cvta_generic_to_shared(address));
}
#endif

inline constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);

template <typename T>
struct Same {
  using Type = T;
};
template <typename A, typename B>
inline constexpr bool kSame = false;
template <typename A>
inline constexpr bool kSame<A, A> = true;
template <typename T>
inline constexpr bool kIsFloat = kSame<T, float> || kSame<T, double>;

#ifndef STATOR_EMULATED
// ---- copies of 16 bytes to shared memory that go on while the thread does (PTX ISA, "cp.async"):
// zeros where not `inside`. Those since the last commit are a group; WaitCopies<N> waits for all
// groups of the thread but the last N.
inline void CopyAsync(void* to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(to)), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}
inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ---- products of a warp on tensor cores (PTX ISA, "ldmatrix", "mma.m16n8k16"). Four 8 x 8 matrices
// of 16-bit elements, of whose rows lane l names the (l % 8)th of matrix l / 8.
inline void LoadMatrices(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(SharedAddress(row))
               : "memory");
}
inline void LoadTransposed(unsigned (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(SharedAddress(row))
               : "memory");
}
// sum[16 x 8] += a[16 x 16] b[16 x 8], of elements of type T.
template <typename T>
void MultiplyAdd(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (kSame<T, f16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// ---- products of a warpgroup, four warps, that go on while its threads do (PTX ISA, "wgmma").
// Those since the last commit are a group; WaitProducts<N> waits for all groups but the last N.
// Their sums must not be touched meanwhile.
inline void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
inline void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// Products see what the thread's awaited copies wrote; to be followed by a barrier.
inline void ShowCopiesToProducts() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// A matrix in shared memory whose rows along k are 128 bytes, their chunks of 16 permuted by
// address ("matrix descriptor", 128-byte swizzle): 8 rows, 1024 bytes, repeat.
inline u64 MatrixAt(const void* address) {
  u64 place = (SharedAddress(address) & 0x3ffff) >> 4;
  return place | u64{1} << 16 | u64{1024 >> 4} << 32 | u64{1} << 62;
}
// One whose rows are 64 elements across k: 8 steps along k, 1024 bytes, repeat; after 64 steps the
// next 64 elements follow.
inline u64 AcrossMatrixAt(const void* address) {
  u64 place = (SharedAddress(address) & 0x3ffff) >> 4;
  return place | u64{8192 >> 4} << 16 | u64{1024 >> 4} << 32 | u64{1} << 62;
}
#endif

// ---- integers: computed modulo 2^64 without sign, then cut to T
template <typename T>
struct Int {
  T value;

  Int() = default;
  template <typename U>
  Int(U v) : value(static_cast<T>(v)) {}
  explicit operator bool() const { return value != 0; }
  u64 bits() const { return static_cast<u64>(value); }

  friend Int operator+(Int a, Int b) { return a.bits() + b.bits(); }
  friend Int operator-(Int a, Int b) { return a.bits() - b.bits(); }
  friend Int operator*(Int a, Int b) { return a.bits() * b.bits(); }
  friend Int operator-(Int a) { return u64{0} - a.bits(); }
  friend Int operator&(Int a, Int b) { return a.bits() & b.bits(); }
  friend Int operator|(Int a, Int b) { return a.bits() | b.bits(); }
  friend Int operator^(Int a, Int b) { return a.bits() ^ b.bits(); }
  friend bool operator==(Int a, Int b) { return a.value == b.value; }
  friend bool operator!=(Int a, Int b) { return a.value != b.value; }
  friend bool operator<(Int a, Int b) { return a.value < b.value; }
  friend bool operator<=(Int a, Int b) { return a.value <= b.value; }
  friend bool operator>(Int a, Int b) { return a.value > b.value; }
  friend bool operator>=(Int a, Int b) { return a.value >= b.value; }

  friend Int bitwise_not(Int a) { return ~a.bits(); }
  friend Int abs(Int a) { return a < 0 ? -a : a; }
  friend Int sign(Int a) { return (a > 0) - (a < 0); }
  friend Int maximum(Int a, Int b) { return a > b ? a : b; }
  friend Int minimum(Int a, Int b) { return a < b ? a : b; }
  friend Int fmax(Int a, Int b) { return maximum(a, b); }
  friend Int fmin(Int a, Int b) { return minimum(a, b); }
  friend bool isinf(Int) { return false; }

  friend Int shift_left(Int a, Int b) {
    return b < 0 || b >= Int(8 * sizeof(T)) ? Int(0) : Int(a.bits() << b.bits());
  }
  friend Int shift_right(Int a, Int b) {
    if (b >= 0 && b < Int(8 * sizeof(T))) return a.value >> b.value;
    return a < 0 ? Int(-1) : Int(0);
  }

  friend Int trunc_div(Int a, Int b) {
    if (b == 0) return 0;
    if (T(-1) < T(0) && b == -1) return -a;  // the smallest integer divided by -1 overflows
    return a.value / b.value;
  }
  friend Int fmod(Int a, Int b) { return b == 0 ? Int(0) : a - trunc_div(a, b) * b; }
  friend Int floor_div(Int a, Int b) {
    Int rest = fmod(a, b);
    return trunc_div(a, b) - Int(rest != 0 && (rest < 0) != (b < 0));
  }
  friend Int remainder(Int a, Int b) {
    Int rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  }
  friend Int pow(Int a, Int b) {
    if (b < 0) {  // 1 / a^-b, rounded to zero
      if (a == 1) return 1;
      if (a == -1) return (b.bits() & 1) ? -1 : 1;
      return 0;
    }
    Int power = 1;
    for (u64 exponent = b.bits(); exponent != 0; exponent >>= 1) {
      if (exponent & 1) power = power * a;
      a = a * a;
    }
    return power;
  }
};

// ---- between elements in memory and their compute type
template <typename T>
struct ComputeOf {
  using Type = Int<T>;
};
template <>
struct ComputeOf<bool> {
  using Type = bool;
};
template <>
struct ComputeOf<f16> {
  using Type = float;
};
template <>
struct ComputeOf<bf16> {
  using Type = float;
};
template <>
struct ComputeOf<float> {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};
template <typename T>
using Compute = typename ComputeOf<T>::Type;

template <typename T>
Compute<T> ToCompute(T a) {
  if constexpr (kSame<T, f16> || kSame<T, bf16>) {
    return ToFloat(a);
  } else {
    return a;
  }
}

template <typename T>
inline constexpr bool kIsInt = false;
template <typename T>
inline constexpr bool kIsInt<Int<T>> = true;

// `value`, in a compute type, as an element of type T: rounded to the nearest, ties to even; floats
// are cut to integers as torch's CPU cuts them (ops/scalar.h).
template <typename T, typename From>
T CastTo(From value) {
  if constexpr (kIsInt<From>) {
    return CastTo<T>(value.value);
  } else if constexpr (kSame<T, f16>) {
    return ToHalf(static_cast<float>(value));
  } else if constexpr (kSame<T, bf16>) {
    return ToBFloat(static_cast<float>(value));
  } else if constexpr (kSame<T, bool>) {
    return value != 0;
  } else if constexpr (kIsFloat<From> && !kIsFloat<T>) {
    constexpr bool kWide = sizeof(T) == 8 || T(-1) > T(0);
    constexpr double kLimit = kWide ? 9223372036854775808.0 : 2147483648.0;
    double wide = value;
    bool fits = wide > -kLimit - 1 && wide < kLimit;
    i64 whole = fits ? static_cast<i64>(wide)
                     : (kWide ? -9223372036854775807ll - 1 : -2147483647ll - 1);
    return static_cast<T>(whole);
  } else {
    return static_cast<T>(value);
  }
}

// What remains of `value` when it is stored as a T.
template <typename T, typename From>
Compute<T> Rounded(From value) {
  return ToCompute(CastTo<T>(value));
}

// Two elements of 16 bits as the word in which products take them.
template <typename T>
unsigned Pair(float first, float second) {
  return CastTo<T>(first).bits | static_cast<unsigned>(CastTo<T>(second).bits) << 16;
}

// The bits of an element as an unsigned integer of its size.
template <typename Bits, typename T>
Bits BitsOf(T a) {
  return __builtin_bit_cast(Bits, a);
}

// ---- vectors of neighbouring elements
template <typename T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vec {
  T data[N];
  T& operator[](int i) { return data[i]; }
  const T& operator[](int i) const { return data[i]; }
};

#ifndef STATOR_EMULATED
inline void CheckAligned(const void*, int) {}
#endif

template <int N, typename T>
Vec<T, N> Load(const T* address) {
  CheckAligned(address, alignof(Vec<T, N>));
  return *reinterpret_cast<const Vec<T, N>*>(address);
}
template <typename T, int N>
void Store(T* address, const Vec<T, N>& vec) {
  CheckAligned(address, alignof(Vec<T, N>));
  *reinterpret_cast<Vec<T, N>*>(address) = vec;
}

// A vector of up to 8 bytes as one word: kept over a loop as such, it is not taken apart, and so
// not waited for, where it is loaded.
template <int kBytes>
struct WordOf;
template <>
struct WordOf<2> {
  using Type = u16;
};
template <>
struct WordOf<4> {
  using Type = u32;
};
template <>
struct WordOf<8> {
  using Type = u64;
};
template <typename T, int N>
using Word = typename WordOf<sizeof(Vec<T, N>)>::Type;

// Zeros where not `inside`: the address is then not read.
template <int N, typename T>
Word<T, N> LoadWordIf(bool inside, const T* address) {
  return inside ? __builtin_bit_cast(Word<T, N>, Load<N>(address)) : Word<T, N>(0);
}

#ifndef STATOR_EMULATED
// ---- blocks of a cluster, neighbours along x (PTX ISA, "barrier.cluster", "mapa")
inline void ClusterSync() {
  asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
}
// What lies at `address` in the shared memory of the cluster's block `rank`.
template <int N>
Vec<float, N> LoadFromBlock(const float* address, unsigned rank) {
  unsigned there;
  Vec<float, N> values;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(SharedAddress(address)), "r"(rank));
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(values[i]), "=f"(values[i + 1]), "=f"(values[i + 2]), "=f"(values[i + 3])
                   : "r"(there + 4 * i)
                   : "memory");
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      asm volatile("ld.shared::cluster.f32 %0, [%1];"
                   : "=f"(values[i])
                   : "r"(there + 4 * i)
                   : "memory");
    }
  }
  return values;
}
#endif

// ---- the vocabulary of scalar bodies. The second operand does not take part in deduction, so
// literals convert.
template <typename T>
using Exactly = typename Same<T>::Type;

inline int abs(int a) { return a < 0 ? -a : a; }
inline i64 abs(i64 a) { return a < 0 ? -a : a; }
inline float abs(float a) { return fabsf(a); }
inline double abs(double a) { return fabs(a); }
inline float round(float a) { return rintf(a); }
inline double round(double a) { return rint(a); }

template <typename T>
  requires kIsFloat<T>
T maximum(T a, Exactly<T> b) {
  return a != a || a > b ? a : b;
}
template <typename T>
  requires kIsFloat<T>
T minimum(T a, Exactly<T> b) {
  return a != a || a < b ? a : b;
}
// These give the number where one operand is NaN.
template <typename T>
  requires kIsFloat<T>
T fmax(T a, Exactly<T> b) {
  return a != a || b > a ? b : a;
}
template <typename T>
  requires kIsFloat<T>
T fmin(T a, Exactly<T> b) {
  return a != a || b < a ? b : a;
}
template <typename T>
  requires kIsFloat<T>
T sign(T a) {
  return static_cast<T>((a > 0) - (a < 0));
}
template <typename T>
  requires kIsFloat<T>
T trunc_div(T a, Exactly<T> b) {
  return ::trunc(a / b);
}
// Exact where a / b is not: from the remainder, as Python's float.__floordiv__.
template <typename T>
  requires kIsFloat<T>
T floor_div(T a, Exactly<T> b) {
  if (b == 0) return a / b;
  T rest = ::fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return ::copysign(T(0), a / b);
  T whole = ::floor(quotient);
  return quotient - whole > T(0.5) ? whole + 1 : whole;
}
template <typename T>
  requires kIsFloat<T>
T remainder(T a, Exactly<T> b) {
  T rest = ::fmod(a, b);
  return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}
template <typename T>
T where(bool mask, T a, Exactly<T> b) {
  return mask ? a : b;
}

inline bool maximum(bool a, bool b) { return a || b; }
inline bool minimum(bool a, bool b) { return a && b; }
inline bool fmax(bool a, bool b) { return a || b; }
inline bool fmin(bool a, bool b) { return a && b; }
inline bool shift_left(bool a, bool) { return a; }
inline bool shift_right(bool a, bool b) { return a && !b; }
inline bool sign(bool a) { return a; }
inline bool bitwise_not(bool a) { return !a; }
inline bool isinf(bool) { return false; }
inline bool isinf(float a) { return ::fabsf(a) == kInfinity; }
inline bool isinf(double a) { return ::fabs(a) == static_cast<double>(kInfinity); }

// ---- sizes that are told when launching (Dim::ToString)
inline i64 floordiv(i64 a, i64 b) { return floor_div(Int<i64>(a), Int<i64>(b)).value; }
inline i64 mod(i64 a, i64 b) { return remainder(Int<i64>(a), Int<i64>(b)).value; }
inline i64 min(i64 a, i64 b) { return a < b ? a : b; }
inline i64 max(i64 a, i64 b) { return a > b ? a : b; }

// ---- reductions. Every thread gets the result.
struct Sum {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Prod {
  template <typename T>
  T operator()(T a, T b) const {
    return a * b;
  }
};
struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return maximum(a, b);
  }
};
struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    return minimum(a, b);
  }
};

template <typename T>
T ShuffleXor(T a, int mask) {
  if constexpr (kIsInt<T>) {
    return ShuffleXor(a.value, mask);
  } else if constexpr (sizeof(T) < 4) {
    return static_cast<T>(__shfl_xor_sync(0xffffffffu, static_cast<int>(a), mask));
  } else {
    return __shfl_xor_sync(0xffffffffu, a, mask);
  }
}

// A value and where it was found. NaN comes before all, of equals the first.
template <typename T>
struct Best {
  T value;
  i64 index;
};
template <bool kLargest>
struct Search {
  template <typename T>
  Best<T> operator()(Best<T> a, Best<T> b) const {
    bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    bool a_first = a.index >= 0 && (b.index < 0 || a.index < b.index);
    if (a.index < 0 || b.index < 0 || (a_nan && b_nan) || a.value == b.value) return a_first ? a : b;
    if (a_nan || b_nan) return a_nan ? a : b;
    return (kLargest ? a.value > b.value : a.value < b.value) ? a : b;
  }
};
struct Any {
  bool operator()(bool a, bool b) const { return a || b; }
};
struct All {
  bool operator()(bool a, bool b) const { return a && b; }
};
template <typename T>
Best<T> ShuffleXor(Best<T> a, int mask) {
  return {ShuffleXor(a.value, mask), ShuffleXor(a.index, mask)};
}

// Over groups of `kLanes` neighbouring lanes; all lanes of the warp must take part.
template <int kLanes, typename T, typename Op>
T WarpReduce(T value, Op op) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value = op(value, ShuffleXor(value, mask));
  return value;
}

// `partial` is shared and of this reduction alone; all `kThreads` threads must take part.
template <int kThreads, typename T, typename Op>
T BlockReduce(T value, Op op, T (&partial)[kThreads / 32]) {
  value = WarpReduce<32>(value, op);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = partial[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / 32; ++warp) value = op(value, partial[warp]);
  return value;
}

}  // namespace stator
