// SPDX-License-Identifier: Apache-2.0
// What float32, float64 and bfloat16 products have in common in how they are cut: see gemm_plan.h and
// gemm_bf16.cpp for the rest.
#pragma once

#include "cpu/kernels/gemm.h"
#include "cpu/kernels/gemm_micro.h"

namespace fusednn::FNN_ISA {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
constexpr Index larger(Index a, Index b) { return a > b ? a : b; }

constexpr Index kAlign = 64;
constexpr Index kNearBytes = 1 << 20;  // of c: no more stays in a second-level cache
constexpr Index kLittleDepth = 8;
constexpr Index kMaxBlockRows = 144;
constexpr Index kMaxBlockTiles = kMaxBlockRows / kTileRows;
constexpr Index kPackedBytesB = 8 << 20;  // at a time, in a third-level cache

// [0, total) in `pieces` parts that differ by at most one.
struct Split {
  Index pieces, size, rest;
  // One piece is common in small products, where a division counts.
  Split(Index total, Index n)
      : pieces(n), size(n == 1 ? total : total / n), rest(total - n * size) {}
  Index begin(Index i) const { return i * size + smaller(i, rest); }
  Index length(Index i) const { return size + (i < rest ? 1 : 0); }
};

// A number as a type. There is no library here to take it from.
template <int N>
struct Constant {
  static constexpr int value = N;
};

// f of n as a constant, where n is 1 to Most.
template <int Most, int N = 1, class F>
void with_constant(Index n, F f) {
  if (n == N) return f(Constant<N>());
  if constexpr (N < Most) with_constant<Most, N + 1>(n, f);
}

// What a block of tiles is cut by.
struct BlockLimits {
  Index tile_bytes;   // of a, packed or not, that a tile reads
  Index block_bytes;  // of a that a block may have
  Index little_work;  // so few multiplications are not worth cutting for many threads
};

// The tiles of c's rows in blocks, of which each reads `panels` panels of b.
template <class T>
Split split_into_blocks(const Product<T>& p, Index tiles, Index panels, const BlockLimits& limits) {
  Index block_tiles = limits.block_bytes / (limits.tile_bytes + 1);
  block_tiles = smaller(larger(block_tiles, 2), kMaxBlockTiles);
  // Enough items for many threads, but only where they have something to do.
  while (p.m * p.n * p.k > limits.little_work && block_tiles > 3 &&
         ceil_div(tiles, block_tiles) * panels < 32) {
    block_tiles /= 2;
  }
  // Hardly more than writing c: then along its rows, which is the order in memory.
  if (p.k <= kLittleDepth && p.b_col == 1) block_tiles = 1;
  return Split(tiles, ceil_div(tiles, block_tiles));
}

}  // namespace fusednn::FNN_ISA
