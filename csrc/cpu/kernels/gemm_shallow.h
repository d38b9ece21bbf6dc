// SPDX-License-Identifier: Apache-2.0
// Products over very few k, which are little more than writing c: the gradient of the weights of a
// small batch. c is written in the order of memory, a few rows side by side; what a row is multiplied
// by stays in registers. The sums are those of a tile, in the same order.
#pragma once

#include "cpu/kernels/gemm_cut.h"
#include "cpu/kernels/gemm_epilogue.h"

namespace fusednn::FNN_ISA {

constexpr Index kShallowDepth = 8;
constexpr int kShallowRows = 4;
constexpr Index kShallowBytes = 32 << 10;  // of b, in the first-level cache

template <class T>
bool is_shallow(const Product<T>& p) {
  return p.k >= 1 && p.k <= kShallowDepth && p.a_row == 1 && p.b_col == 1 && p.bias == nullptr &&
         !p.relu && p.relu_saved == nullptr && p.finish == nullptr;
}

// R rows of c over K steps of k, `cols` columns from `col` on.
template <class T, int K, int R>
FNN_HD void shallow_rows_of(const Product<T>& p, Index row, Index col, Index cols) {
  using W = Vec<T>;
  W a[R][K];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) a[r][k] = W(p.a[row + r + k * p.a_k]);
  }
  const T* b = p.b + col;
  T* c = p.c + row * p.c_row + col;
  const auto step = [&](Index j, int lanes) __attribute__((always_inline)) {
    W sum[R];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
      const W x = W::load(b + k * p.b_k + j, lanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r] = fma(a[r][k], x, k == 0 ? W(T(0)) : sum[r]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      T* to = c + r * p.c_row + j;
      if (p.accumulate) sum[r] = W::load(to, lanes) + sum[r];
      sum[r].store(to, lanes);
    }
  };
  const Index full = cols / W::size * W::size;
  for (Index j = 0; j < full; j += W::size) step(j, W::size);
  if (full < cols) step(full, static_cast<int>(cols - full));
}

template <class T, int K>
void multiply_shallow_by(const Product<T>& p, Range rows) {
  constexpr int R = kShallowRows;
  const Index width = kShallowBytes / (K * Index(sizeof(T)));
  for (Index col = 0; col < p.n; col += width) {
    const Index cols = smaller(width, p.n - col);
    Index row = rows.begin;
    for (; row + R <= rows.end; row += R) shallow_rows_of<T, K, R>(p, row, col, cols);
    for (; row < rows.end; ++row) shallow_rows_of<T, K, 1>(p, row, col, cols);
  }
}

template <class T>
void multiply_shallow(const Product<T>& p, const Context& context) {
  if (p.column_sums != nullptr) {
    constexpr Index size = Vec<T>::size;
    const Range mine = cpu::share(ceil_div(p.n, size), context);
    const Index end = smaller(mine.end * size, p.n), col = mine.begin * size;
    if (col < end) {
      add_column_sums<T>({p.b + col, p.b_k}, p.k, end - col, p.accumulate, p.column_sums + col);
    }
  }
  const Range rows = cpu::share(p.m, context);
  with_constant<kShallowDepth>(p.k, [&](auto k) { multiply_shallow_by<T, k.value>(p, rows); });
}

}  // namespace fusednn::FNN_ISA
