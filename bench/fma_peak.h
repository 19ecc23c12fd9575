// The processor's peak of fused multiply-adds, measured: the yardstick of gemm and conv kernels.
#pragma once

namespace stator {

// GFLOP/s of float32 multiply-adds on registers alone, all threads at work, the best of several
// runs. Without `avx512`, vectors are at most 256 bits wide.
double MeasureFmaPeak(bool avx512);

}  // namespace stator
