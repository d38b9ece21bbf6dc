// SPDX-License-Identifier: Apache-2.0
// The native vector types of the instruction set this file is compiled for, and the few operations
// that GCC's and Clang's vector extensions cannot express. Arithmetic, comparison of integers and
// shuffles come from the extensions; simd.h builds Vec on both.
//
// Each simd_<isa>.h defines, in namespace native, for F32 and F64 (and U32 where it says so):
//   MaskF32, MaskF64               result of a comparison: bit masks on AVX-512, lanes elsewhere
//   less, less_equal, equal        false when an argument is NaN; less also for U32
//   select(mask, a, b)             a where the mask is set, else b
//   min, max                       b where either argument is NaN, as the x86 instructions; GCC's
//                                  vector a < b ? a : b often misses them
//   fma(a, b, c)                   a * b + c, with one rounding if the hardware can do it
//   sqrt, floor, round_even        correctly rounded
//   scale(p, t)                    p * 2^n with one rounding, where t = n + 1.5 * 2^mantissa_bits
//   load_partial, store_partial    the first `lanes` elements, also for U32; no other memory is touched
//   stream(p, v)                   writes a whole vector, p a multiple of its size, around the caches
//   finish_streams()               afterwards, before another thread may read them
//   multiply_even(U32, U32)        64-bit products of the lanes 0, 2, 4, ...
#pragma once

#include <stdint.h>

#include "core/hd.h"

namespace fusednn::FNN_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

typedef float F32 __attribute__((vector_size(vector_bytes)));
typedef double F64 __attribute__((vector_size(vector_bytes)));
typedef uint32_t U32 __attribute__((vector_size(vector_bytes)));
typedef uint64_t U64 __attribute__((vector_size(vector_bytes)));

}  // namespace fusednn::FNN_ISA

#if defined(__AVX512F__)
#include "cpu/kernels/simd_v4.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "cpu/kernels/simd_v3.h"
#elif defined(__SSE4_2__)
#include "cpu/kernels/simd_v2.h"
#elif defined(__aarch64__)
#include "cpu/kernels/simd_neon.h"
#else
#include "cpu/kernels/simd_generic.h"
#endif
