// The instructions of the tape: functions over one tile, and how to find them.
//
// Registers hold a tile of elements of one TapeClass. f16, bf16 and bool live in the f32 class: a
// load converts, bools are 0 and 1, and stores convert back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace stator {

enum class TapeClass : uint8_t { kF32, kF64, kU8, kI8, kI16, kI32, kI64 };
TapeClass ClassOf(DType dtype);
size_t ClassSize(TapeClass tape_class);

// out[i] = op(a[i], b[i], c[i]) for i < n. `params` are the op's float attributes in schema order.
// An operand that the kernel takes as scalar is read at index 0 only. `out` may be an operand.
using TapeKernel = void (*)(void* out, const void* a, const void* b, const void* c,
                            const double* params, int64_t n);

// Instructions that are no op of the table.
enum TapeOp : int {
  kMulAddOp = -1,     // a * b + c; f32
  kFillOp = -2,       // out[i] = a[0]; every class
  kRoundF16Op = -3,   // to the nearest f16; f32
  kRoundBF16Op = -4,  // to the nearest bf16; f32
};

// The kernel of a pointwise op (its id) or TapeOp on vectors of floats, whose operands in
// `scalar_operands` (bit i: operand i) are scalars; null when there is none for this mask. Mask 0
// has one for every op.
TapeKernel FindF32Kernel(int op_id, unsigned scalar_operands);
// For operands and a result that lie in memory as `dtype`, none of them scalar: in one pass. Null
// but for f16 and bf16, and for ops that take no longer than the passes that this spares.
TapeKernel FindHalfKernel(int op_id, DType dtype);
// The same for the other classes, every operand a vector; null for ops the class does not have.
TapeKernel FindElementKernel(int op_id, TapeClass tape_class);
// Conversion of registers as `cast` does it; `to_bool` gives 0 and 1 in the f32 class.
TapeKernel FindCastKernel(TapeClass from, TapeClass to, bool to_bool);

// Instructions on rows of n elements; f32 and f64, else null. A map gives n elements, by name
// "softmax", "log_softmax", "layer_norm" (weight b and bias c) and "rms_norm" (weight b), where b
// and c may be null and params[0] is eps. `out` may be `a`.
TapeKernel FindRowMapKernel(std::string_view op, TapeClass tape_class);
// A reduction gives one element: "sum", "mean", "prod", "amax", "amin" in every class ("mean" only
// of floats), and "var" of floats with params[0] = correction. Null for other names.
TapeKernel FindRowReduceKernel(std::string_view op, TapeClass tape_class);

// out[i] = the reduction of a[r * pitch + i] over r < num_rows, for i < n; by name "sum", "prod",
// "amax", "amin". Null for other names.
using ColumnKernel = void (*)(void* out, const void* a, int64_t pitch, int64_t num_rows, int64_t n);
ColumnKernel FindColumnKernel(std::string_view op, TapeClass tape_class);

// `n` elements between memory (`stride` elements apart) and a register of ClassOf(dtype).
using TapeLoad = void (*)(void* reg, const std::byte* memory, int64_t stride, int64_t n);
using TapeStore = void (*)(std::byte* memory, const void* reg, int64_t stride, int64_t n);
TapeLoad FindLoad(DType dtype);
TapeStore FindStore(DType dtype);

}  // namespace stator
