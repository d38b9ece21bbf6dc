// SPDX-License-Identifier: Apache-2.0
// Comparisons and scaling for instruction sets whose masks are vectors of all-ones or all-zero lanes
// (everything but AVX-512).
#pragma once

#include "cpu/kernels/simd_native.h"

namespace fusednn::FNN_ISA::native {

using MaskF32 = decltype(F32{} < F32{});
using MaskF64 = decltype(F64{} < F64{});

// clang-format off
FNN_HD MaskF32 less(F32 a, F32 b) { return a < b; }
FNN_HD MaskF64 less(F64 a, F64 b) { return a < b; }
FNN_HD MaskF32 less(U32 a, U32 b) { return a < b; }
FNN_HD MaskF32 less_equal(F32 a, F32 b) { return a <= b; }
FNN_HD MaskF64 less_equal(F64 a, F64 b) { return a <= b; }
FNN_HD MaskF32 equal(F32 a, F32 b) { return a == b; }
FNN_HD MaskF64 equal(F64 a, F64 b) { return a == b; }
// clang-format on

// p * 2^n = (p * 2^h) * 2^(n - h) with h = floor(n / 2). The first product is exact, so that a
// subnormal result is rounded once. The low bits of t hold n: subtracting the bits of
// 1.5 * 2^mantissa leaves it as an integer. `offset` keeps it positive, for the unsigned shift.
template <class Bits, class Real, class Word>
FNN_HD Real scale_in_two(Real p, Real t, Word magic, Word mantissa, Word bias) {
  const Word offset = 4 * (bias + 1);
  const Bits n = (Bits)t - (magic - offset);
  const Bits half = n >> Word(1);
  const Bits first = (half + (bias - offset / 2)) << mantissa;
  const Bits second = ((n - half) + (bias - offset / 2)) << mantissa;
  return (p * (Real)first) * (Real)second;
}

FNN_HD F32 scale(F32 p, F32 t) {
  return scale_in_two<U32>(p, t, uint32_t(0x4b400000), uint32_t(23), uint32_t(127));
}
FNN_HD F64 scale(F64 p, F64 t) {
  return scale_in_two<U64>(p, t, uint64_t(0x4338000000000000), uint64_t(52), uint64_t(1023));
}

}  // namespace fusednn::FNN_ISA::native
