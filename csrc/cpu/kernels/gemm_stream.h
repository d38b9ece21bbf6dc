// SPDX-License-Identifier: Apache-2.0
// Products of very few rows with a large matrix, where reading b is all the time there is. b is read in
// the order of memory, a few of its rows at a time, and the sums lie in the first-level cache. They are
// added up in the same order as in a tile.
#pragma once

#include "cpu/kernels/gemm_dots.h"
#include "cpu/kernels/gemm_plan.h"

namespace fusednn::FNN_ISA {

constexpr Index kStreamRows = 2;
constexpr Index kStreamBytes = 512 << 10;  // a smaller b is in the second-level cache
constexpr Index kStreamColumns = 512;      // of which the sums are kept at a time

template <class T>
bool is_stream(const Product<T>& p) {
  return p.m <= kStreamRows && p.a_k == 1 && p.b_col == 1 && !p.accumulate &&
         p.relu_saved == nullptr && p.column_sums == nullptr && p.n >= 8 * Vec<T>::size &&
         p.n * p.k * Index(sizeof(T)) >= kStreamBytes;
}

// sums += U steps of k, for R rows of `lanes` columns.
template <class T, int R, int U>
FNN_HD void stream_steps(const Product<T>& p, Index k, Index col, Index cols, T* sums, bool first) {
  using W = Vec<T>;
  W a[R][U];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) a[r][u] = W(p.a[r * p.a_row + k + u]);
  }
  const T* b = p.b + k * p.b_k + col;
  for (Index j = 0; j < cols; j += W::size) {
    const int lanes = cols - j < W::size ? static_cast<int>(cols - j) : W::size;
    W s[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) s[r] = first ? W(T(0)) : W::load(sums + r * kStreamColumns + j);
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) {
      const W x = W::load(b + u * p.b_k + j, lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) s[r] = fma(a[r][u], x, s[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) s[r].store(sums + r * kStreamColumns + j);
  }
}

template <class T, int R>
void stream_columns(const Product<T>& p, const Split& chunks, Index col, Index cols) {
  using W = Vec<T>;
  constexpr int kSteps = 8 / R;
  alignas(kAlign) T sums[R * kStreamColumns];
  for (Index chunk = 0; chunk < chunks.pieces; ++chunk) {
    const Index begin = chunks.begin(chunk), end = begin + chunks.length(chunk);
    Index k = begin;
    for (; k + kSteps <= end; k += kSteps) {
      stream_steps<T, R, kSteps>(p, k, col, cols, sums, k == begin);
    }
    for (; k < end; ++k) stream_steps<T, R, 1>(p, k, col, cols, sums, k == begin);

    const bool last = chunk == chunks.pieces - 1;
    for (int r = 0; r < R; ++r) {
      T* c = p.c + r * p.c_row + col;
      for (Index j = 0; j < cols; j += W::size) {
        const int lanes = cols - j < W::size ? static_cast<int>(cols - j) : W::size;
        W sum = W::load(sums + r * kStreamColumns + j);
        if (chunk > 0) sum = W::load(c + j, lanes) + sum;
        if (last && p.bias != nullptr) sum = sum + W::load(p.bias + col + j, lanes);
        if (last && p.relu) sum = rules::Relu::forward<W>(sum, nullptr);
        sum.store(c + j, lanes);
      }
    }
  }
  if (p.finish != nullptr) p.finish(p.state, {p.c + col, p.c_row, 0, col, R, cols});
}

template <class T>
void multiply_stream(const Product<T>& p, const Context& context) {
  const Split chunks(p.k, chunks_of(p.k));
  constexpr Index size = Vec<T>::size;
  const Range mine = cpu::share(ceil_div(p.n, size), context);
  for (Index col = mine.begin * size; col < mine.end * size && col < p.n; col += kStreamColumns) {
    const Index cols = smaller(kStreamColumns, smaller(mine.end * size, p.n) - col);
    if (p.m == 1) {
      stream_columns<T, 1>(p, chunks, col, cols);
    } else {
      stream_columns<T, 2>(p, chunks, col, cols);
    }
  }
}

}  // namespace fusednn::FNN_ISA
