// SPDX-License-Identifier: Apache-2.0
// Products beside a narrow layer, which has fewer outputs than a vector has lanes: the gradients of its
// input, a sum over few k, and of its weights, few columns of c. Tiles would spend more time on their
// beginnings and ends than between them, or leave most lanes empty. The sums are those of a tile, in the
// same order.
#pragma once

#include "cpu/kernels/gemm_cut.h"
#include "cpu/kernels/gemm_epilogue.h"

namespace fusednn::FNN_ISA {

// The most steps or columns, and the vectors beside each other for each of them, that the registers can
// hold together with what they are multiplied by.
constexpr Index kNarrow = kVectorRegisters == 32 ? 12 : 8;
constexpr int kNarrowVectors = kVectorRegisters == 32 ? 2 : 1;

// ---- few steps of k ------------------------------------------------------------------------------

// A larger c is better written in the order of memory.
template <class T>
bool has_few_steps(const Product<T>& p) {
  return p.k >= 1 && p.k <= kNarrow && p.a_k == 1 && p.m * p.n * Index(sizeof(T)) <= kNearBytes &&
         p.column_sums == nullptr && !(p.finish != nullptr && p.accumulate);
}

// R rows of c from `row` on, in the columns that b belongs to.
template <class T, int K, int R, int V>
FNN_HD void rows_of_few_steps(const Product<T>& p, Ending<T> to, Index row, Index col,
                              const Vec<T> (&b)[K][V], const Vec<T> (&bias)[V]) {
  using W = Vec<T>;
  const T* a = p.a + row * p.a_row;
  W sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v] = W(T(0));
  }
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const W as(a[r * p.a_row + k]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = fma(as, b[k][v], sum[r][v]);
    }
  }
  to.c = p.c + row * p.c_row + col;
  if (p.relu_saved != nullptr) to.relu_saved = p.relu_saved + row * p.saved_row + col;
  store_sums(to, 0, bias, sum);
}

template <class T, int K, int V>
void columns_of_few_steps(const Product<T>& p, Range rows, Index col, Index cols) {
  using W = Vec<T>;
  constexpr int R = 4;
  alignas(kAlign) T packed[K * V * W::size];
  Ending<T> to;
  to.c_stride = p.c_row;
  to.saved_stride = p.saved_row;
  to.lanes = static_cast<int>(cols - (V - 1) * W::size);
  to.add = p.accumulate;
  to.bias = p.bias != nullptr ? p.bias + col : nullptr;
  to.relu = p.relu;
  const T* from = p.b + col * p.b_col;
  if (p.b_col == 1) {
    pack_straight<T>({from, p.b_k}, K, cols, packed, V * W::size, true);
  } else {
    pack_transposed<T>({from, p.b_col}, cols, K, packed, V * W::size, true);
  }
  W b[K][V], bias[V];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) b[k][v] = W::load(packed + (k * V + v) * W::size);
  }
  load_bias(to, bias);
  Index row = rows.begin;
  for (; row + R <= rows.end; row += R) rows_of_few_steps<T, K, R>(p, to, row, col, b, bias);
  for (; row < rows.end; ++row) rows_of_few_steps<T, K, 1>(p, to, row, col, b, bias);
  if (p.finish == nullptr) return;
  const T* c = p.c + rows.begin * p.c_row + col;
  p.finish(p.state, {c, p.c_row, p.row0 + rows.begin, col, rows.end - rows.begin, cols});
}

template <class T, int K>
void multiply_few_steps_by(const Product<T>& p, Range rows) {
  constexpr int V = kNarrowVectors;
  constexpr Index size = Vec<T>::size;
  Index col = 0;
  for (; col + (V - 1) * size < p.n; col += V * size) {
    columns_of_few_steps<T, K, V>(p, rows, col, smaller(V * size, p.n - col));
  }
  if (col < p.n) columns_of_few_steps<T, K, 1>(p, rows, col, p.n - col);
}

template <class T>
void multiply_few_steps(const Product<T>& p, const Context& context) {
  const Range rows = cpu::share(p.m, context);
  with_constant<kNarrow>(p.k, [&](auto k) { multiply_few_steps_by<T, k.value>(p, rows); });
}

// ---- few columns of c ----------------------------------------------------------------------------

// A sum over more steps than `chunk` has parts.
template <class T>
bool has_few_columns(const Product<T>& p, Index chunk) {
  return p.n <= kNarrow && p.k <= chunk && p.m >= Vec<T>::size && p.a_row == 1 && p.b_col == 1 &&
         p.bias == nullptr && !p.relu && p.relu_saved == nullptr && p.finish == nullptr;
}

// The lanes of V vectors are rows of c here.
template <class T, int N, int V>
FNN_HD void few_columns_of(const Product<T>& p, Index row, int lanes) {
  using W = Vec<T>;
  W sum[V][N];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) sum[v][n] = W(T(0));
  }
  const T* a = p.a + row;
  const T* b = p.b;
  for (Index k = 0; k < p.k; ++k, a += p.a_k, b += p.b_k) {
    W as[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) as[v] = W::load(a + v * W::size, v < V - 1 ? W::size : lanes);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      const W bs(b[n]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[v][n] = fma(as[v], bs, sum[v][n]);
    }
  }
  alignas(kAlign) T column[W::size];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    const int rows = v < V - 1 ? W::size : lanes;
    T* c = p.c + (row + v * W::size) * p.c_row;
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      sum[v][n].store(column);
      for (int i = 0; i < rows; ++i) {
        T& to = c[i * p.c_row + n];
        to = p.accumulate ? to + column[i] : column[i];
      }
    }
  }
}

template <class T, int N>
void multiply_few_columns_by(const Product<T>& p, Range rows) {
  constexpr int V = kNarrowVectors;
  constexpr Index size = Vec<T>::size;
  Index row = rows.begin;
  for (; row + V * size <= rows.end; row += V * size) few_columns_of<T, N, V>(p, row, size);
  for (; row < rows.end; row += size) {
    few_columns_of<T, N, 1>(p, row, static_cast<int>(smaller(size, rows.end - row)));
  }
}

template <class T>
void multiply_few_columns(const Product<T>& p, const Context& context) {
  if (p.column_sums != nullptr && context.rank == context.size - 1) {
    add_column_sums<T>({p.b, p.b_k}, p.k, p.n, p.accumulate, p.column_sums);
  }
  const Range rows = cpu::share(p.m, context);
  with_constant<kNarrow>(p.n, [&](auto n) { multiply_few_columns_by<T, n.value>(p, rows); });
}

}  // namespace fusednn::FNN_ISA
