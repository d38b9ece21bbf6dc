// SPDX-License-Identifier: Apache-2.0
// Any processor with a compiler that knows vector extensions: scalar builtins, lane by lane.
#pragma once

#include "cpu/kernels/simd_narrow.h"
#include "cpu/kernels/simd_native.h"
#include "cpu/kernels/simd_vector_mask.h"

namespace fusednn::FNN_ISA::native {

// clang-format off
FNN_HD F32 select(MaskF32 m, F32 a, F32 b) { return m ? a : b; }
FNN_HD F64 select(MaskF64 m, F64 a, F64 b) { return m ? a : b; }
FNN_HD F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
FNN_HD F64 fma(F64 a, F64 b, F64 c) { return a * b + c; }

FNN_HD F32 min(F32 a, F32 b) { return a < b ? a : b; }
FNN_HD F64 min(F64 a, F64 b) { return a < b ? a : b; }
FNN_HD F32 max(F32 a, F32 b) { return a > b ? a : b; }
FNN_HD F64 max(F64 a, F64 b) { return a > b ? a : b; }
FNN_HD F32 sqrt(F32 x) { for (int i = 0; i < 4; ++i) x[i] = __builtin_sqrtf(x[i]); return x; }
FNN_HD F64 sqrt(F64 x) { for (int i = 0; i < 2; ++i) x[i] = __builtin_sqrt(x[i]); return x; }
FNN_HD F32 floor(F32 x) { for (int i = 0; i < 4; ++i) x[i] = __builtin_floorf(x[i]); return x; }
FNN_HD F64 floor(F64 x) { for (int i = 0; i < 2; ++i) x[i] = __builtin_floor(x[i]); return x; }
FNN_HD F32 round_even(F32 x) { for (int i = 0; i < 4; ++i) x[i] = __builtin_rintf(x[i]); return x; }
FNN_HD F64 round_even(F64 x) { for (int i = 0; i < 2; ++i) x[i] = __builtin_rint(x[i]); return x; }

FNN_HD U64 multiply_even(U32 a, U32 b) { return ((U64)a & 0xffffffffu) * ((U64)b & 0xffffffffu); }

FNN_HD void stream(float* p, F32 v) { __builtin_memcpy(p, &v, sizeof(v)); }
FNN_HD void stream(double* p, F64 v) { __builtin_memcpy(p, &v, sizeof(v)); }
FNN_HD void finish_streams() {}
// clang-format on

}  // namespace fusednn::FNN_ISA::native
