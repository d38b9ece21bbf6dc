// SPDX-License-Identifier: Apache-2.0
// AArch64 NEON: 16-byte vectors with fused multiply-add.
#pragma once

#include <arm_neon.h>

#include "cpu/kernels/simd_narrow.h"
#include "cpu/kernels/simd_native.h"
#include "cpu/kernels/simd_vector_mask.h"

namespace fusednn::FNN_ISA::native {

// clang-format off
FNN_HD F32 select(MaskF32 m, F32 a, F32 b) { return (F32)vbslq_f32((uint32x4_t)m, (float32x4_t)a, (float32x4_t)b); }
FNN_HD F64 select(MaskF64 m, F64 a, F64 b) { return (F64)vbslq_f64((uint64x2_t)m, (float64x2_t)a, (float64x2_t)b); }
FNN_HD F32 fma(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
FNN_HD F64 fma(F64 a, F64 b, F64 c) { return (F64)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }

FNN_HD F32 min(F32 a, F32 b) { return a < b ? a : b; }
FNN_HD F64 min(F64 a, F64 b) { return a < b ? a : b; }
FNN_HD F32 max(F32 a, F32 b) { return a > b ? a : b; }
FNN_HD F64 max(F64 a, F64 b) { return a > b ? a : b; }
FNN_HD F32 sqrt(F32 x) { return (F32)vsqrtq_f32((float32x4_t)x); }
FNN_HD F64 sqrt(F64 x) { return (F64)vsqrtq_f64((float64x2_t)x); }
FNN_HD F32 floor(F32 x) { return (F32)vrndmq_f32((float32x4_t)x); }
FNN_HD F64 floor(F64 x) { return (F64)vrndmq_f64((float64x2_t)x); }
FNN_HD F32 round_even(F32 x) { return (F32)vrndnq_f32((float32x4_t)x); }
FNN_HD F64 round_even(F64 x) { return (F64)vrndnq_f64((float64x2_t)x); }

FNN_HD U64 multiply_even(U32 a, U32 b) {
  return (U64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}

FNN_HD void stream(float* p, F32 v) { __builtin_memcpy(p, &v, sizeof(v)); }
FNN_HD void stream(double* p, F64 v) { __builtin_memcpy(p, &v, sizeof(v)); }
FNN_HD void finish_streams() {}
// clang-format on

}  // namespace fusednn::FNN_ISA::native
