// SPDX-License-Identifier: Apache-2.0
// Numbers that lie in memory as bfloat16 or float16 while the arithmetic is that of float32. Both
// directions are exact where they can be and else rounded to nearest even, on every instruction set
// with the same bits: infinities, subnormals and NaN included.
#pragma once

#include "cpu/kernels/loops.h"

namespace fusednn::FNN_ISA {

typedef uint16_t U16 __attribute__((vector_size(vector_bytes / 2)));

// Bits of a float32, where a < limit for unsigned numbers.
FNN_HD U32 select_below(U32 a, uint32_t limit, U32 yes, U32 no) {
  return (U32)native::select(native::less(a, U32{} + limit), (F32)yes, (F32)no);
}

// The upper half of a float32.
struct Bfloat16 {
  FNN_HD static U32 widen(U16 half) { return __builtin_convertvector(half, U32) << 16; }
  FNN_HD static U16 narrow(U32 bits) {
    const U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const U32 quiet_nan = (bits >> 16) | 0x40u;
    const U32 half = select_below(bits & 0x7fffffffu, 0x7f800001u, rounded, quiet_nan);
    return __builtin_convertvector(half, U16);
  }
};

// One bit of sign, five of exponent, ten of mantissa.
struct Float16 {
#if defined(__AVX512F__)
  FNN_HD static U32 widen(U16 half) { return (U32)_mm512_cvtph_ps((__m256i)half); }
  FNN_HD static U16 narrow(U32 bits) {
    return (U16)_mm512_cvtps_ph((__m512)bits, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
#elif defined(__AVX2__) && defined(__F16C__)
  FNN_HD static U32 widen(U16 half) { return (U32)_mm256_cvtph_ps((__m128i)half); }
  FNN_HD static U16 narrow(U32 bits) {
    return (U16)_mm256_cvtps_ph((__m256)bits, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
#else
  FNN_HD static U32 widen(U16 given) {
    const U32 half = __builtin_convertvector(given, U32);
    const U32 magnitude = (half & 0x7fffu) << 13;
    // A product takes the step from one bias of the exponent to the other, also for subnormals.
    const U32 finite = (U32)((F32)magnitude * 0x1p112f);
    const U32 bits = select_below(magnitude, 0x7c00u << 13, finite, finite | 0x7f800000u);
    return bits | (half & 0x8000u) << 16;
  }
  FNN_HD static U16 narrow(U32 bits) {
    const U32 magnitude = bits & 0x7fffffffu;
    // Added to 1/2, a subnormal result is rounded where its last bit lies.
    const U32 tiny = (U32)((F32)magnitude + 0.5f) - 0x3f000000u;
    const U32 normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const U32 nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    const U32 endless = select_below(magnitude, 0x7f800001u, U32{} + 0x7c00u, nan);
    U32 half = select_below(magnitude, 0x38800000u, tiny, normal);
    half = select_below(magnitude, 0x47800000u, half, endless);
    return __builtin_convertvector(half | (bits & 0x80000000u) >> 16, U16);
  }
#endif
};

template <class Format>
void widen(const void* src, float* dst, Index n) {
  for_lanes<Vec<float>>(0, n, [&](Index i, int lanes) FNN_INLINE {
    const uint16_t* p = static_cast<const uint16_t*>(src) + i;
    U16 half{};
    if (lanes == Vec<float>::size) {
      __builtin_memcpy(&half, p, sizeof(half));
    } else {
      for (int k = 0; k < lanes; ++k) half[k] = p[k];
    }
    Vec<float>::from_bits(Format::widen(half)).store(dst + i, lanes);
  });
}

template <class Format>
void narrow(const float* src, void* dst, Index n) {
  for_lanes<Vec<float>>(0, n, [&](Index i, int lanes) FNN_INLINE {
    uint16_t* p = static_cast<uint16_t*>(dst) + i;
    const U16 half = Format::narrow(Vec<float>::load(src + i, lanes).bits());
    if (lanes == Vec<float>::size) {
      __builtin_memcpy(p, &half, sizeof(half));
    } else {
      for (int k = 0; k < lanes; ++k) p[k] = half[k];
    }
  });
}

inline void widen(Storage storage, const void* src, float* dst, Index n) {
  storage == Storage::bfloat16 ? widen<Bfloat16>(src, dst, n) : widen<Float16>(src, dst, n);
}
inline void narrow(Storage storage, const float* src, void* dst, Index n) {
  storage == Storage::bfloat16 ? narrow<Bfloat16>(src, dst, n) : narrow<Float16>(src, dst, n);
}

}  // namespace fusednn::FNN_ISA
