// SPDX-License-Identifier: Apache-2.0
// x86-64-v3: AVX2 and FMA, 32-byte vectors.
#pragma once

#include <immintrin.h>

#include "cpu/kernels/simd_native.h"
#include "cpu/kernels/simd_vector_mask.h"

namespace fusednn::FNN_ISA::native {

// clang-format off
FNN_HD F32 select(MaskF32 m, F32 a, F32 b) { return _mm256_blendv_ps(b, a, (__m256)m); }
FNN_HD F64 select(MaskF64 m, F64 a, F64 b) { return _mm256_blendv_pd(b, a, (__m256d)m); }
FNN_HD F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
FNN_HD F64 fma(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a, b, c); }

FNN_HD F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
FNN_HD F64 min(F64 a, F64 b) { return _mm256_min_pd(a, b); }
FNN_HD F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
FNN_HD F64 max(F64 a, F64 b) { return _mm256_max_pd(a, b); }
FNN_HD F32 sqrt(F32 x) { return _mm256_sqrt_ps(x); }
FNN_HD F64 sqrt(F64 x) { return _mm256_sqrt_pd(x); }
FNN_HD F32 floor(F32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
FNN_HD F64 floor(F64 x) { return _mm256_round_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
FNN_HD F32 round_even(F32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FNN_HD F64 round_even(F64 x) { return _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

FNN_HD U64 multiply_even(U32 a, U32 b) { return (U64)_mm256_mul_epu32((__m256i)a, (__m256i)b); }

// Lanes below `lanes` have their sign bit set, which is what the masked moves look at.
FNN_HD __m256i first32(int lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FNN_HD __m256i first64(int lanes) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(lanes), _mm256_setr_epi64x(0, 1, 2, 3));
}

FNN_HD F32 load_partial(const float* p, int lanes) { return _mm256_maskload_ps(p, first32(lanes)); }
FNN_HD F64 load_partial(const double* p, int lanes) { return _mm256_maskload_pd(p, first64(lanes)); }
FNN_HD U32 load_partial(const uint32_t* p, int lanes) {
  return (U32)_mm256_maskload_epi32((const int*)p, first32(lanes));
}
FNN_HD void store_partial(float* p, F32 v, int lanes) { _mm256_maskstore_ps(p, first32(lanes), v); }
FNN_HD void store_partial(double* p, F64 v, int lanes) { _mm256_maskstore_pd(p, first64(lanes), v); }
FNN_HD void store_partial(uint32_t* p, U32 v, int lanes) {
  _mm256_maskstore_epi32((int*)p, first32(lanes), (__m256i)v);
}

FNN_HD void stream(float* p, F32 v) { _mm256_stream_ps(p, v); }
FNN_HD void stream(double* p, F64 v) { _mm256_stream_pd(p, v); }
FNN_HD void finish_streams() { _mm_sfence(); }
// clang-format on

}  // namespace fusednn::FNN_ISA::native
