// Softmax of columns, and the parts of a group norm: what is compiled per SIMD target.
//
// In:  rows of numbers, `pitch` elements apart. Out: rows, or sums. f16 and bf16 come as floats.
#pragma once

#include <cstdint>

namespace stator {

// Real is float or double.
template <typename Real>
struct NormKernels {
  // The sum of x[i] over i < n, and of (x[i] - centre)^2.
  Real (*sum)(const Real* x, int64_t n);
  Real (*squares)(const Real* x, int64_t n, Real centre);
  // sums[j] += the sum of x[r * pitch + j], or of (x[r * pitch + j] - centre[j])^2, over
  // r < num_rows, for j < n. The rows of a call are few: they are summed up in a Real.
  void (*add_columns)(double* sums, const Real* x, int64_t pitch, int64_t num_rows, int64_t n);
  void (*add_squares)(double* sums, const Real* x, int64_t pitch, int64_t num_rows, int64_t n,
                      const Real* centre);
  // y[i] = (x[i] - centre) * scale + shift; y may be x.
  void (*affine)(Real* y, const Real* x, int64_t n, Real centre, Real scale, Real shift);
  // The same with one centre, scale and shift per column.
  void (*affine_columns)(Real* y, const Real* x, int64_t n, const Real* centre, const Real* scale,
                         const Real* shift);
};

// The kernels of the best SIMD target of this machine.
template <typename Real>
NormKernels<Real> GetNormKernels();

// y[r * y_pitch + j] = the softmax of column j, or its logarithm, for j < n; y may be x.
using SoftmaxColumns = void (*)(const float* x, int64_t x_pitch, float* y, int64_t y_pitch,
                                int64_t num_rows, int64_t n);
SoftmaxColumns GetSoftmaxColumns(bool logarithm);

}  // namespace stator
