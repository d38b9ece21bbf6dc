// SPDX-License-Identifier: Apache-2.0
// x86-64-v2: SSE4.2, 16-byte vectors, no fused multiply-add.
#pragma once

#include <immintrin.h>

#include "cpu/kernels/simd_narrow.h"
#include "cpu/kernels/simd_native.h"
#include "cpu/kernels/simd_vector_mask.h"

namespace fusednn::FNN_ISA::native {

// clang-format off
FNN_HD F32 select(MaskF32 m, F32 a, F32 b) { return _mm_blendv_ps(b, a, (__m128)m); }
FNN_HD F64 select(MaskF64 m, F64 a, F64 b) { return _mm_blendv_pd(b, a, (__m128d)m); }
FNN_HD F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
FNN_HD F64 fma(F64 a, F64 b, F64 c) { return a * b + c; }

FNN_HD F32 min(F32 a, F32 b) { return _mm_min_ps(a, b); }
FNN_HD F64 min(F64 a, F64 b) { return _mm_min_pd(a, b); }
FNN_HD F32 max(F32 a, F32 b) { return _mm_max_ps(a, b); }
FNN_HD F64 max(F64 a, F64 b) { return _mm_max_pd(a, b); }
FNN_HD F32 sqrt(F32 x) { return _mm_sqrt_ps(x); }
FNN_HD F64 sqrt(F64 x) { return _mm_sqrt_pd(x); }
FNN_HD F32 floor(F32 x) { return _mm_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
FNN_HD F64 floor(F64 x) { return _mm_round_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
FNN_HD F32 round_even(F32 x) { return _mm_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FNN_HD F64 round_even(F64 x) { return _mm_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

FNN_HD U64 multiply_even(U32 a, U32 b) { return (U64)_mm_mul_epu32((__m128i)a, (__m128i)b); }

FNN_HD void stream(float* p, F32 v) { _mm_stream_ps(p, v); }
FNN_HD void stream(double* p, F64 v) { _mm_stream_pd(p, v); }
FNN_HD void finish_streams() { _mm_sfence(); }
// clang-format on

}  // namespace fusednn::FNN_ISA::native
