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
#include "cpu/kernels/gemm_micro.h"

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

// Sums in flight: enough to hide the latency of FMA, and to use a loaded row more than once.
constexpr int kDotSums = kVectorRegisters / 2;
// Rows of b at a time. More are too many streams of memory, but where they are short, all sums of as
// many as there are lanes stay in registers.
constexpr int dot_columns(int rows) { return rows == 1 ? 8 : kDotSums / (rows == 2 ? 2 : 4); }
constexpr Index kShortVectors = 4;
constexpr Index kDotNearBytes = 512 << 10;  // of b, in the second-level cache

// sums[r][j] = the lanes whose sum is the dot product of row r of a with row j of b, for C rows of b.
// Rows of b beyond `cols` repeat the last one.
template <class T, int R, int C>
FNN_HD void dot_lanes(Source<T> a, Source<T> b, int cols, Index depth, Vec<T>* sums) {
  using W = Vec<T>;
  W sum[R][C];
  const T* row[C];
#pragma GCC unroll 16
  for (int j = 0; j < C; ++j) {
    row[j] = b.data + (j < cols ? j : cols - 1) * b.stride;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r][j] = W(T(0));
  }
  const auto step = [&](Index k, auto load) __attribute__((always_inline)) {
    W x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = load(a.data + r * a.stride + k);
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) {
      const W y = load(row[j] + k);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r][j] = fma(y, x[r], sum[r][j]);
    }
  };
  Index k = 0;
  for (; k + W::size <= depth; k += W::size) {
    step(k, [](const T* from) __attribute__((always_inline)) { return W::load(from); });
  }
  if (k < depth) {
    const int lanes = static_cast<int>(depth - k);
    step(k, [&](const T* from) __attribute__((always_inline)) { return W::load(from, lanes); });
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) sums[r * W::size + j] = sum[r][j];
  }
}

// Lane j of result[r] is the dot product of row r of a with row j of b, for as many rows of b as there
// are lanes, C of them at a time. Lanes beyond `cols` mean nothing.
template <class T, int R, int C>
FNN_HD void dots(Source<T> a, Source<T> b, int cols, Index depth, Vec<T> (&result)[R]) {
  using W = Vec<T>;
  constexpr int kColumns = C < W::size ? C : W::size;
  W sums[R][W::size];
  for (int j = 0; j < W::size; j += kColumns) {
    if (j == 0 || j < cols) {
      dot_lanes<T, R, kColumns>(a, {b.data + j * b.stride, b.stride}, cols - j, depth, &sums[0][j]);
      continue;
    }
    for (int r = 0; r < R; ++r) {
      for (int i = j; i < j + kColumns; ++i) sums[r][i] = W(T(0));
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    sum_rows<W::size / 2>(sums[r]);
    result[r] = sums[r][0];
  }
}

// The same with the number of columns that is best for the depth.
template <class T, int R>
FNN_HD void dots(Source<T> a, Source<T> b, int cols, Index depth, Vec<T> (&result)[R]) {
  if (R == 1 && depth <= kShortVectors * Vec<T>::size) {
    return dots<T, R, Vec<T>::size>(a, b, cols, depth, result);
  }
  dots<T, R, dot_columns(R)>(a, b, cols, depth, result);
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
    W sums[1];
    dots<T, 1>({p.b, 0}, {p.a + row * p.a_row, p.a_row}, rows, p.k, sums);
    W sum = sums[0];
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

// R rows of c from `first` on, `cols` columns.
template <class T, int R>
FNN_HD void multiply_rows(const Product<T>& p, Index first, Index col, int cols) {
  using W = Vec<T>;
  const bool apart = p.finish != nullptr && p.accumulate;
  W sums[R];
  dots<T, R>({p.a + first * p.a_row, p.a_row}, {p.b + col * p.b_col, p.b_col}, cols, p.k, sums);
  for (int r = 0; r < R; ++r) {
    const Index row = first + r;
    W sum = sums[r];
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
}

// Whether several rows at a time are worth it: not where the sums are short, nor, with few registers,
// where all is near.
template <class T>
bool pays_together(const Product<T>& p) {
  const bool far = p.n * p.k * Index(sizeof(T)) > kDotNearBytes;
  return p.k > kShortVectors * Vec<T>::size && (far || kVectorRegisters >= 32);
}

template <class T>
void multiply_few_rows(const Product<T>& p, const cpu::Context& context) {
  static_assert(kFewRows == 4, "every number of rows has its own way");
  const Index together = pays_together(p) ? p.m : 1;
  for_groups<T>(p.n, context, [&](Index col, int cols) {
    if (together == 4) return multiply_rows<T, 4>(p, 0, col, cols);
    if (together == 3) return multiply_rows<T, 3>(p, 0, col, cols);
    if (together == 2) return multiply_rows<T, 2>(p, 0, col, cols);
    for (Index row = 0; row < p.m; ++row) multiply_rows<T, 1>(p, row, col, cols);
  });
}

}  // namespace fusednn::FNN_ISA
