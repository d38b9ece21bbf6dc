// SPDX-License-Identifier: Apache-2.0
// Softmax and log-softmax over the columns of each row, with the greatest element taken off first so
// that nothing overflows. Columns at -infinity get probability 0; a row of nothing else is NaN.
#include "cpu/kernels/row_lanes.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

template <class T, class Op>
bool is_past_caches(const Op& op) {
  return past_caches(2.0 * sizeof(T) * double(op.rows * op.cols));
}

// y = exp(x - m) / S or (x - m) - log S, with S = sum exp(x - m). y may be x: an element is read
// before it is written.
template <class T>
void forward_block(const SoftmaxForward& op, Index begin, int rows, bool streams, T* long_row) {
  using V = Vec<T>;
  V parts[V::size] = {};
  for (int r = 0; r < rows; ++r) parts[r] = greatest_lanes<V>(row_of<T>(op.x, begin + r), op.cols);
  const RowLanes<V> greatest(max_rows(parts));

  KeptRows<V> kept(op.y, begin, op.cols, long_row);
  for (int r = 0; r < rows; ++r) {
    const T* x = row_of<T>(op.x, begin + r);
    const V m = greatest[r];
    V total(0);
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      const V e = exp(V::load(x + j, lanes) - m);
      if (!op.log) kept.store(e, r, j, lanes);
      total += first(lanes, e, V(0));
    });
    parts[r] = total;
  }
  const V total = sum_rows(parts);
  const RowLanes<V> last(op.log ? log(total) : V(1) / total);

  for (int r = 0; r < rows; ++r) {
    const T* x = row_of<T>(op.x, begin + r);
    T* y = row_of<T>(op.y, begin + r);
    const V m = greatest[r], l = last[r];
    write_lanes<V>(y, 0, op.cols, streams, [&](Index j, int lanes) FNN_INLINE {
      return op.log ? V::load(x + j, lanes) - m - l : kept.load(r, j, lanes) * l;
    });
  }
}

// dx = y (dy - sum y dy), or dx = dy - exp(y) sum dy for the logarithm.
template <class T>
void backward_block(const SoftmaxBackward& op, Index begin, int rows, bool streams) {
  using V = Vec<T>;
  V parts[V::size] = {};
  for (int r = 0; r < rows; ++r) {
    const T* y = row_of<T>(op.y, begin + r);
    const T* dy = row_of<T>(op.dy, begin + r);
    // Lanes beyond the end are loaded as zeros and add nothing.
    parts[r] = over_row<V>(
        op.cols, V(0),
        [&](Index j, int lanes) FNN_INLINE {
          const V g = V::load(dy + j, lanes);
          return op.log ? g : V::load(y + j, lanes) * g;
        },
        [](V a, V b) FNN_INLINE { return a + b; });
  }
  const RowLanes<V> totals(sum_rows(parts));
  for (int r = 0; r < rows; ++r) {
    const T* y = row_of<T>(op.y, begin + r);
    const T* dy = row_of<T>(op.dy, begin + r);
    T* dx = row_of<T>(op.dx, begin + r);
    const V total = totals[r];
    write_lanes<V>(dx, 0, op.cols, streams, [&](Index j, int lanes) FNN_INLINE {
      const V g = V::load(dy + j, lanes);
      const V p = V::load(y + j, lanes);
      V result = op.log ? fma(-exp(p), total, g) : p * (g - total);
      if (op.accumulate) result += V::load(dx + j, lanes);
      return result;
    });
  }
}

}  // namespace

template <class T>
void run(const SoftmaxForward& op, const Context& context) {
  const bool streams = op.y.data != op.x.data && is_past_caches<T>(op);
  T* kept = long_row<Vec<T>>(context, op.cols, streams);
  for_row_blocks<Vec<T>>(op.rows, op.cols, context, [&](Index begin, int rows) FNN_INLINE {
    forward_block<T>(op, begin, rows, streams, kept);
  });
  finish_streams(streams);
}

template <class T>
void run(const SoftmaxBackward& op, const Context& context) {
  const bool fresh = !op.accumulate && op.dx.data != op.dy.data && op.dx.data != op.y.data;
  const bool streams = fresh && is_past_caches<T>(op);
  for_row_blocks<Vec<T>>(op.rows, op.cols, context, [&](Index begin, int rows) FNN_INLINE {
    backward_block<T>(op, begin, rows, streams);
  });
  finish_streams(streams);
}

template <class T>
Demand demand(const SoftmaxForward& op, int threads) {
  return {double(op.rows) * (20 + 0.25 * sizeof(T) * double(op.cols)),
          size_t(threads) * long_row_bytes<Vec<T>>(op.cols, is_past_caches<T>(op))};
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
