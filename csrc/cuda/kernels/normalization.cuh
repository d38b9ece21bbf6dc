// SPDX-License-Identifier: Apache-2.0
// What batch and layer normalisation share: the way a matrix is cut up where numbers are gathered down
// its columns, and gradients that may not be wanted.
//
// A block takes a tile, some rows of 32 columns: a warp reads a row of it at a time, a thread stays in
// its column. Tiles follow from the shape alone. Where one tile holds all rows of its columns, nothing
// is handed from kernel to kernel.
#pragma once

#include "cuda/kernels/teams.cuh"
#include "rules/normalization.h"

namespace fusednn::cuda {

constexpr int kColumns = kWarp;              // of a tile
constexpr int kRowLanes = kThreads / kWarp;  // rows that a block reads side by side
constexpr int kRowsAtOnce = 4;               // rows of one thread on their way at a time
constexpr Index kLeastRows = 256;            // of a tile in which numbers are gathered
constexpr Index kMostChunks = 256;

// One thread's place in a tile.
struct Tile {
  Index col, first_row, end_row, chunk;
  bool inside;  // the column exists
  __device__ int row_lane() const { return threadIdx.x / kColumns; }
  __device__ Index rows() const { return end_row - first_row; }
};

struct Tiles {
  Index rows, cols, chunk_rows, chunks, column_blocks;

  Tiles(Index r, Index c, Index rows_per_chunk)
      : rows(r),
        cols(c),
        chunk_rows(rows_per_chunk),
        chunks(divide_up(r, rows_per_chunk)),
        column_blocks(divide_up(c, kColumns)) {}

  unsigned blocks() const { return unsigned(chunks * column_blocks); }

  __device__ Tile mine() const {
    const Index chunk = blockIdx.x / column_blocks;
    const Index col = blockIdx.x % column_blocks * kColumns + threadIdx.x % kColumns;
    const Index row = chunk * chunk_rows;
    return {col, row, smaller(rows, row + chunk_rows), chunk, col < cols};
  }
};

// Tiles for gathering: at most kMostChunks of them below each other.
inline Tiles gathering_tiles(Index rows, Index cols) {
  Index chunk_rows = kLeastRows;
  while (divide_up(rows, chunk_rows) > kMostChunks) chunk_rows *= 2;
  return {rows, cols, chunk_rows};
}

// Tiles for applying what is known of each column.
inline Tiles applying_tiles(Index rows, Index cols) {
  return {rows, cols, kRowLanes * kRowsAtOnce};
}

// body(first row, rows) for what falls to this thread: rows kRowLanes apart, kRowsAtOnce at most.
template <class Body>
__device__ void for_row_groups(const Tile& tile, Body body) {
  if (!tile.inside) return;
#pragma unroll 1
  for (Index row = tile.first_row + tile.row_lane(); row < tile.end_row;
       row += kRowLanes * kRowsAtOnce) {
    body(row, int(smaller(divide_up(tile.end_row - row, kRowLanes), kRowsAtOnce)));
  }
}

// Combines what the threads of a column hold; the first of them returns the result.
template <class V, class Combine>
__device__ V reduce_row_lanes(V value, Combine combine) {
  __shared__ V held[kRowLanes][kColumns];
  const int lane = threadIdx.x / kColumns, col = threadIdx.x % kColumns;
  __syncthreads();  // the last reduction has been read
  held[lane][col] = value;
  __syncthreads();
  for (int half = kRowLanes / 2; half > 0; half /= 2) {
    if (lane < half) held[lane][col] = combine(held[lane][col], held[lane + half][col]);
    __syncthreads();
  }
  return held[0][col];
}

// Two sums of a column.
template <class T>
struct PairOfSums {
  T dy, product;
};

struct AddPairs {
  template <class T>
  __device__ PairOfSums<T> operator()(PairOfSums<T> a, PairOfSums<T> b) const {
    return {a.dy + b.dy, a.product + b.product};
  }
};

// The sums of a column's chunks, in order.
template <class T>
__device__ PairOfSums<T> sum_chunks(const PairOfSums<T>* partial, Index chunks, Index cols,
                                    Index col) {
  PairOfSums<T> all = {};
  for (Index c = 0; c < chunks; ++c) all = AddPairs()(all, partial[c * cols + col]);
  return all;
}

// A number that may be missing: gamma or beta.
template <class T>
__device__ T load_or(const void* p, Index i, double missing) {
  return p != nullptr ? static_cast<const T*>(p)[i] : T(missing);
}

// A gradient that may not be wanted: dgamma or dbeta.
template <class T>
__device__ void store_gradient(const NormBackward& op, void* p, T value, Index i) {
  if (p == nullptr) return;
  T* gradient = static_cast<T*>(p) + i;
  *gradient = op.accumulate_parameters ? *gradient + value : value;
}

}  // namespace fusednn::cuda
