// SPDX-License-Identifier: Apache-2.0
// Layer normalisation: statistics along the rows.
#include "cpu/kernels/normalization.h"
#include "cpu/kernels/row_lanes.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index kChunk = 32;  // rows that share a pair of partial sums, at least
constexpr int kRows = 4;      // rows of the backward pass that are summed up at a time

// A block of rows. What is divided and rooted is a vector of rows, and no row waits for another's sum.
template <class T>
FNN_HD void forward_block(const LayerNormForward& op, Index begin, int rows, bool streams) {
  using V = Vec<T>;
  const V n(double(op.cols));
  const auto add = [](V a, V b) FNN_INLINE { return a + b; };
  // Relative to the first element: small numbers keep their digits in a sum.
  RowLanes<V> shift;
  V parts[V::size] = {};
  for (int r = 0; r < rows; ++r) {
    const T* x = row_of<T>(op.x, begin + r);
    shift.lane[r] = op.cols > 0 ? x[0] : T(0);
    const V s = shift[r];
    parts[r] = over_row<V>(
        op.cols, V(0),
        [&](Index j, int lanes)
            FNN_INLINE { return first(lanes, V::load(x + j, lanes) - s, V(0)); },
        add);
  }
  const RowLanes<V> mean(shift.load() + sum_rows(parts) / n);
  for (int r = 0; r < rows; ++r) {
    const T* x = row_of<T>(op.x, begin + r);
    const V m = mean[r];
    parts[r] = over_row<V>(
        op.cols, V(0),
        [&](Index j, int lanes)
            FNN_INLINE { return first(lanes, V::load(x + j, lanes) - m, V(0)); },
        [](V sum, V d) FNN_INLINE { return fma(d, d, sum); }, add);
  }
  const RowLanes<V> inverse(rules::inverse_deviation(sum_rows(parts) / n, V(op.epsilon)));
  if (op.mean) mean.load().store(static_cast<T*>(op.mean) + begin, rows);
  if (op.inverse_deviation) {
    inverse.load().store(static_cast<T*>(op.inverse_deviation) + begin, rows);
  }
  for (int r = 0; r < rows; ++r) {
    const T* x = row_of<T>(op.x, begin + r);
    const V m = mean[r], inv = inverse[r];
    write_lanes<V>(row_of<T>(op.y, begin + r), 0, op.cols, streams,
                   [&](Index j, int lanes) FNN_INLINE {
                     const V scale = inv * load_or<V>(op.gamma, j, lanes, 1);
                     return rules::normalize(V::load(x + j, lanes), m, scale,
                                             load_or<V>(op.beta, j, lanes, 0));
                   });
  }
}

// A row of the backward pass.
template <class T>
struct BackwardRow {
  using V = Vec<T>;
  const T* x;
  const T* dy;
  V mean, inverse;

  BackwardRow() = default;
  FNN_HD BackwardRow(const LayerNormBackward& op, Index i)
      : x(row_of<T>(op.x, i)),
        dy(row_of<T>(op.dy, i)),
        mean(double(static_cast<const T*>(op.mean)[i])),
        inverse(double(static_cast<const T*>(op.inverse_deviation)[i])) {}
};

// What dbeta and dgamma are made of, for the rows of a chunk.
template <class T>
struct ColumnSums {
  T* dy;  // or null
  T* product;
};

// N rows of the backward pass. Each argument is read once from far away: what belongs to a row is
// summed up together with what belongs to a column.
template <int N, class T>
FNN_HD void backward_rows(const LayerNormBackward& op, Index i, const ColumnSums<T>& sums,
                          bool streams) {
  using V = Vec<T>;
  BackwardRow<T> row[N];
  for (int k = 0; k < N; ++k) row[k] = BackwardRow<T>(op, i + k);
  V sum_g[N], sum_g_d[N];
  for (int k = 0; k < N; ++k) sum_g[k] = sum_g_d[k] = V(0);
  for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
    const V gamma = load_or<V>(op.gamma, j, lanes, 1);
    V total(0), product(0);
    // A short vector's dy is 0 in the lanes that do not count.
    for (int k = 0; k < N; ++k) {
      const V upstream = V::load(row[k].dy + j, lanes);
      const V d = V::load(row[k].x + j, lanes) - row[k].mean;
      total += upstream;
      product = fma(upstream, d * row[k].inverse, product);
      const V g = upstream * gamma;
      sum_g[k] += g;
      sum_g_d[k] = fma(g, d, sum_g_d[k]);
    }
    if (sums.dy) {
      (V::load(sums.dy + j, lanes) + total).store(sums.dy + j, lanes);
      (V::load(sums.product + j, lanes) + product).store(sums.product + j, lanes);
    }
  });
  if (op.dx.data == nullptr) return;
  const V n(double(op.cols));
  V mean_g[N], slope[N];
  for (int k = 0; k < N; ++k) {
    mean_g[k] = V(double(sum(sum_g[k]))) / n;
    slope[k] = V(double(sum(sum_g_d[k]))) / n * row[k].inverse * row[k].inverse;
  }
  for (int k = 0; k < N; ++k) {
    T* dx = row_of<T>(op.dx, i + k);
    write_lanes<V>(dx, 0, op.cols, streams, [&](Index j, int lanes) FNN_INLINE {
      const V g = V::load(row[k].dy + j, lanes) * load_or<V>(op.gamma, j, lanes, 1);
      const V d = V::load(row[k].x + j, lanes) - row[k].mean;
      V result = rules::normalize_backward(g, d, mean_g[k], slope[k], row[k].inverse);
      if (op.accumulate) result += V::load(dx + j, lanes);
      return result;
    });
  }
}

}  // namespace

template <class T>
void run(const LayerNormForward& op, const Context& context) {
  const bool streams =
      op.y.data != op.x.data && past_caches(2.0 * sizeof(T) * double(op.rows * op.cols));
  for_row_blocks<Vec<T>>(op.rows, op.cols, context, [&](Index begin, int rows) FNN_INLINE {
    forward_block<T>(op, begin, rows, streams);
  });
  finish_streams(streams);
}

template <class T>
void run(const LayerNormBackward& op, const Context& context) {
  using V = Vec<T>;
  const bool gathers = op.dgamma || op.dbeta;
  const bool fresh = !op.accumulate && op.dx.data != op.dy.data && op.dx.data != op.x.data;
  const bool streams = fresh && past_caches(3.0 * sizeof(T) * double(op.rows * op.cols));
  T* partial = reinterpret_cast<T*>(context.workspace);  // two numbers per column and chunk
  const Index size = rows_per_chunk(op.rows, kChunk), chunks = (op.rows + size - 1) / size;
  const cpu::Range mine = share(chunks, context);
  for (Index c = mine.begin; c < mine.end; ++c) {
    ColumnSums<T> sums{nullptr, nullptr};
    if (gathers) {
      sums = {partial + 2 * c * op.cols, partial + (2 * c + 1) * op.cols};
      for_lanes<V>(0, 2 * op.cols,
                   [&](Index j, int lanes) FNN_INLINE { V(0).store(sums.dy + j, lanes); });
    }
    const Index end = op.rows - c * size < size ? op.rows : (c + 1) * size;
    Index i = c * size;
    for (; i + kRows <= end; i += kRows) backward_rows<kRows>(op, i, sums, streams);
    for (; i < end; ++i) backward_rows<1>(op, i, sums, streams);
  }
  finish_streams(streams);
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
