// SPDX-License-Identifier: Apache-2.0
// Numbers that lie in memory as bfloat16 or float16 while the arithmetic is that of float32. Both
// directions are exact where they can be and else rounded to nearest even.
#pragma once

#include "cuda/kernels/loops.cuh"

namespace fusednn::cuda {

__device__ inline float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}
__device__ inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}

// The upper half of a float32.
__device__ inline float widen_bfloat16(uint16_t half) {
  return float_of_bits(uint32_t(half) << 16);
}

#if defined(__CUDA_ARCH__)

__device__ inline uint16_t narrow_bfloat16(float x) {
  uint16_t half;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

__device__ inline float widen_float16(uint16_t half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}
__device__ inline uint16_t narrow_float16(float x) {
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
}

#else  // the same in plain arithmetic, for machines that only pretend to be a GPU

__device__ inline uint16_t narrow_bfloat16(float x) {
  const uint32_t bits = bits_of_float(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// One bit of sign, five of exponent, ten of mantissa.
__device__ inline float widen_float16(uint16_t half) {
  const uint32_t magnitude = (half & 0x7fffu) << 13;
  // A product takes the step from one bias of the exponent to the other, also for subnormals.
  uint32_t bits = bits_of_float(float_of_bits(magnitude) * 0x1p112f);
  if (magnitude >= 0x7c00u << 13) bits |= 0x7f800000u;
  return float_of_bits(bits | (half & 0x8000u) << 16);
}
__device__ inline uint16_t narrow_float16(float x) {
  const uint32_t bits = bits_of_float(x), magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  uint32_t half = 0x7c00;
  if (magnitude < 0x38800000u) {
    // Added to 1/2, a subnormal result is rounded where its last bit lies.
    half = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else if (magnitude < 0x47800000u) {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return uint16_t(half | (bits & 0x80000000u) >> 16);
}

#endif

__device__ inline float widen(Storage storage, uint16_t half) {
  return storage == Storage::bfloat16 ? widen_bfloat16(half) : widen_float16(half);
}
__device__ inline uint16_t narrow(Storage storage, float x) {
  return storage == Storage::bfloat16 ? narrow_bfloat16(x) : narrow_float16(x);
}

}  // namespace fusednn::cuda
