// SPDX-License-Identifier: Apache-2.0
// The vocabulary that rules are written in, for scalar lanes (a CUDA thread, host-side preparation).
// The CPU kernels' Vec offers the same names, found by argument-dependent lookup.
// Builtins instead of <cmath>: files compiled per instruction set include this header.
//
// min and max follow the x86 instruction: when either argument is NaN the second one is returned,
// so put the value whose NaN must survive second.
#pragma once

#include <stdint.h>

#include "core/hd.h"

namespace fusednn {

// clang-format off
FNN_HD float  exp(float x)    { return __builtin_expf(x); }
FNN_HD double exp(double x)   { return __builtin_exp(x); }
FNN_HD float  log(float x)    { return __builtin_logf(x); }
FNN_HD double log(double x)   { return __builtin_log(x); }
FNN_HD float  log1p(float x)  { return __builtin_log1pf(x); }
FNN_HD double log1p(double x) { return __builtin_log1p(x); }
FNN_HD float  log1p_unit(float x)   { return log1p(x); }  // for 0 <= x <= 1
FNN_HD double log1p_unit(double x)  { return log1p(x); }
FNN_HD float  expm1(float x)  { return __builtin_expm1f(x); }
FNN_HD double expm1(double x) { return __builtin_expm1(x); }
FNN_HD float  tanh(float x)   { return __builtin_tanhf(x); }
FNN_HD double tanh(double x)  { return __builtin_tanh(x); }
FNN_HD float  erf(float x)    { return __builtin_erff(x); }
FNN_HD double erf(double x)   { return __builtin_erf(x); }
FNN_HD double sin(double x)   { return __builtin_sin(x); }
FNN_HD double cos(double x)   { return __builtin_cos(x); }
FNN_HD float  sqrt(float x)   { return __builtin_sqrtf(x); }
FNN_HD double sqrt(double x)  { return __builtin_sqrt(x); }
FNN_HD float  abs(float x)    { return __builtin_fabsf(x); }
FNN_HD double abs(double x)   { return __builtin_fabs(x); }
FNN_HD float  fma(float a, float b, float c)    { return __builtin_fmaf(a, b, c); }
FNN_HD double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
FNN_HD float  copysign(float x, float s)   { return __builtin_copysignf(x, s); }
FNN_HD double copysign(double x, double s) { return __builtin_copysign(x, s); }
FNN_HD float  min(float a, float b)   { return a < b ? a : b; }
FNN_HD double min(double a, double b) { return a < b ? a : b; }
FNN_HD float  max(float a, float b)   { return a > b ? a : b; }
FNN_HD double max(double a, double b) { return a > b ? a : b; }
FNN_HD float  select(bool m, float a, float b)   { return m ? a : b; }
FNN_HD double select(bool m, double a, double b) { return m ? a : b; }
FNN_HD uint32_t select(bool m, uint32_t a, uint32_t b) { return m ? a : b; }
// clang-format on

// -1, 0 or 1; zero and NaN give themselves.
template <class V>
FNN_HD V sign(V x) {
  return select(x > V(0), V(1), select(x < V(0), V(-1), x));
}

}  // namespace fusednn
