// SPDX-License-Identifier: Apache-2.0
// Softmax and log-softmax over the columns of each row, with the greatest element taken off first so
// that nothing overflows. Columns at -infinity get probability 0; a row of nothing else is NaN.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

// y = exp(x - m) / S with S = sum exp(x - m). y may be x: an element is read before it is written.
template <class V, class T>
void softmax_row(const T* x, T* y, Index cols, V m) {
  V total(0);
  for_lanes<V>(0, cols, [&](Index j, int lanes) FNN_INLINE {
    const V e = exp(V::load(x + j, lanes) - m);
    e.store(y + j, lanes);
    total += first(lanes, e, V(0));
  });
  const V inverse = V(1) / V(sum(total));
  for_lanes<V>(0, cols, [&](Index j, int lanes) FNN_INLINE {
    (V::load(y + j, lanes) * inverse).store(y + j, lanes);
  });
}

// y = (x - m) - log S.
template <class V, class T>
void log_softmax_row(const T* x, T* y, Index cols, V m) {
  V total(0);
  for_lanes<V>(0, cols, [&](Index j, int lanes) FNN_INLINE {
    total += first(lanes, exp(V::load(x + j, lanes) - m), V(0));
  });
  const V log_sum = log(V(sum(total)));
  for_lanes<V>(0, cols, [&](Index j, int lanes) FNN_INLINE {
    (V::load(x + j, lanes) - m - log_sum).store(y + j, lanes);
  });
}

}  // namespace

template <class T>
void run(const SoftmaxForward& op, const Context& context) {
  using V = Vec<T>;
  const cpu::Range mine = cpu::share(op.rows, context);
  for (Index row = mine.begin; row < mine.end; ++row) {
    const T* x = row_of<T>(op.x, row);
    T* y = row_of<T>(op.y, row);
    V greatest(-kInfinity);
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      greatest = max(first(lanes, V::load(x + j, lanes), V(-kInfinity)), greatest);
    });
    const V m(max_of(greatest));
    if (op.log) {
      log_softmax_row(x, y, op.cols, m);
    } else {
      softmax_row(x, y, op.cols, m);
    }
  }
}

// dx = y (dy - sum y dy), or dx = dy - exp(y) sum dy for the logarithm.
template <class T>
void run(const SoftmaxBackward& op, const Context& context) {
  using V = Vec<T>;
  const cpu::Range mine = cpu::share(op.rows, context);
  for (Index row = mine.begin; row < mine.end; ++row) {
    const T* y = row_of<T>(op.y, row);
    const T* dy = row_of<T>(op.dy, row);
    T* dx = row_of<T>(op.dx, row);
    V total(0);  // lanes beyond the end are loaded as zeros and add nothing
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      const V g = V::load(dy + j, lanes);
      total = op.log ? total + g : fma(V::load(y + j, lanes), g, total);
    });
    const V all(sum(total));
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      const V g = V::load(dy + j, lanes);
      const V p = V::load(y + j, lanes);
      V result = op.log ? fma(-exp(p), all, g) : p * (g - all);
      if (op.accumulate) result += V::load(dx + j, lanes);
      result.store(dx + j, lanes);
    });
  }
}

template <class T>
Demand demand(const SoftmaxForward& op, int) {
  return {double(op.rows) * (20 + 0.25 * sizeof(T) * double(op.cols)), 0};
}

template <class T>
Demand demand(const SoftmaxBackward& op, int) {
  return {double(op.rows) * (10 + 0.15 * sizeof(T) * double(op.cols)), 0};
}

template void run<float>(const SoftmaxForward&, const Context&);
template void run<double>(const SoftmaxForward&, const Context&);
template void run<float>(const SoftmaxBackward&, const Context&);
template void run<double>(const SoftmaxBackward&, const Context&);
template Demand demand<float>(const SoftmaxForward&, int);
template Demand demand<double>(const SoftmaxForward&, int);
template Demand demand<float>(const SoftmaxBackward&, int);
template Demand demand<double>(const SoftmaxBackward&, int);

}  // namespace fusednn::FNN_ISA
