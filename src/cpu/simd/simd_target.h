// Which instruction sets the CPU kernels are compiled for. Include before any Highway header.
//
// Highway compiles each kernel once per target and picks at run time. Of x86's we keep AVX-512
// (AVX3), AVX2 with FMA (every server since 2013) and the portable baseline; the ones between would
// lengthen the build for machines nobody runs models on. On Arm, NEON.
#pragma once

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
