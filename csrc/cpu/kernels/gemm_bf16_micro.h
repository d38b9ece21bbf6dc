// SPDX-License-Identifier: Apache-2.0
// The innermost part of a bfloat16 product: a tile of R rows and V vectors of c, held in registers as
// float32 while the pairs of k run by. Then the sums go through memory (the first-level cache) into
// the one function that does the rest, so that there need not be a copy of it for every tile.
#pragma once

#include "cpu/kernels/gemm_bf16_pairs.h"
#include "cpu/kernels/gemm_micro.h"

namespace fusednn::FNN_ISA {

// The rows of a are packed, their number innermost. Either so is b, or its rows are read as they are
// and rounded here, which pays where one tile is all that reads them and rounding is fast.
struct PairTile {
  Index k = 0;  // elements, not pairs
  const uint32_t* a = nullptr;
  const uint32_t* b = nullptr;
  const float* rows = nullptr;
  Index b_stride = 0;     // between pairs, or between rows
  int lanes = 0;          // in the last vector of b
  float* sums = nullptr;  // where they go: row after row
  bool resume = false;    // the sums there are those of the k before
};

// The sums of one pair of k. `pairs(v)` is vector v of b.
template <class Dot, int R, int V, int P = 0, class Pairs>
FNN_HD void add_pair(Vec<float> (&sum)[R][V], const uint32_t* a, Pairs pairs) {
  typename Dot::Part b[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) b[v] = Dot::template part<P>(pairs(v));
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const auto x = Dot::template part<P>(VecU32(a[r]));
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v] = Dot::add_product(sum[r][v], x, b[v]);
  }
  if constexpr (P + 1 < Dot::parts) add_pair<Dot, R, V, P + 1>(sum, a, pairs);
}

template <class Dot, int R, int V, bool Packed>
void compute_pair_tile(const PairTile& work) {
  using W = Vec<float>;
  W sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v] = W(0.0f);
  }
  if (work.resume) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = W::load(work.sums + (r * V + v) * W::size);
    }
  }

  const uint32_t* a = work.a;
  if constexpr (Packed) {
    const uint32_t* b = work.b;
    for (Index pair = pairs_in(work.k); pair > 0; --pair) {
      add_pair<Dot>(sum, a, [&](int v) __attribute__((always_inline)) {
        return VecU32::load(b + v * W::size);
      });
      a += R;
      b += work.b_stride;
    }
  } else {
    const int lanes = work.lanes;
    const float* b = work.rows;
    const Index stride = work.b_stride;
    const auto load = [&](const float* row, int v) __attribute__((always_inline)) {
      if (v < V - 1) return W::load(row + v * W::size);
      return W(native::load_partial(row + v * W::size, lanes));
    };
    for (Index pair = work.k / 2; pair > 0; --pair) {
      add_pair<Dot>(sum, a, [&](int v) __attribute__((always_inline)) {
        return Dot::pair(load(b, v), load(b + stride, v));
      });
      a += R;
      b += 2 * stride;
    }
    if (work.k % 2 != 0) {
      add_pair<Dot>(sum, a, [&](int v) __attribute__((always_inline)) {
        return Dot::pair(load(b, v), W(0.0f));
      });
    }
  }
  float* const sums = work.sums;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v].store(sums + (r * V + v) * W::size);
  }
}

// What happens to the sums of a tile on their way into c.
struct PairSums {
  const float* sums = nullptr;
  Index rows = 0;
  Ending<float> to;
  bool one_bias = false;  // the same for all columns
};

template <int V>
void store_pair_sums(const PairSums& work) {
  using W = Vec<float>;
  W bias[V];
  if (work.one_bias && work.to.bias != nullptr) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) bias[v] = W(*work.to.bias);
  } else {
    load_bias(work.to, bias);
  }
  for (Index r = 0; r < work.rows; ++r) {
    W sum[1][V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[0][v] = W::load(work.sums + (r * V + v) * W::size);
    store_sums(work.to, r, bias, sum);
  }
}

// ---- every tile that can occur ---------------------------------------------------------------

struct PairTileTable {
  using Function = void (*)(const PairTile&);
  Function of[2][kTileRows][kMaxTileVectors];       // [b is packed][rows - 1][vectors - 1]
  void (*store[kMaxTileVectors])(const PairSums&);  // [vectors - 1]
};

template <class Dot, int R, int V>
constexpr void fill_pair_tiles(PairTileTable& table) {
  if constexpr (Dot::rounds_fast) {
    table.of[0][R - 1][V - 1] = &compute_pair_tile<Dot, R, V, false>;
  }
  table.of[1][R - 1][V - 1] = &compute_pair_tile<Dot, R, V, true>;
  table.store[V - 1] = &store_pair_sums<V>;
  if constexpr (V < widest_tile(R)) {
    fill_pair_tiles<Dot, R, V + 1>(table);
  } else if constexpr (R < kTileRows) {
    fill_pair_tiles<Dot, R + 1, 1>(table);
  }
}

template <class Dot>
constexpr PairTileTable all_pair_tiles() {
  PairTileTable table{};
  fill_pair_tiles<Dot, 1, 1>(table);
  return table;
}

template <class Dot>
constexpr PairTileTable kPairTiles = all_pair_tiles<Dot>();

}  // namespace fusednn::FNN_ISA
