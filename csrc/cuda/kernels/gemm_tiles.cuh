// SPDX-License-Identifier: Apache-2.0
// What product kernels share: their way to a tile, guarded reads of operands, sums of columns that ride
// along, and the way from results in shared memory to the epilogue.
#pragma once

#include "cuda/kernels/gemm.cuh"
#include "cuda/kernels/gemm_plan.h"

namespace fusednn::cuda {

// Everything a product kernel is given.
template <class T>
struct GemmWork {
  Product<T> product;
  ColumnSums<T> columns;
  Finish<T> finish;  // of one part: its end; of several: where they wait
  GemmPlan plan;
  Index part_step;  // from a part to the next
  T* column_sums;   // one row, or one per part of the rows
  bool accumulates_columns;
  bool a_quads, b_quads;  // whether quads may be read along the operand's step of 1
};

// Of a product that is not divided.
template <class T>
FNN_HD GemmWork<T> gemm_work(const Product<T>& product, const ColumnSums<T>& columns,
                             const Finish<T>& finish, const GemmPlan& plan) {
  GemmWork<T> work = {};
  work.product = product;
  work.columns = columns;
  work.finish = finish;
  work.plan = plan;
  work.column_sums = columns.sums;
  work.accumulates_columns = finish.accumulate;
  work.a_quads = rows_hold_packs<T>({product.a, product.a_k == 1 ? product.a_row : product.a_k});
  work.b_quads = rows_hold_packs<T>({product.b, product.b_col != 1 ? product.b_col : product.b_k});
  return work;
}

// What a block does: a tile of a part.
struct GemmPlace {
  Index row, col;  // of the tile's first element
  Index part, k, end_k;
};

// Blocks count from 0 where those of the column sums have ended.
template <class T>
__device__ GemmPlace gemm_place(const GemmWork<T>& work, Index block) {
  const GemmPlan& plan = work.plan;
  const Index part = block / plan.tiles(), tile = block % plan.tiles();
  // Along the shorter side first: what runs at the same time then shares most operands.
  const bool along_n = plan.tiles_n <= plan.tiles_m;
  const Index tile_m = along_n ? tile / plan.tiles_n : tile % plan.tiles_m;
  const Index tile_n = along_n ? tile % plan.tiles_n : tile / plan.tiles_m;
  const Index k = part * plan.part_k;
  return {tile_m * plan.tile.m, tile_n * plan.tile.n, part, k,
          smaller(work.product.k, k + plan.part_k)};
}

// Four neighbours of an operand, zeros beyond its ends.
template <bool kAlongK, class T>
__device__ Quad<T> read_quad(const T* x, Index step, Index outer, Index end_outer, Index k,
                             Index end_k, bool whole) {
  const T* p = kAlongK ? x + outer * step + k : x + k * step + outer;
  const bool inside = outer < end_outer && k < end_k;
  const Index left = !inside ? 0 : kAlongK ? end_k - k : end_outer - outer;
  if (whole && left >= kQuad) return load_quad(p);
  Quad<T> quad;
#pragma unroll
  for (int q = 0; q < kQuad; ++q) quad.lane[q] = q < left ? p[q] : T(0);
  return quad;
}

// A tile of an operand on its way through registers: `kOuter` rows (or columns) by `kK`, as quads along
// k where k is adjacent in memory, else along the other side.
template <class T, int kOuter, int kK, bool kAlongK>
struct OperandTile {
  static constexpr int kQuads = kOuter * kK / kQuad / kThreads;
  static_assert(kQuads * kQuad * kThreads == kOuter * kK, "every thread reads as much");
  Quad<T> quads[kQuads];

  // The place of a thread's i-th quad: (outer, k) of its first element.
  __device__ static int outer_of(int i) {
    const int q = threadIdx.x + i * kThreads;
    return kAlongK ? q / (kK / kQuad) : q % (kOuter / kQuad) * kQuad;
  }
  __device__ static int k_of(int i) {
    const int q = threadIdx.x + i * kThreads;
    return kAlongK ? q % (kK / kQuad) * kQuad : q / (kOuter / kQuad);
  }

  // `step` is that of the side which is not adjacent.
  __device__ void read(const T* x, Index step, Index outer, Index end_outer, Index k, Index end_k,
                       bool whole) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      quads[i] =
          read_quad<kAlongK>(x, step, outer + outer_of(i), end_outer, k + k_of(i), end_k, whole);
    }
  }
};

// The sums of a few columns over a part of the rows.
template <class T>
__device__ void sum_columns(const GemmWork<T>& work, Index block, T* shared) {
  constexpr int kLanes = kThreads / kColumnsPerBlock, kAtOnce = 8;
  const GemmPlan& plan = work.plan;
  const ColumnSums<T>& columns = work.columns;
  const Index part = block / plan.column_blocks;
  const Index col = block % plan.column_blocks * kColumnsPerBlock + threadIdx.x % kColumnsPerBlock;
  const int lane = threadIdx.x / kColumnsPerBlock;
  const Index end = smaller(work.product.k, (part + 1) * plan.column_rows);
  const bool inside = col < columns.cols;
  T sums[kAtOnce] = {};
  for (Index row = part * plan.column_rows + lane; row < end && inside; row += kLanes * kAtOnce) {
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const Index at = row + u * kLanes;
      if (at < end) sums[u] += columns.x[at * columns.x_row + col];
    }
  }
#pragma unroll
  for (int half = kAtOnce / 2; half > 0; half /= 2) {
    for (int u = 0; u < half; ++u) sums[u] += sums[u + half];
  }
  shared[threadIdx.x] = sums[0];
  __syncthreads();
  if (lane != 0 || !inside) return;
  T total = shared[threadIdx.x];
  for (int l = 1; l < kLanes; ++l) total += shared[l * kColumnsPerBlock + threadIdx.x];
  T* sum = work.column_sums + part * columns.cols + col;
  *sum = work.accumulates_columns ? *sum + total : total;
}

// Some rows of a tile that lie in shared memory, kSlices times, on to the epilogue.
template <bool kRules, int kSlices, int kRows, int kCols, class T>
__device__ void finish_rows(const GemmWork<T>& work, const GemmPlace& place, int first_row,
                            const T* shared) {
#pragma unroll 1
  for (int q = threadIdx.x; q < kRows * kCols / kQuad; q += kThreads) {
    const int r = q / (kCols / kQuad), c = q % (kCols / kQuad) * kQuad;
    Quad<T> sum = load_quad(shared + r * kCols + c);
#pragma unroll
    for (int s = 1; s < kSlices; ++s) {
      const Quad<T> more = load_quad(shared + (s * kRows + r) * kCols + c);
#pragma unroll
      for (int l = 0; l < kQuad; ++l) sum.lane[l] += more.lane[l];
    }
    const Index row = place.row + first_row + r, col = place.col + c;
    const Index left = work.product.n - col;
    if (row >= work.product.m || left <= 0) continue;
    finish_quad<kRules>(work.finish, place.part * work.part_step, row, col,
                        int(smaller(left, kQuad)), sum);
  }
}

// How a product is cut up.
template <class T>
GemmPlan plan_for(const Product<T>& product, const ColumnSums<T>& columns);

// Products with few rows, whose left operand is adjacent along k, and no column sums.
template <class T>
FNN_HD bool is_thin(const Product<T>& p, const ColumnSums<T>& columns) {
  return p.m <= kThinTile.m && p.a_k == 1 && p.operands == Storage::native &&
         columns.sums == nullptr;
}

template <class T>
void multiply_thin(const GemmWork<T>& work, const Context& context);

// The kernels for operands in bfloat16 and float16.
GemmPlan plan_half(Index m, Index n, Index k, Index columns);
void multiply_half(const GemmWork<float>& work, const Context& context);

}  // namespace fusednn::cuda
