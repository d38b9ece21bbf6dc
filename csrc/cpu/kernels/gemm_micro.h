// SPDX-License-Identifier: Apache-2.0
// The innermost part of a matrix product: a tile of R rows and V vectors of c, held in registers
// while k runs. Edges are smaller tiles and, in the last vector, fewer lanes; never scalar code.
#pragma once

#include "cpu/kernels/gemm_epilogue.h"
#include "cpu/kernels/simd.h"

namespace fusednn::FNN_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

// Rows of the largest tile: with two vectors a row, accumulators + two vectors of b + one of a must
// fit into the registers. Without FMA instructions the product needs a register of its own.
#if defined(__AVX512F__)
constexpr int kTileRows = 14;
#elif defined(__aarch64__)
constexpr int kTileRows = 8;
#elif defined(__FMA__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif
constexpr int kTileVectors = 2;

// Smaller tiles belong to small products.
constexpr int kAheadRows = (kTileRows + 1) / 2;
constexpr Index kLine = 64;

// With few rows in all, wider tiles keep enough independent sums in flight to hide the latency of FMA.
constexpr int kMaxTileVectors = kVectorRegisters / 4;
constexpr int widest_tile(Index rows) {
  if (rows == 1) return kMaxTileVectors;
  return rows <= (kVectorRegisters == 32 ? 4 : 3) ? 4 : kTileVectors;
}

// Loading part of a vector is free with AVX-512 and slow elsewhere; there, b is packed with zeros
// behind a last vector that is not full.
constexpr bool kPartialLoadsAreFree = vector_bytes == 64;

// Lines of memory that will be read soon: `count` of them, in rows of `lines` that lie side by side.
// They are asked for while tiles are computed, one per step of k, which hides the way from memory.
struct Ahead {
  const char* at = nullptr;
  Index count = 0;
  Index lines = 0;  // in a row
  Index left = 0;   // of this row
  Index jump = 0;   // bytes from behind a row to the next
};

template <class T>
struct Tile {
  Index k;
  const T* a;
  Index a_stride;  // between rows, or between steps of k where rows are adjacent
  const T* b;
  Index b_stride;  // between steps of k
  Ending<T> to;
  bool far;     // ask for c, and what its epilogue reads, before they are needed
  bool resume;  // c holds the sum over earlier k: go on with it
  Ahead* ahead = nullptr;
  Index ahead_lines = 0;  // to ask for in this tile
  // Where a and b are packed to on the way, for the tiles that come later; null: not.
  T* copy_a = nullptr;
  T* copy_b = nullptr;
};

// Steps of k that a tile which copies asks for in advance. What it reads comes from far away, and where
// rows are a page apart it would not stay in the second-level cache for longer.
constexpr Index kCopySteps = 24;

// With `Copies` the rows of a are adjacent, and whatever is read of a and b is written as it is packed.
template <class T, int R, int V, bool AdjacentRows, bool Copies = false>
void compute_tile(const Tile<T>& tile) {
  using W = Vec<T>;
  static_assert(AdjacentRows || !Copies, "a row of a is copied as a vector");
  const int lanes = tile.to.lanes;
  W sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v] = W(T(0));
  }
  if (tile.resume) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T* c = tile.to.c + r * tile.to.c_stride;
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        sum[r][v] = W::load(c + v * W::size, v < V - 1 ? W::size : lanes);
      }
    }
  }

  const T* a = tile.a;
  const T* b = tile.b;
  const Index a_stride = tile.a_stride;
  const Index b_stride = tile.b_stride;
  // What need not be copied goes nowhere: cheaper than to ask at every step.
  alignas(kLine) T nowhere[Copies ? (R > V * W::size ? R : V * W::size) : 1];
  T* copy_a = tile.copy_a != nullptr ? tile.copy_a : nowhere;
  T* copy_b = tile.copy_b != nullptr ? tile.copy_b : nowhere;
  const Index copy_a_step = tile.copy_a != nullptr ? R : 0;
  const Index copy_b_step = tile.copy_b != nullptr ? kTileVectors * W::size : 0;
  if (tile.far) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T* c = tile.to.c + r * tile.to.c_stride;
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) __builtin_prefetch(c + v * W::size, 1, 2);
    }
    if (tile.to.relu_saved != nullptr) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const T* saved = tile.to.relu_saved + r * tile.to.saved_stride;
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) __builtin_prefetch(saved + v * W::size, 0, 2);
      }
    }
  }
  const auto step = [&]() __attribute__((always_inline)) {
    W bs[V];
#pragma GCC unroll 16
    for (int v = 0; v < V - 1; ++v) bs[v] = W::load(b + v * W::size);
    const T* last = b + (V - 1) * W::size;
    if constexpr (kPartialLoadsAreFree) {
      bs[V - 1] = W(native::load_partial(last, lanes));
    } else {
      bs[V - 1] = W::load(last);
    }
    if constexpr (Copies) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        bs[v].store(copy_b + v * W::size);
        __builtin_prefetch(b + kCopySteps * b_stride + v * W::size);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; r += W::size) {
        const int rest = R - r < W::size ? R - r : W::size;
        W(native::load_partial(a + r, rest)).store(copy_a + r, rest);
      }
      __builtin_prefetch(a + kCopySteps * a_stride);
      copy_a += copy_a_step;
      copy_b += copy_b_step;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const W as(AdjacentRows ? a[r] : a[r * a_stride]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = fma(as, bs[v], sum[r][v]);
    }
    a += AdjacentRows ? a_stride : 1;
    b += b_stride;
  };
  Index k = tile.k;
  if constexpr (R >= kAheadRows) {
    Ahead* const ahead = tile.ahead;
    if (ahead != nullptr) {
      Index steps = tile.ahead_lines < ahead->count ? tile.ahead_lines : ahead->count;
      if (steps > k) steps = k;
      ahead->count -= steps;
      k -= steps;
      const char* at = ahead->at;
      Index left = ahead->left;
      const Index lines = ahead->lines, jump = ahead->jump;
      for (; steps > 0; --steps) {
        __builtin_prefetch(at, 0, 2);
        at += kLine;
        // Without a branch, which would be mispredicted at the end of every row.
        const bool next = --left == 0;
        at += next ? jump : 0;
        left = next ? lines : left;
        step();
      }
      ahead->at = at;
      ahead->left = left;
    }
  }
  for (; k > 0; --k) step();

  W bias[V];
  load_bias(tile.to, bias);
  store_sums(tile.to, 0, bias, sum);
}

// ---- every tile that can occur ---------------------------------------------------------------

template <class T>
struct TileTable {
  using Function = void (*)(const Tile<T>&);
  Function of[2][kTileRows][kMaxTileVectors];  // [adjacent rows][rows - 1][vectors - 1]
};

template <class T, int R, int V>
constexpr void fill_tiles(TileTable<T>& table) {
  table.of[0][R - 1][V - 1] = &compute_tile<T, R, V, false>;
  table.of[1][R - 1][V - 1] = &compute_tile<T, R, V, true>;
  if constexpr (V < widest_tile(R)) {
    fill_tiles<T, R, V + 1>(table);
  } else if constexpr (R < kTileRows) {
    fill_tiles<T, R + 1, 1>(table);
  }
}

template <class T>
constexpr TileTable<T> all_tiles() {
  TileTable<T> table{};
  fill_tiles<T, 1, 1>(table);
  return table;
}

template <class T>
constexpr TileTable<T> kTiles = all_tiles<T>();

// ---- tiles that copy -------------------------------------------------------------------------

// Of large products only, and where loading and storing part of a vector is free.
template <class T>
struct CopyingTileTable {
  using Function = void (*)(const Tile<T>&);
  Function of[kTileRows + 1 - kAheadRows][kTileVectors];  // [rows - kAheadRows][vectors - 1]
};

template <class T, int R, int V>
constexpr void fill_copying_tiles(CopyingTileTable<T>& table) {
  table.of[R - kAheadRows][V - 1] = &compute_tile<T, R, V, true, true>;
  if constexpr (V < kTileVectors) {
    fill_copying_tiles<T, R, V + 1>(table);
  } else if constexpr (R < kTileRows) {
    fill_copying_tiles<T, R + 1, 1>(table);
  }
}

template <class T>
constexpr CopyingTileTable<T> all_copying_tiles() {
  CopyingTileTable<T> table{};
  if constexpr (kPartialLoadsAreFree) fill_copying_tiles<T, kAheadRows, 1>(table);
  return table;
}

template <class T>
constexpr CopyingTileTable<T> kCopyingTiles = all_copying_tiles<T>();

}  // namespace fusednn::FNN_ISA
