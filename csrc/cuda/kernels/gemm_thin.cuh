// SPDX-License-Identifier: Apache-2.0
// Products with at most eight rows, as in inference: every weight is read once and used at once, so what
// counts is how many reads are on their way. A block takes 32 columns, and its threads share out k.
#pragma once

#include "cuda/kernels/gemm_tiles.cuh"
#include "cuda/kernels/teams.cuh"

namespace fusednn::cuda {

struct ThinTile {
  static constexpr int kRows = kThinTile.m, kCols = kThinTile.n;
  static constexpr int kWarps = kThreads / kWarp;
  template <bool kBAlongK>
  static constexpr int slices = kBAlongK ? 1 : kWarps;
  template <bool kBAlongK>
  static constexpr int numbers = slices<kBAlongK> * kRows * kCols;  // of shared memory
};

// Weights adjacent along the columns: eight threads read 32 columns of a row, each four of them, for
// rows k that are 32 apart.
template <class T>
__device__ void sum_along_columns(const GemmWork<T>& work, const GemmPlace& place, T* shared) {
  constexpr int kRows = ThinTile::kRows, kCols = ThinTile::kCols;
  constexpr int kAcross = kCols / kQuad, kDown = kThreads / kAcross, kAtOnce = 4;
  const Product<T>& p = work.product;
  const int lane = threadIdx.x / kAcross, first = threadIdx.x % kAcross * kQuad;
  T sums[kRows][kQuad] = {};
#pragma unroll 1
  for (Index k = place.k + lane; k < place.end_k; k += kDown * kAtOnce) {
    Quad<T> w[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      w[u] = read_quad<false>(p.b, p.b_k, place.col + first, p.n, k + u * kDown, place.end_k,
                              work.b_quads);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const Index at = k + u * kDown;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const T x = r < p.m && at < place.end_k ? p.a[r * p.a_row + at] : T(0);
#pragma unroll
        for (int q = 0; q < kQuad; ++q) sums[r][q] = fma(x, w[u].lane[q], sums[r][q]);
      }
    }
  }
  // The four lanes of a warp that share columns, then the warps in order.
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int q = 0; q < kQuad; ++q) {
      sums[r][q] += __shfl_xor_sync(kAllLanes, sums[r][q], kAcross);
      sums[r][q] += __shfl_xor_sync(kAllLanes, sums[r][q], 2 * kAcross);
    }
  }
  if (threadIdx.x % kWarp >= kAcross) return;
  T* mine = shared + threadIdx.x / kWarp * kRows * kCols;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    Quad<T> quad;
#pragma unroll
    for (int q = 0; q < kQuad; ++q) quad.lane[q] = sums[r][q];
    store_pack(mine + r * kCols + first, quad);
  }
}

// Weights adjacent along k: a warp takes four columns, its lanes four neighbours along k each.
template <class T>
__device__ void sum_along_k(const GemmWork<T>& work, const GemmPlace& place, T* shared) {
  constexpr int kRows = ThinTile::kRows, kCols = ThinTile::kCols;
  constexpr int kOwn = kCols / ThinTile::kWarps;  // columns
  const Product<T>& p = work.product;
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kOwn;
  T sums[kRows][kOwn] = {};
#pragma unroll 1
  for (Index k = place.k + lane * kQuad; k < place.end_k; k += kWarp * kQuad) {
    Quad<T> w[kOwn];
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      w[j] =
          read_quad<true>(p.b, p.b_col, place.col + first + j, p.n, k, place.end_k, work.b_quads);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Quad<T> x = read_quad<true>(p.a, p.a_row, r, p.m, k, place.end_k, work.a_quads);
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
#pragma unroll
        for (int q = 0; q < kQuad; ++q) sums[r][j] = fma(x.lane[q], w[j].lane[q], sums[r][j]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const T sum = reduce_lanes(sums[r][j], kWarp, Add());
      if (lane == 0) shared[r * kCols + first + j] = sum;
    }
  }
}

template <bool kBAlongK, class T>
__device__ void multiply_thin_tile(const GemmWork<T>& work, Index block, T* shared) {
  const GemmPlace place = gemm_place(work, block);
  if constexpr (kBAlongK) {
    sum_along_k(work, place, shared);
  } else {
    sum_along_columns(work, place, shared);
  }
  __syncthreads();
  finish_rows<true, ThinTile::slices<kBAlongK>, ThinTile::kRows, ThinTile::kCols>(work, place, 0,
                                                                                  shared);
}

}  // namespace fusednn::cuda
