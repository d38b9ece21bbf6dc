// SPDX-License-Identifier: Apache-2.0
// What happens to sums between the registers and c, and the sums of columns that ride along.
#pragma once

#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/simd.h"
#include "cpu/kernels/simd_math.h"
#include "rules/activations.h"

namespace fusednn::FNN_ISA {

// Where the sums of a tile go, and how. The commonest activation and its derivative are applied on
// the way; others need a finish of their own.
template <class T>
struct Ending {
  T* c = nullptr;
  Index c_stride = 0;
  int lanes = 0;            // in the last vector of a row
  bool add = false;         // to what c holds
  const T* bias = nullptr;  // null: none
  bool relu = false;
  const T* relu_saved = nullptr;  // null: no derivative
  Index saved_stride = 0;
};

// The bias of V vectors, zeros where there is none.
template <class T, int V>
FNN_HD void load_bias(const Ending<T>& to, Vec<T> (&bias)[V]) {
  using W = Vec<T>;
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) bias[v] = W(T(0));
  if (to.bias == nullptr) return;
#pragma GCC unroll 16
  for (int v = 0; v < V - 1; ++v) bias[v] = W::load(to.bias + v * W::size);
  bias[V - 1] = W::load(to.bias + (V - 1) * W::size, to.lanes);
}

// Rows `first` to `first + R` of the tile.
template <class T, int R, int V>
FNN_HD void store_sums(const Ending<T>& to, Index first, const Vec<T> (&bias)[V],
                       Vec<T> (&sum)[R][V]) {
  using W = Vec<T>;
  const int lanes = to.lanes;
  T* const c0 = to.c + first * to.c_stride;
  if (to.add) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T* c = c0 + r * to.c_stride;
#pragma GCC unroll 16
      for (int v = 0; v < V - 1; ++v) sum[r][v] = W::load(c + v * W::size) + sum[r][v];
      sum[r][V - 1] = W::load(c + (V - 1) * W::size, lanes) + sum[r][V - 1];
    }
  }
  if (to.bias != nullptr) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + bias[v];
    }
  }
  if (to.relu) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = rules::Relu::forward<W>(sum[r][v], nullptr);
    }
  }
  if (to.relu_saved != nullptr) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T* saved = to.relu_saved + (first + r) * to.saved_stride;
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        const W y = W::load(saved + v * W::size, v < V - 1 ? W::size : lanes);
        sum[r][v] = sum[r][v] * rules::Relu::derivative<W>(y, nullptr);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    T* c = c0 + r * to.c_stride;
#pragma GCC unroll 16
    for (int v = 0; v < V - 1; ++v) sum[r][v].store(c + v * W::size);
    sum[r][V - 1].store(c + (V - 1) * W::size, lanes);
  }
}

// sums[j] (+)= the sum of column j of b.
template <class T>
void add_column_sums(Source<T> b, Index depth, Index cols, bool add, T* sums) {
  using W = Vec<T>;
  for (Index j = 0; j < cols; j += W::size) {
    const int lanes = cols - j < W::size ? static_cast<int>(cols - j) : W::size;
    // Four sums in flight, because one addition waits for the last.
    W s[4] = {W(T(0)), W(T(0)), W(T(0)), W(T(0))};
    const T* x = b.data + j;
    Index k = 0;
    for (; k + 4 <= depth; k += 4) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) s[u] = s[u] + W::load(x + (k + u) * b.stride, lanes);
    }
    for (; k < depth; ++k) s[0] = s[0] + W::load(x + k * b.stride, lanes);
    W total = (s[0] + s[1]) + (s[2] + s[3]);
    if (add) total = W::load(sums + j, lanes) + total;
    total.store(sums + j, lanes);
  }
}

// The same of a single column.
template <class T>
void add_column_sum(Source<T> b, Index depth, bool add, T* sum) {
  T s[4] = {};
  Index k = 0;
  for (; k + 4 <= depth; k += 4) {
    for (int u = 0; u < 4; ++u) s[u] += b.data[(k + u) * b.stride];
  }
  for (; k < depth; ++k) s[0] += b.data[k * b.stride];
  const T total = (s[0] + s[1]) + (s[2] + s[3]);
  *sum = add ? *sum + total : total;
}

}  // namespace fusednn::FNN_ISA
