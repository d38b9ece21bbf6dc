// SPDX-License-Identifier: Apache-2.0
// Two instructions of the tensor cores, and what they look like lane by lane to a machine without any.
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
  struct alignas(16) Left {
    uint32_t pair[4];
  };
  struct alignas(8) Right {
    uint32_t pair[2];
  };
  const Left left_mine{a[0], a[1], a[2], a[3]};
  const Right right_mine{b[0], b[1]};
  Left left[4];
  Right even[4], odd[4];
  for (int pair = 0; pair < 4; ++pair) {
    left[pair] = __shfl_sync(kAllLanes, left_mine, g * 4 + pair);
    even[pair] = __shfl_sync(kAllLanes, right_mine, 2 * t * 4 + pair);
    odd[pair] = __shfl_sync(kAllLanes, right_mine, (2 * t + 1) * 4 + pair);
  }
  for (int half = 0; half < 2; ++half) {
    for (int pair = 0; pair < 4; ++pair) {
      for (int k = 0; k < 2; ++k) {
        const uint32_t x = left[pair].pair[2 * half + k];
        add(sums[2 * k], x, even[pair].pair[half]);
        add(sums[2 * k + 1], x, odd[pair].pair[half]);
      }
    }
  }
#endif
}

// Four matrices of 8 x 8 halves out of shared memory. Lane i names row i % 8 of matrix i / 8, 16 bytes that
// begin at a multiple of 16, and gets of each matrix the pair at row lane / 4, columns lane % 4 * 2 and one
// more; or of the transposed matrix, which kTransposed says.
template <bool kTransposed>
__device__ void load_matrices(uint32_t (&pairs)[4], const uint16_t* row) {
#if defined(__CUDA_ARCH__)
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"(at)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"(at)
                 : "memory");
  }
#else
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  struct alignas(16) Row {
    uint16_t halves[8];
  };
  const Row mine = *reinterpret_cast<const Row*>(row);
  for (int i = 0; i < 4; ++i) {
    if constexpr (kTransposed) {
      const uint16_t low = __shfl_sync(kAllLanes, mine, 8 * i + 2 * t).halves[g];
      const uint16_t high = __shfl_sync(kAllLanes, mine, 8 * i + 2 * t + 1).halves[g];
      pairs[i] = uint32_t(high) << 16 | low;
    } else {
      const Row other = __shfl_sync(kAllLanes, mine, 8 * i + g);
      pairs[i] = uint32_t(other.halves[2 * t + 1]) << 16 | other.halves[2 * t];
    }
  }
#endif
}

}  // namespace fusednn::cuda
