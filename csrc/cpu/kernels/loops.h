// SPDX-License-Identifier: Apache-2.0
// What most kernels are made of: a share of the elements, a loop over them in lanes, the rows of a
// matrix, the hyper-parameters of a rule as lanes, and a table with one kernel per rule.
#pragma once

#include "core/parameter.h"
#include "cpu/kernels/context.h"
#include "cpu/kernels/simd.h"
#include "engine/backend.h"

// For the body of for_lanes(), which is a lambda.
#define FNN_INLINE __attribute__((always_inline))

namespace fusednn::FNN_ISA {

// This thread's share of n adjacent elements, in whole cache lines.
template <class T>
FNN_HD cpu::Range share_lines(Index n, const cpu::Context& context) {
  constexpr Index line = 64 / sizeof(T);
  const cpu::Range lines = cpu::share((n + line - 1) / line, context);
  const Index end = lines.end * line;
  return {lines.begin * line, end < n ? end : n};
}

// body(i, lanes) for every vector of elements in [begin, end). Only the last one may be short.
template <class V, class Body>
FNN_HD void for_lanes(Index begin, Index end, Body body) {
  Index i = begin;
  for (; i + V::size <= end; i += V::size) body(i, V::size);
  if (i < end) body(i, int(end - i));
}

// combine(..., f(j, lanes)) along [0, n), in four strands so that one need not wait for the last, which
// merge() brings together.
template <class V, class F, class Combine, class Merge>
FNN_HD V over_row(Index n, V start, F f, Combine combine, Merge merge) {
  V strand[4] = {start, start, start, start};
  Index j = 0;
  for (; j + 4 * V::size <= n; j += 4 * V::size) {
    for (int k = 0; k < 4; ++k) strand[k] = combine(strand[k], f(j + k * V::size, V::size));
  }
  for_lanes<V>(j, n,
               [&](Index i, int lanes) FNN_INLINE { strand[0] = combine(strand[0], f(i, lanes)); });
  return merge(merge(strand[0], strand[1]), merge(strand[2], strand[3]));
}
template <class V, class F, class Combine>
FNN_HD V over_row(Index n, V start, F f, Combine combine) {
  return over_row(n, start, f, combine, combine);
}

// v in the first lanes, `other` in the rest.
template <class V>
FNN_HD V first(int lanes, V v, V other) {
  return lanes == V::size ? v : select(iota<V>() < V(lanes), v, other);
}

// The first element of row i.
template <class T>
FNN_HD const T* row_of(const ConstMatrix& m, Index i) {
  return static_cast<const T*>(m.data) + i * m.stride;
}
template <class T>
FNN_HD T* row_of(const Matrix& m, Index i) {
  return static_cast<T*>(m.data) + i * m.stride;
}

template <class V>
struct ParameterLanes {
  V list[kMaxParameters];
  FNN_HD explicit ParameterLanes(const double* parameters) {
    for (int i = 0; i < kMaxParameters; ++i) list[i] = V(parameters[i]);
  }
};

template <class Op, int N>
struct RuleTable {
  void (*run[N])(const Op&, const cpu::Context&);
};

}  // namespace fusednn::FNN_ISA
