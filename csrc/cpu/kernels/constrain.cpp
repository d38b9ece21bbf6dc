// SPDX-License-Identifier: Apache-2.0
// Bounds on weights.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"
#include "rules/constraints.h"

namespace fusednn::FNN_ISA {
namespace {

// The columns are treated a vector at a time, from the first row to the last.
template <class T>
void bound_norms(const Constrain& op, const Context& context) {
  using V = Vec<T>;
  const V low(op.low), high(op.high), rate(op.rate);
  T* p = static_cast<T*>(op.parameter);
  const cpu::Range mine = share_lines<T>(op.cols, context);
  for_lanes<V>(mine.begin, mine.end, [&](Index j, int lanes) FNN_INLINE {
    V squares(0);
    for (Index row = 0; row < op.rows; ++row) {
      const V w = V::load(p + row * op.cols + j, lanes);
      squares = fma(w, w, squares);
    }
    const V factor = rules::norm_factor(sqrt(squares), low, high, rate);
    for (Index row = 0; row < op.rows; ++row) {
      T* place = p + row * op.cols + j;
      (V::load(place, lanes) * factor).store(place, lanes);
    }
  });
}

}  // namespace

template <class T>
void run(const Constrain& op, const Context& context) {
  using V = Vec<T>;
  if (op.bound == Constrain::Bound::norm) return bound_norms<T>(op, context);
  T* p = static_cast<T*>(op.parameter);
  const cpu::Range mine = share_lines<T>(op.rows * op.cols, context);
  for_lanes<V>(mine.begin, mine.end, [&](Index i, int lanes) FNN_INLINE {
    rules::not_negative(V::load(p + i, lanes)).store(p + i, lanes);
  });
}

template <class T>
Demand demand(const Constrain& op, int) {
  return {0.1 * sizeof(T) * double(op.rows * op.cols), 0};
}

template void run<float>(const Constrain&, const Context&);
template void run<double>(const Constrain&, const Context&);
template Demand demand<float>(const Constrain&, int);
template Demand demand<double>(const Constrain&, int);

}  // namespace fusednn::FNN_ISA
