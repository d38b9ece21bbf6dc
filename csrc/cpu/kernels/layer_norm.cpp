// SPDX-License-Identifier: Apache-2.0
// Layer normalisation: statistics along the rows.
#include "cpu/kernels/normalization.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index kChunk = 32;  // rows that share a pair of partial sums, at least

// The sum of f(j, lanes) over a row, in four strands so that one addition need not wait for the last.
template <class V, class F>
FNN_HD typename V::Scalar sum_row(Index cols, F f) {
  V strand[4] = {V(0), V(0), V(0), V(0)};
  Index j = 0;
  for (; j + 4 * V::size <= cols; j += 4 * V::size) {
    for (int k = 0; k < 4; ++k) strand[k] += f(j + k * V::size, V::size);
  }
  for_lanes<V>(j, cols, [&](Index i, int lanes) FNN_INLINE { strand[0] += f(i, lanes); });
  return sum((strand[0] + strand[1]) + (strand[2] + strand[3]));
}

// One row of the backward pass. `sum_dy` and `sum_product`, where given, gather over rows what dbeta
// and dgamma are made of.
template <class T>
FNN_HD void backward_row(const LayerNormBackward& op, Index i, T* sum_dy, T* sum_product) {
  using V = Vec<T>;
  const T* x = row_of<T>(op.x, i);
  const T* dy = row_of<T>(op.dy, i);
  T* dx = row_of<T>(op.dx, i);
  const V mean(double(static_cast<const T*>(op.mean)[i]));
  const V inverse(double(static_cast<const T*>(op.inverse_deviation)[i]));
  const V n(double(op.cols));

  if (sum_dy) {
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      const V g = V::load(dy + j, lanes);
      const V xhat = (V::load(x + j, lanes) - mean) * inverse;
      (V::load(sum_dy + j, lanes) + g).store(sum_dy + j, lanes);
      fma(g, xhat, V::load(sum_product + j, lanes)).store(sum_product + j, lanes);
    });
  }
  if (op.dx.data == nullptr) return;
  const T sum_g = sum_row<V>(op.cols, [&](Index j, int lanes) FNN_INLINE {
    return V::load(dy + j, lanes) * load_or<V>(op.gamma, j, lanes, 1);
  });
  // A short vector's dy is 0 in the lanes that do not count.
  const T sum_g_d = sum_row<V>(op.cols, [&](Index j, int lanes) FNN_INLINE {
    return V::load(dy + j, lanes) * load_or<V>(op.gamma, j, lanes, 1) *
           (V::load(x + j, lanes) - mean);
  });
  const V mean_g = V(double(sum_g)) / n;
  const V slope = V(double(sum_g_d)) / n * inverse * inverse;
  for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
    const V g = V::load(dy + j, lanes) * load_or<V>(op.gamma, j, lanes, 1);
    V result = rules::normalize_backward(g, V::load(x + j, lanes) - mean, mean_g, slope, inverse);
    if (op.accumulate) result += V::load(dx + j, lanes);
    result.store(dx + j, lanes);
  });
}

}  // namespace

template <class T>
void run(const LayerNormForward& op, const Context& context) {
  using V = Vec<T>;
  const V n(double(op.cols)), eps(op.epsilon);
  const cpu::Range mine = share(op.rows, context);
  for (Index i = mine.begin; i < mine.end; ++i) {
    const T* x = row_of<T>(op.x, i);
    T* y = row_of<T>(op.y, i);
    // Relative to the first element: small numbers keep their digits in a sum.
    const V shift(op.cols > 0 ? double(x[0]) : 0);
    const T total = sum_row<V>(op.cols, [&](Index j, int lanes) FNN_INLINE {
      return first(lanes, V::load(x + j, lanes) - shift, V(0));
    });
    const V mean = shift + V(double(total)) / n;
    const T squares = sum_row<V>(op.cols, [&](Index j, int lanes) FNN_INLINE {
      const V d = first(lanes, V::load(x + j, lanes) - mean, V(0));
      return d * d;
    });
    const V inverse = rules::inverse_deviation(V(double(squares)) / n, eps);
    if (op.mean) mean.store(static_cast<T*>(op.mean) + i, 1);
    if (op.inverse_deviation) inverse.store(static_cast<T*>(op.inverse_deviation) + i, 1);
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      const V scale = inverse * load_or<V>(op.gamma, j, lanes, 1);
      rules::normalize(V::load(x + j, lanes), mean, scale, load_or<V>(op.beta, j, lanes, 0))
          .store(y + j, lanes);
    });
  }
}

template <class T>
void run(const LayerNormBackward& op, const Context& context) {
  using V = Vec<T>;
  const bool gathers = op.dgamma || op.dbeta;
  T* partial = reinterpret_cast<T*>(context.workspace);  // two numbers per column and chunk
  const Index size = rows_per_chunk(op.rows, kChunk), chunks = (op.rows + size - 1) / size;
  const cpu::Range mine = share(chunks, context);
  for (Index c = mine.begin; c < mine.end; ++c) {
    T* sum_dy = gathers ? partial + 2 * c * op.cols : nullptr;
    T* sum_product = gathers ? sum_dy + op.cols : nullptr;
    if (gathers) {
      for_lanes<V>(0, 2 * op.cols,
                   [&](Index j, int lanes) FNN_INLINE { V(0).store(sum_dy + j, lanes); });
    }
    const Index end = op.rows - c * size < size ? op.rows : (c + 1) * size;
    for (Index i = c * size; i < end; ++i) backward_row(op, i, sum_dy, sum_product);
  }
  if (!gathers) return;
  context.sync();

  const cpu::Range columns = share_lines<T>(op.cols, context);
  for_lanes<V>(columns.begin, columns.end, [&](Index j, int lanes) FNN_INLINE {
    V sum_dy(0), sum_product(0);
    for (Index c = 0; c < chunks; ++c) {
      sum_dy += V::load(partial + 2 * c * op.cols + j, lanes);
      sum_product += V::load(partial + (2 * c + 1) * op.cols + j, lanes);
    }
    store_gradient(op, op.dbeta, sum_dy, j, lanes);
    store_gradient(op, op.dgamma, sum_product, j, lanes);
  });
}

template <class T>
Demand demand(const LayerNormForward& op, int) {
  return {0.05 * sizeof(T) * double(op.rows * op.cols) + 10.0 * double(op.rows), 0};
}

template <class T>
Demand demand(const LayerNormBackward& op, int) {
  const bool gathers = op.dgamma || op.dbeta;
  const Index size = rows_per_chunk(op.rows, kChunk), chunks = (op.rows + size - 1) / size;
  return {0.08 * sizeof(T) * double(op.rows * op.cols) + 15.0 * double(op.rows),
          gathers ? sizeof(T) * static_cast<size_t>(2 * chunks * op.cols) : 0};
}

template void run<float>(const LayerNormForward&, const Context&);
template void run<double>(const LayerNormForward&, const Context&);
template void run<float>(const LayerNormBackward&, const Context&);
template void run<double>(const LayerNormBackward&, const Context&);
template Demand demand<float>(const LayerNormForward&, int);
template Demand demand<double>(const LayerNormForward&, int);
template Demand demand<float>(const LayerNormBackward&, int);
template Demand demand<double>(const LayerNormBackward&, int);

}  // namespace fusednn::FNN_ISA
