// SPDX-License-Identifier: Apache-2.0
// Products that tiles compute badly, because c is a column or has few rows.
//
// Where b is a row in memory beside the rows of a (forward into a single output), and where few rows
// meet a transposed b (the gradient of the input of a small batch), an element is a dot product: its
// sum over k runs in as many lanes as a vector has, which are then added up as a tree. No packing.
// Where a is transposed (the gradient of the weights of a single output), cᵀ = bᵀ aᵀ is a product
// with a single row.
#pragma once

#include "cpu/kernels/gemm.h"
#include "cpu/kernels/gemm_epilogue.h"

namespace fusednn::FNN_ISA {

template <class T>
bool is_column(const Product<T>& p) {
  return p.n == 1 && p.a_row != 1 && p.a_k == 1 && p.b_k == 1 && !p.accumulate &&
         p.relu_saved == nullptr && p.column_sums == nullptr;
}

// More rows pay for transposing b.
constexpr Index kFewRows = 4;

template <class T>
bool has_few_rows(const Product<T>& p) {
  return p.m <= kFewRows && p.a_k == 1 && p.b_k == 1 && p.b_col != 1 && p.bias == nullptr &&
         !p.relu && p.column_sums == nullptr;
}

template <class T>
bool is_transposed_row(const Product<T>& p) {
  return p.n == 1 && p.m > 1 && p.a_row == 1 && p.c_row == 1 && p.bias == nullptr && !p.relu &&
         p.relu_saved == nullptr && p.finish == nullptr;
}

// The same product with a single row. Without the column sums, which become a sum over a.
template <class T>
Product<T> as_row(const Product<T>& p) {
  Product<T> row;
  row.m = 1;
  row.n = p.m;
  row.k = p.k;
  row.a = p.b;
  row.a_row = 1;
  row.a_k = p.b_k;
  row.b = p.a;
  row.b_k = p.a_k;
  row.c = p.c;
  row.c_row = p.m;
  row.accumulate = p.accumulate;
  return row;
}

// Lane i becomes the sum of the lanes of rows[i], for each i over the same tree.
template <int H, class T>
FNN_HD void sum_rows(Vec<T> (&rows)[Vec<T>::size]) {
#pragma GCC unroll 16
  for (int i = 0; i < H; ++i) {
    exchange<H>(rows[i], rows[i + H], typename IndicesUpTo<Vec<T>::size>::Type{});
    rows[i] = rows[i] + rows[i + H];
  }
  if constexpr (H > 1) sum_rows<H / 2>(rows);
}

// Lane r is the dot product of row r of a with b. Lanes beyond `rows` repeat the last row.
template <class T>
FNN_HD Vec<T> dots(const T* a, Index a_row, int rows, const T* b, Index depth) {
  using W = Vec<T>;
  const T* row[W::size];
  W sums[W::size];
#pragma GCC unroll 16
  for (int r = 0; r < W::size; ++r) {
    row[r] = a + (r < rows ? r : rows - 1) * a_row;
    sums[r] = W(T(0));
  }
  Index k = 0;
  for (; k + W::size <= depth; k += W::size) {
    const W x = W::load(b + k);
#pragma GCC unroll 16
    for (int r = 0; r < W::size; ++r) sums[r] = fma(W::load(row[r] + k), x, sums[r]);
  }
  if (k < depth) {
    const int lanes = static_cast<int>(depth - k);
    const W x = W::load(b + k, lanes);
#pragma GCC unroll 16
    for (int r = 0; r < W::size; ++r) sums[r] = fma(W::load(row[r] + k, lanes), x, sums[r]);
  }
  sum_rows<W::size / 2>(sums);
  return sums[0];
}

// body(first, count) for this thread's share of n elements, as many at a time as there are lanes.
template <class T, class Body>
FNN_HD void for_groups(Index n, const cpu::Context& context, Body body) {
  constexpr Index size = Vec<T>::size;
  const cpu::Range groups = cpu::share((n + size - 1) / size, context);
  for (Index i = groups.begin * size; i < n && i < groups.end * size; i += size) {
    body(i, static_cast<int>(n - i < size ? n - i : size));
  }
}

template <class T>
void multiply_column(const Product<T>& p, const cpu::Context& context) {
  using W = Vec<T>;
  for_groups<T>(p.m, context, [&](Index row, int rows) {
    W sum = dots(p.a + row * p.a_row, p.a_row, rows, p.b, p.k);
    if (p.bias != nullptr) sum = sum + W(*p.bias);
    if (p.relu) sum = rules::Relu::forward<W>(sum, nullptr);
    T* c = p.c + row * p.c_row;
    if (p.c_row == 1) {
      sum.store(c, rows);
    } else {
      for (int r = 0; r < rows; ++r) c[r * p.c_row] = sum[r];
    }
    if (p.finish != nullptr) p.finish(p.state, {c, p.c_row, row, 0, rows, 1});
  });
}

template <class T>
void multiply_few_rows(const Product<T>& p, const cpu::Context& context) {
  using W = Vec<T>;
  const bool apart = p.finish != nullptr && p.accumulate;
  for_groups<T>(p.n, context, [&](Index col, int cols) {
    for (Index row = 0; row < p.m; ++row) {
      W sum = dots(p.b + col * p.b_col, p.b_col, cols, p.a + row * p.a_row, p.k);
      T scratch[W::size];
      T* c = apart ? scratch : p.c + row * p.c_row + col;
      if (p.accumulate && !apart) sum = W::load(c, cols) + sum;
      if (p.relu_saved != nullptr) {
        const W saved = W::load(p.relu_saved + row * p.saved_row + col, cols);
        sum = sum * rules::Relu::derivative<W>(saved, nullptr);
      }
      sum.store(c, cols);
      if (p.finish != nullptr) p.finish(p.state, {c, p.c_row, row, col, 1, cols});
    }
  });
}

}  // namespace fusednn::FNN_ISA
