// SPDX-License-Identifier: Apache-2.0
// Layer normalisation: statistics along the rows. In the backward pass one kernel takes the rows, and
// another, which has columns, the gradients of gamma and beta.
#include "cuda/kernels/normalization.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T, class Shape>
__global__ void __launch_bounds__(kThreads) forward(LayerNormForward op, Shape shape) {
  constexpr int kItems = Shape::items;
  const auto& team = shape.team;
  const Index row = team.row(blockIdx.x);
  const bool active = row < op.rows;
  const Index cols = active ? op.cols : 0;
  const T n(double(op.cols));
  const T* source = row_of<T>(op.x, row);
  T* y = row_of<T>(op.y, row);
  // Relative to the first element: small numbers keep their digits in a sum. Read before y is
  // written, which may lie in the same place.
  const T shift = cols > 0 ? source[0] : T(0);
  const RowItems<T, kItems> x(team, source, cols);

  T total(0), squares(0);
  for_columns<kItems>(team, cols, [&](int k, Index j) { total += x.get(k, j) - shift; });
  const T mean = shift + team.all(total, Add()) / n;
  for_columns<kItems>(team, cols, [&](int k, Index j) {
    const T d = x.get(k, j) - mean;
    squares = fma(d, d, squares);
  });
  squares = team.all(squares, Add());
  const T inverse = rules::inverse_deviation(squares / n, T(op.epsilon));
  for_columns<kItems>(team, cols, [&](int k, Index j) {
    const T scale = inverse * load_or<T>(op.gamma, j, 1);
    y[j] = rules::normalize(x.get(k, j), mean, scale, load_or<T>(op.beta, j, 0));
  });
  if (!active || team.rank() != 0) return;
  if (op.mean != nullptr) static_cast<T*>(op.mean)[row] = mean;
  if (op.inverse_deviation != nullptr) static_cast<T*>(op.inverse_deviation)[row] = inverse;
}

template <class T, class Shape>
__global__ void __launch_bounds__(kThreads) backward(LayerNormBackward op, Shape shape) {
  constexpr int kItems = Shape::items;
  const auto& team = shape.team;
  const Index row = team.row(blockIdx.x);
  const Index cols = row < op.rows ? op.cols : 0;
  const T n(double(op.cols));
  const T mean = cols > 0 ? static_cast<const T*>(op.mean)[row] : T(0);
  const T inverse = cols > 0 ? static_cast<const T*>(op.inverse_deviation)[row] : T(0);
  const RowItems<T, kItems> x(team, row_of<T>(op.x, row), cols);
  const RowItems<T, kItems> dy(team, row_of<T>(op.dy, row), cols);
  T* dx = row_of<T>(op.dx, row);

  T sum_g(0), sum_g_d(0);
  for_columns<kItems>(team, cols, [&](int k, Index j) {
    const T g = dy.get(k, j) * load_or<T>(op.gamma, j, 1);
    sum_g += g;
    sum_g_d = fma(g, x.get(k, j) - mean, sum_g_d);
  });
  const T mean_g = team.all(sum_g, Add()) / n;
  const T slope = team.all(sum_g_d, Add()) / n * inverse * inverse;
  for_columns<kItems>(team, cols, [&](int k, Index j) {
    const T g = dy.get(k, j) * load_or<T>(op.gamma, j, 1);
    const T result = rules::normalize_backward(g, x.get(k, j) - mean, mean_g, slope, inverse);
    dx[j] = op.accumulate ? dx[j] + result : result;
  });
}

// Down the columns of a tile: the sums of dy and of dy xhat. partial == nullptr: the tile is the whole
// column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_tiles(LayerNormBackward op, Tiles tiles, PairOfSums<T>* partial) {
  const Tile tile = tiles.mine();
  const T* mean = static_cast<const T*>(op.mean);
  const T* inverse = static_cast<const T*>(op.inverse_deviation);
  PairOfSums<T> sums = {};
  for_row_groups(tile, [&](Index row, int rows) {
    T g[kRowsAtOnce], xhat[kRowsAtOnce];
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      g[k] = xhat[k] = T(0);
      if (k < rows) {
        const Index i = row + k * kRowLanes;
        g[k] = row_of<T>(op.dy, i)[tile.col];
        xhat[k] = (row_of<T>(op.x, i)[tile.col] - mean[i]) * inverse[i];
      }
    }
    T total(0), product(0);
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      total += g[k];
      product = fma(g[k], xhat[k], product);
    }
    sums = AddPairs()(sums, PairOfSums<T>{total, product});
  });
  sums = reduce_row_lanes(sums, AddPairs());
  if (!tile.inside || tile.row_lane() != 0) return;
  if (partial != nullptr) {
    partial[tile.chunk * tiles.cols + tile.col] = sums;
  } else {
    store_gradient(op, op.dbeta, sums.dy, tile.col);
    store_gradient(op, op.dgamma, sums.product, tile.col);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    finish_columns(LayerNormBackward op, Tiles tiles, const PairOfSums<T>* partial) {
  const Index col = Index(blockIdx.x) * kThreads + threadIdx.x;
  if (col >= tiles.cols) return;
  const PairOfSums<T> sums = sum_chunks(partial, tiles.chunks, tiles.cols, col);
  store_gradient(op, op.dbeta, sums.dy, col);
  store_gradient(op, op.dgamma, sums.product, col);
}

}  // namespace

template <class T>
void run(const LayerNormForward& op, const Context& context) {
  with_row_shape(op.cols, [&](auto shape) {
    launch(forward<T, decltype(shape)>, shape.blocks(op.rows), kThreads, 0, context.stream, op,
           shape);
  });
}

// The gradients of the parameters first: dx may take the place of dy.
template <class T>
void run(const LayerNormBackward& op, const Context& context) {
  if (op.dgamma != nullptr || op.dbeta != nullptr) {
    const Tiles tiles = gathering_tiles(op.rows, op.cols);
    auto* partial = static_cast<PairOfSums<T>*>(tiles.chunks != 1 ? context.workspace : nullptr);
    launch(gather_tiles<T>, tiles.blocks(), kThreads, 0, context.stream, op, tiles, partial);
    if (partial != nullptr) {
      launch(finish_columns<T>, blocks_for(op.cols, kThreads), kThreads, 0, context.stream, op,
             tiles, partial);
    }
  }
  if (op.dx.data == nullptr) return;
  with_row_shape(op.cols, [&](auto shape) {
    launch(backward<T, decltype(shape)>, shape.blocks(op.rows), kThreads, 0, context.stream, op,
           shape);
  });
}

template <class T>
size_t workspace(const LayerNormForward&) {
  return 0;
}

template <class T>
size_t workspace(const LayerNormBackward& op) {
  const Index chunks = gathering_tiles(op.rows, op.cols).chunks;
  return chunks != 1 ? sizeof(PairOfSums<T>) * size_t((chunks + 1) * op.cols) : 0;
}

template void run<float>(const LayerNormForward&, const Context&);
template void run<double>(const LayerNormForward&, const Context&);
template void run<float>(const LayerNormBackward&, const Context&);
template void run<double>(const LayerNormBackward&, const Context&);
template size_t workspace<float>(const LayerNormForward&);
template size_t workspace<double>(const LayerNormForward&);
template size_t workspace<float>(const LayerNormBackward&);
template size_t workspace<double>(const LayerNormBackward&);

}  // namespace fusednn::cuda
