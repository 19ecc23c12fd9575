// Loads and stores of the tape: between elements in memory and registers of their class.
#include "cpu/simd/simd_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd/convert_kernels.cc"
#include <cstring>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/simd/half.h"
#include "cpu/simd/simd.h"
#include "cpu/simd/tape_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace stator {
namespace HWY_NAMESPACE {
namespace simd {

template <typename T>
float ToFloat(T value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? 1.0f : 0.0f;
  } else {
    return static_cast<float>(value);
  }
}
template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else {
    return T(value);
  }
}

template <typename T>
void LoadAs(void* reg, const std::byte* memory, int64_t stride, int64_t n) {
  auto* to = static_cast<float*>(reg);
  auto* from = reinterpret_cast<const T*>(memory);
  int64_t i = 0;
  if (kConvertsVectors<T> && stride == 1) {
    for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) Store(FromMemory(from + i), to + i);
  }
  for (; i < n; ++i) to[i] = ToFloat(from[i * stride]);
}

template <typename T>
void StoreAs(std::byte* memory, const void* reg, int64_t stride, int64_t n) {
  auto* to = reinterpret_cast<T*>(memory);
  auto* from = static_cast<const float*>(reg);
  int64_t i = 0;
  if (kConvertsVectors<T> && stride == 1) {
    for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) ToMemory(Load(from + i), to + i);
  }
  for (; i < n; ++i) to[i * stride] = FromFloat<T>(from[i]);
}

TapeLoad FindConvertingLoad(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return LoadAs<Float16>;
    case DType::kBFloat16: return LoadAs<BFloat16>;
    case DType::kBool: return LoadAs<bool>;
    default: return nullptr;
  }
}

TapeStore FindConvertingStore(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return StoreAs<Float16>;
    case DType::kBFloat16: return StoreAs<BFloat16>;
    case DType::kBool: return StoreAs<bool>;
    default: return nullptr;
  }
}

}  // namespace simd
using simd::FindConvertingLoad;
using simd::FindConvertingStore;
}  // namespace HWY_NAMESPACE
}  // namespace stator
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stator {
namespace {

template <typename T>
void CopyIn(void* reg, const std::byte* memory, int64_t stride, int64_t n) {
  if (stride == 1) {
    std::memcpy(reg, memory, n * sizeof(T));
    return;
  }
  auto* from = reinterpret_cast<const T*>(memory);
  for (int64_t i = 0; i < n; ++i) static_cast<T*>(reg)[i] = from[i * stride];
}

template <typename T>
void CopyOut(std::byte* memory, const void* reg, int64_t stride, int64_t n) {
  if (stride == 1) {
    std::memcpy(memory, reg, n * sizeof(T));
    return;
  }
  auto* from = static_cast<const T*>(reg);
  for (int64_t i = 0; i < n; ++i) reinterpret_cast<T*>(memory)[i * stride] = from[i];
}

}  // namespace

HWY_EXPORT(FindConvertingLoad);
HWY_EXPORT(FindConvertingStore);

TapeLoad FindLoad(DType dtype) {
  if (TapeLoad load = HWY_DYNAMIC_DISPATCH(FindConvertingLoad)(dtype)) return load;
  switch (DTypeSize(dtype)) {
    case 1: return CopyIn<uint8_t>;
    case 2: return CopyIn<uint16_t>;
    case 4: return CopyIn<uint32_t>;
    default: return CopyIn<uint64_t>;
  }
}

TapeStore FindStore(DType dtype) {
  if (TapeStore store = HWY_DYNAMIC_DISPATCH(FindConvertingStore)(dtype)) return store;
  switch (DTypeSize(dtype)) {
    case 1: return CopyOut<uint8_t>;
    case 2: return CopyOut<uint16_t>;
    case 4: return CopyOut<uint32_t>;
    default: return CopyOut<uint64_t>;
  }
}

}  // namespace stator
#endif
