// SPDX-License-Identifier: Apache-2.0
// x86-64-v4: AVX-512 F/BW/CD/DQ/VL, 64-byte vectors, comparisons into mask registers.
// Comparisons are intrinsics: written with vector extensions, GCC 12 turns every mask into a vector
// of lanes and back again.
#pragma once

// GCC 12 warns about its own placeholder for "undefined lanes" (GCC bug 105593).
#if defined(__clang__)
#include <immintrin.h>
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "cpu/kernels/simd_native.h"

namespace fusednn::FNN_ISA::native {

using MaskF32 = __mmask16;
using MaskF64 = __mmask8;

// clang-format off
FNN_HD MaskF32 less(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FNN_HD MaskF64 less(F64 a, F64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
FNN_HD MaskF32 less(U32 a, U32 b) { return _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b); }
FNN_HD MaskF32 less_equal(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
FNN_HD MaskF64 less_equal(F64 a, F64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
FNN_HD MaskF32 equal(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FNN_HD MaskF64 equal(F64 a, F64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
FNN_HD F32 select(MaskF32 m, F32 a, F32 b) { return _mm512_mask_blend_ps(m, b, a); }
FNN_HD F64 select(MaskF64 m, F64 a, F64 b) { return _mm512_mask_blend_pd(m, b, a); }

FNN_HD F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
FNN_HD F64 fma(F64 a, F64 b, F64 c) { return _mm512_fmadd_pd(a, b, c); }
FNN_HD F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
FNN_HD F64 min(F64 a, F64 b) { return _mm512_min_pd(a, b); }
FNN_HD F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
FNN_HD F64 max(F64 a, F64 b) { return _mm512_max_pd(a, b); }
FNN_HD F32 sqrt(F32 x) { return _mm512_sqrt_ps(x); }
FNN_HD F64 sqrt(F64 x) { return _mm512_sqrt_pd(x); }
FNN_HD F32 floor(F32 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
FNN_HD F64 floor(F64 x) { return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
FNN_HD F32 round_even(F32 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FNN_HD F64 round_even(F64 x) { return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FNN_HD F32 scale(F32 p, F32 t) { return _mm512_scalef_ps(p, t - _mm512_set1_ps(0x1.8p23f)); }
FNN_HD F64 scale(F64 p, F64 t) { return _mm512_scalef_pd(p, t - _mm512_set1_pd(0x1.8p52)); }

FNN_HD U64 multiply_even(U32 a, U32 b) { return (U64)_mm512_mul_epu32((__m512i)a, (__m512i)b); }

FNN_HD __mmask16 first16(int lanes) { return __mmask16((1u << lanes) - 1); }
FNN_HD __mmask8 first8(int lanes) { return __mmask8((1u << lanes) - 1); }

FNN_HD F32 load_partial(const float* p, int lanes) { return _mm512_maskz_loadu_ps(first16(lanes), p); }
FNN_HD F64 load_partial(const double* p, int lanes) { return _mm512_maskz_loadu_pd(first8(lanes), p); }
FNN_HD U32 load_partial(const uint32_t* p, int lanes) { return (U32)_mm512_maskz_loadu_epi32(first16(lanes), p); }
FNN_HD void store_partial(float* p, F32 v, int lanes) { _mm512_mask_storeu_ps(p, first16(lanes), v); }
FNN_HD void store_partial(double* p, F64 v, int lanes) { _mm512_mask_storeu_pd(p, first8(lanes), v); }
FNN_HD void store_partial(uint32_t* p, U32 v, int lanes) { _mm512_mask_storeu_epi32(p, first16(lanes), (__m512i)v); }

FNN_HD void stream(float* p, F32 v) { _mm512_stream_ps(p, v); }
FNN_HD void stream(double* p, F64 v) { _mm512_stream_pd(p, v); }
FNN_HD void finish_streams() { _mm_sfence(); }
// clang-format on

}  // namespace fusednn::FNN_ISA::native
