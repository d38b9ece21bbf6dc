// SPDX-License-Identifier: Apache-2.0
// One instruction of the tensor cores, and what it looks like lane by lane to a machine without any.
#pragma once

#include "cuda/kernels/storage.cuh"

namespace fusednn::cuda {

// Two numbers in half the room, the first one in the lower half.
template <Storage kHalf>
__device__ uint32_t half_pair(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t pair;
  if constexpr (kHalf == Storage::bfloat16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#else
  return uint32_t(narrow(kHalf, high)) << 16 | narrow(kHalf, low);
#endif
}

// sums += a b for a 16 x 16 and a 16 x 8 matrix that a warp holds between its lanes. With g = lane / 4
// and t = lane % 4, and pairs of numbers that are neighbours along k:
//   a      (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8)
//   b      (2t, g), (2t + 8, g)
//   sums   (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
template <Storage kHalf>
__device__ void multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__)
  if constexpr (kHalf == Storage::bfloat16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const auto add = [](float& sum, uint32_t x, uint32_t y) {
    sum = fma(widen(kHalf, uint16_t(x)), widen(kHalf, uint16_t(y)), sum);
    sum = fma(widen(kHalf, uint16_t(x >> 16)), widen(kHalf, uint16_t(y >> 16)), sum);
  };
  for (int half = 0; half < 2; ++half) {
    for (int pair = 0; pair < 4; ++pair) {
      for (int k = 0; k < 2; ++k) {
        const uint32_t left = __shfl_sync(kAllLanes, a[2 * half + k], g * 4 + pair);
        const uint32_t right_even = __shfl_sync(kAllLanes, b[half], 2 * t * 4 + pair);
        const uint32_t right_odd = __shfl_sync(kAllLanes, b[half], (2 * t + 1) * 4 + pair);
        add(sums[2 * k], left, right_even);
        add(sums[2 * k + 1], left, right_odd);
      }
    }
  }
#endif
}

}  // namespace fusednn::cuda
