// SPDX-License-Identifier: Apache-2.0
// A product by one block, from operands that are near: in shared memory, or in a cache.
//
// The sums are those of the kernels for small and for thin tiles, bit for bit: an element is summed in
// kSmallSlices slices along k, which are added in order. Only who sums what is different. A thread has
// four rows and four columns; where there are fewer of these than threads, slices have threads of their
// own and meet in shared memory.
#pragma once

#include "cuda/kernels/dense.cuh"
#include "cuda/kernels/gemm_thin.cuh"

namespace fusednn::cuda {

constexpr int kSliceK = kSmallTile.k / kSmallSlices;  // of every kSmallTile.k
constexpr int kBanks = 32;

// The epilogue once in the kernel, because it has every activation in it.
__device__ __attribute__((noinline)) inline void finish_one(const Finish<float>& f, Index row,
                                                            Index col, int count, Quad<float> v) {
  finish_quad<true>(f, 0, row, col, count, v);
}

// Division of numbers below 2^16 by one of these that stays the same.
struct Divisor {
  uint32_t inverse = 0;
  int divisor = 1;
  FNN_HD explicit Divisor(int d) : divisor(d) {
    if (d > 1) inverse = uint32_t(((uint64_t(1) << 32) + d - 1) / d);
  }
  FNN_HD int quotient(int n) const { return divisor == 1 ? n : int((uint64_t(n) * inverse) >> 32); }
};

// Quads that lie apart from each other wait in shared memory.
struct WaitingSums {
  const float* data;
  int slices, slice_step, row_step;
};

// The sums of some rows and columns of the result, on to the epilogue.
__device__ inline void finish_sums(const Finish<float>& f, const WaitingSums& sums, int rows,
                                   Index first_col, int cols, const Divisor& quads) {
  for (int q = threadIdx.x; q < rows * quads.divisor; q += kThreads) {
    const int row = quads.quotient(q), col = (q - row * quads.divisor) * kQuad;
    const float* from = sums.data + row * sums.row_step + col;
    Quad<float> sum = load_quad(from);
    for (int s = 1; s < sums.slices; ++s) {
      const Quad<float> more = load_quad(from + s * sums.slice_step);
#pragma unroll
      for (int l = 0; l < kQuad; ++l) sum.lane[l] += more.lane[l];
    }
    finish_one(f, row, first_col + col, int(smaller(cols - col, kQuad)), sum);
  }
}

// How the operands are read. One is staged, which turns it so that its outer side is adjacent, where
// quads cannot be taken as it lies, or where they would meet in a bank.
struct BlockProduct {
  GemmWork<float> work;
  Divisor tiles_n;              // four columns each
  int tiles;                    // of four rows each
  int scratch_b, scratch_sums;  // in numbers
  bool thin, stages_a, stages_b;
  uint8_t slices;
  uint8_t across_a, across_b;  // of the threads that stage: RowGrid::log_across

  FNN_HD explicit BlockProduct(const DenseProduct<float>& dense)
      : tiles_n(int(divide_up(dense.product.n, kQuad))) {
    const Product<float>& p = dense.product;
    const Index columns = dense.columns.sums != nullptr ? dense.columns.cols : 0;
    thin = is_thin(p, dense.columns);
    work = gemm_work(p, dense.columns, dense.finish,
                     thin ? plan_product({kThinTile}, p.m, p.n, p.k, columns)
                          : plan_product({kSmallTile}, p.m, p.n, p.k, columns));
    tiles = int(divide_up(p.m, kQuad)) * tiles_n.divisor;
    slices = uint8_t(smaller(kSmallSlices, divide_up(p.k, kSliceK)));
    stages_a = !thin && !(work.a_quads && (p.a_k == 1 ? p.k : p.m) % kQuad == 0);
    stages_b = !thin && !(work.b_quads && p.b_col == 1 && p.n % kQuad == 0);
    across_a = uint8_t(RowGrid(0, p.a_k == 1 ? p.k : p.m).log_across);
    across_b = uint8_t(RowGrid(0, p.b_k == 1 ? p.k : p.n).log_across);
    scratch_b = scratch_a() + (stages_a ? int(p.k * staged_step(p.m)) : 0);
    scratch_sums = scratch_b + (stages_b ? int(p.k * staged_step(p.n)) : 0);
  }

  FNN_HD static Index staged_step(Index outer) { return divide_up(outer, kBanks) * kBanks; }
  FNN_HD bool slices_apart() const { return slices > 1 && tiles > 0 && tiles * slices <= kThreads; }
  FNN_HD int scratch_a() const { return int(work.plan.column_blocks) * kThreads; }
  FNN_HD int scratch_end() const {
    if (thin) return scratch_sums + ThinTile::numbers<false>;
    return scratch_sums + (slices_apart() ? slices * tiles * kQuad * kQuad : 0);
  }
};

// Quads along the outer side of an operand. Where it is staged, they change places with k, so that
// neither writing nor reading meets in a bank.
struct BlockOperand {
  const float* data;
  int step;     // from k to k + 1
  int swizzle;  // 0, or the bits of k that change places
  __device__ Quad<float> read(int outer, int k) const {
    return load_quad(data + k * step + (outer ^ (k & swizzle)));
  }
};

// An operand of `outer` rows or columns.
struct Staging {
  const float* x;
  Index outer_step, k_step, outer, k;
  int log_across;
};

__device__ inline BlockOperand stage(const Staging& from, float* to) {
  constexpr int kSwizzle = kBanks - kQuad;
  const bool along_k = from.k_step == 1;
  const int step = int(BlockProduct::staged_step(from.outer));
  const RowGrid grid(along_k ? from.outer : from.k, along_k ? from.k : from.outer, from.log_across);
  grid.for_each([&](Index row, Index unit) {
    const int o = int(along_k ? row : unit), at = int(along_k ? unit : row);
    to[at * step + (o ^ (at & kSwizzle))] = from.x[o * from.outer_step + at * from.k_step];
  });
  return {to, step, kSwizzle};
}

// Four rows of a left operand that is read along k as it lies.
struct RowsAlongK {
  const float* rows[kQuad];
  __device__ RowsAlongK(const Product<float>& p, int row) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) rows[i] = p.a + smaller(row + i, p.m - 1) * p.a_row;
  }
};

// sums += four products in the order of k, for four rows and columns.
template <bool kAAlongK>
__device__ void add_products(const RowsAlongK& rows, const BlockOperand& a, const BlockOperand& b,
                             int row, int col, int k, float (&sums)[kQuad][kQuad]) {
  Quad<float> left[kQuad], right[kQuad];
#pragma unroll
  for (int q = 0; q < kQuad; ++q) {
    left[q] = kAAlongK ? load_quad(rows.rows[q] + k) : a.read(row, k + q);
    right[q] = b.read(col, k + q);
  }
#pragma unroll
  for (int q = 0; q < kQuad; ++q) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      const float x = kAAlongK ? left[i].lane[q] : left[q].lane[i];
#pragma unroll
      for (int j = 0; j < kQuad; ++j) sums[i][j] = fma(x, right[q].lane[j], sums[i][j]);
    }
  }
}

// One slice of the sums of four rows and columns.
template <bool kAAlongK>
__device__ void sum_slice(const RowsAlongK& rows, const BlockOperand& a, const BlockOperand& b,
                          int row, int col, int slice, int end_k, float (&sums)[kQuad][kQuad]) {
#pragma unroll
  for (int i = 0; i < kQuad; ++i) {
#pragma unroll
    for (int j = 0; j < kQuad; ++j) sums[i][j] = 0;
  }
#pragma unroll 1
  for (int begin = slice * kSliceK; begin < end_k; begin += kSmallTile.k) {
    const int end = int(smaller(begin + kSliceK, end_k));
    int k = begin;
#pragma unroll 2
    for (; k + kQuad <= end; k += kQuad) add_products<kAAlongK>(rows, a, b, row, col, k, sums);
    // A left operand that is read along k has none of these.
    for (; !kAAlongK && k < end; ++k) {
      const Quad<float> left = a.read(row, k), right = b.read(col, k);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
#pragma unroll
        for (int j = 0; j < kQuad; ++j) {
          sums[i][j] = fma(left.lane[i], right.lane[j], sums[i][j]);
        }
      }
    }
  }
}

__device__ inline Quad<float> quad_of(const float (&sums)[kQuad]) {
  Quad<float> quad;
#pragma unroll
  for (int j = 0; j < kQuad; ++j) quad.lane[j] = sums[j];
  return quad;
}

// The sums of a block whose threads take a tile of four by four each.
template <bool kAAlongK>
__device__ void multiply_tiles(const BlockProduct& block, const BlockOperand& a,
                               const BlockOperand& b, float* scratch) {
  const Product<float>& p = block.work.product;
  const Finish<float>& f = block.work.finish;
  const Divisor tiles_n = block.tiles_n;
  const int tiles = block.tiles, slices = block.slices, end_k = int(p.k);
  float sums[kQuad][kQuad];
  if (block.slices_apart()) {
    const int slice = threadIdx.x / tiles, tile = threadIdx.x % tiles;
    const int down = tiles_n.quotient(tile);
    const int row = down * kQuad, col = (tile - down * tiles_n.divisor) * kQuad;
    const int row_step = tiles_n.divisor * kQuad, slice_step = tiles * kQuad * kQuad;
    if (slice < slices) {
      sum_slice<kAAlongK>(RowsAlongK(p, row), a, b, row, col, slice, end_k, sums);
      float* to = scratch + slice * slice_step + row * row_step + col;
#pragma unroll
      for (int i = 0; i < kQuad; ++i) store_pack(to + i * row_step, quad_of(sums[i]));
    }
    __syncthreads();
    return finish_sums(f, {scratch, slices, slice_step, row_step}, int(p.m), 0, int(p.n), tiles_n);
  }
#pragma unroll 1
  for (int tile = threadIdx.x; tile < tiles; tile += kThreads) {
    const int down = tiles_n.quotient(tile);
    const int row = down * kQuad, col = (tile - down * tiles_n.divisor) * kQuad;
    const RowsAlongK rows(p, row);
    sum_slice<kAAlongK>(rows, a, b, row, col, 0, end_k, sums);
#pragma unroll 1
    for (int slice = 1; slice < slices; ++slice) {
      float more[kQuad][kQuad];
      sum_slice<kAAlongK>(rows, a, b, row, col, slice, end_k, more);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
#pragma unroll
        for (int j = 0; j < kQuad; ++j) sums[i][j] += more[i][j];
      }
    }
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (row + i < p.m) {
        finish_one(f, row + i, col, int(smaller(p.n - col, kQuad)), quad_of(sums[i]));
      }
    }
  }
}

// Few rows: the tiles of the kernel for them, one after the other.
__device__ inline void multiply_few_rows(const BlockProduct& block, float* scratch) {
  const GemmWork<float>& work = block.work;
  const bool along_k = work.product.b_col != 1;
  for (Index tile = 0; tile < work.plan.tiles(); ++tile) {
    if (tile > 0) __syncthreads();  // the sums before these have been read
    const GemmPlace place = gemm_place(work, tile);
    if (along_k) {
      sum_along_k(work, place, scratch);
    } else {
      sum_along_columns(work, place, scratch);
    }
    __syncthreads();
    const WaitingSums sums{scratch, along_k ? 1 : ThinTile::kWarps,
                           ThinTile::kRows * ThinTile::kCols, ThinTile::kCols};
    const int cols = int(smaller(work.product.n - place.col, ThinTile::kCols));
    finish_sums(work.finish, sums, int(work.product.m), place.col, cols,
                Divisor(int(divide_up(cols, kQuad))));
  }
}

__device__ inline void multiply_block(const BlockProduct& block, float* scratch) {
  const GemmWork<float>& work = block.work;
  const Product<float>& p = work.product;
  float* sums = scratch + block.scratch_sums;
  if (block.thin) return multiply_few_rows(block, sums);
  BlockOperand a{p.a, int(p.a_k), 0}, b{p.b, int(p.b_k), 0};
  if (block.stages_a) {
    a = stage({p.a, p.a_row, p.a_k, p.m, p.k, block.across_a}, scratch + block.scratch_a());
  }
  if (block.stages_b) {
    b = stage({p.b, p.b_col, p.b_k, p.n, p.k, block.across_b}, scratch + block.scratch_b);
  }
  // Each group of columns has memory of its own, so that none waits for the one before it.
  for (Index group = 0; group < work.plan.column_blocks; ++group) {
    sum_columns(work, group, scratch + group * kThreads);
  }
  if (block.stages_a || block.stages_b) __syncthreads();
  if (p.a_k == 1 && !block.stages_a) {
    multiply_tiles<true>(block, a, b, sums);
  } else {
    multiply_tiles<false>(block, a, b, sums);
  }
}

}  // namespace fusednn::cuda
