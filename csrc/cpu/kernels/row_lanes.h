// SPDX-License-Identifier: Apache-2.0
// What kernels do that reduce each row of a matrix to a number: they take a block of rows at a time.
// The partial results of all rows, a vector for each, become one vector that has a lane for each row
// with a third of the shuffles that row after row would take, no row waits for the one before, and
// logarithms and divisions are taken for a vector of rows. A row's result does not depend on its block.
#pragma once

#include "cpu/kernels/streams.h"

namespace fusednn::FNN_ISA {

// What a block keeps from one pass over its rows to the next stays in the first-level cache.
constexpr Index kBlockBytes = 32 << 10;

// The length of a row, filled up to whole vectors.
template <class V>
FNN_HD Index padded(Index cols) {
  return (cols + V::size - 1) / V::size * V::size;
}

template <class V>
FNN_HD Index rows_per_block(Index cols) {
  const Index fit = kBlockBytes / (padded<V>(cols) * Index(sizeof(typename V::Scalar)) + 1);
  return fit < 1 ? 1 : (fit < V::size ? fit : V::size);
}

// body(first row, rows) for all blocks of this thread's share of the rows.
template <class V, class Body>
FNN_HD void for_row_blocks(Index rows, Index cols, const cpu::Context& context, Body body) {
  const cpu::Range mine = cpu::share(rows, context);
  const Index step = rows_per_block<V>(cols);
  for (Index row = mine.begin; row < mine.end; row += step) {
    const Index left = mine.end - row;
    body(row, int(left < step ? left : step));
  }
}

// Of the workspace, for each thread: room for a row that is too long for a block, where the result goes
// around the caches and so cannot be the place where it waits.
template <class V>
FNN_HD size_t long_row_bytes(Index cols, bool streams) {
  const size_t bytes = sizeof(typename V::Scalar) * static_cast<size_t>(padded<V>(cols));
  return streams && bytes > size_t(kBlockBytes) ? bytes : 0;
}
template <class V>
FNN_HD typename V::Scalar* long_row(const cpu::Context& context, Index cols, bool streams) {
  const size_t bytes = long_row_bytes<V>(cols, streams);
  if (bytes == 0) return nullptr;
  return reinterpret_cast<typename V::Scalar*>(context.workspace + bytes * size_t(context.rank));
}

// A block of rows between two passes: in a place of its own or, where the rows are too long for that,
// in the one given or where the result will go. A row's own place ends with a whole vector. To read
// soon after a part of a vector was written next to it is slow: the processor waits until that has
// reached the cache.
template <class V>
class KeptRows {
 public:
  using T = typename V::Scalar;
  FNN_HD KeptRows(const Matrix& result, Index begin, Index cols, T* long_row)
      : own_(long_row != nullptr || padded<V>(cols) * Index(sizeof(T)) <= kBlockBytes),
        rows_(long_row != nullptr ? long_row
              : own_              ? place_
                                  : row_of<T>(result, begin)),
        stride_(own_ ? padded<V>(cols) : result.stride) {}

  FNN_HD V load(int row, Index j, int lanes) const {
    return V::load(rows_ + row * stride_ + j, own_ ? V::size : lanes);
  }
  FNN_HD void store(V v, int row, Index j, int lanes) {
    v.store(rows_ + row * stride_ + j, own_ ? V::size : lanes);
  }

 private:
  alignas(64) T place_[kBlockBytes / sizeof(T)];
  bool own_;
  T* rows_;
  Index stride_;
};

// One number per row of a block.
template <class V>
struct RowLanes {
  typename V::Scalar lane[V::size] = {};
  RowLanes() = default;
  FNN_HD explicit RowLanes(V v) { v.store(lane); }
  FNN_HD V load() const { return V::load(lane); }
  FNN_HD V operator[](int row) const { return V(double(lane[row])); }
};

// Half h of every block of N lanes, the blocks of a and b in turns: a's first, b's first, a's second...
template <int N, int H, class T, int... I>
FNN_HD Vec<T> halves(Vec<T> a, Vec<T> b, Indices<I...>) {
  constexpr int half = N / 2;
  return Vec<T>(__builtin_shufflevector(
      a.raw, b.raw, (I / half % 2 * Vec<T>::size + I / half / 2 * N + H * half + I % half)...));
}

template <int N, class V, class Combine>
FNN_HD V combine_blocks(V* parts, Combine combine) {
  using All = typename IndicesUpTo<V::size>::Type;
  for (int k = 0; k < N / 2; ++k) {
    const V a = parts[k], b = parts[k + N / 2];
    parts[k] = combine(halves<N, 0>(a, b, All{}), halves<N, 1>(a, b, All{}));
  }
  if constexpr (N > 2) return combine_blocks<N / 2>(parts, combine);
  return parts[0];
}

// Lane r of the result combines all lanes of parts[r], over the same tree as sum() and max_of().
template <class V, class Combine>
FNN_HD V combine_rows(V (&parts)[V::size], Combine combine) {
  return combine_blocks<V::size>(parts, combine);
}

template <class V>
FNN_HD V sum_rows(V (&parts)[V::size]) {
  return combine_rows(parts, [](V a, V b) FNN_INLINE { return a + b; });
}

template <class V>
FNN_HD V max_rows(V (&parts)[V::size]) {
  return combine_rows(parts, [](V a, V b) FNN_INLINE { return max(a, b); });
}

// The greatest of each lane along a row; -infinity where there is nothing.
template <class V, class T>
FNN_HD V greatest_lanes(const T* x, Index cols) {
  const V lowest(-kInfinity);
  return over_row<V>(
      cols, lowest,
      [&](Index j, int lanes) FNN_INLINE { return first(lanes, V::load(x + j, lanes), lowest); },
      [](V a, V b) FNN_INLINE { return max(b, a); });
}

}  // namespace fusednn::FNN_ISA
