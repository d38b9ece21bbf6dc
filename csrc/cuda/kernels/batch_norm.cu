// SPDX-License-Identifier: Apache-2.0
// Batch normalisation: statistics down the columns. Small batches take one kernel; of larger ones, each
// tile is summarised per column, the chunks of a column are merged in order, and a third kernel
// applies the result.
#include "cuda/kernels/normalization.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

// ---- forward -----------------------------------------------------------------------------------

// The moments of n numbers.
template <class T>
struct Counted {
  T n;
  rules::Moments<T> moments;
};

struct Merge {
  template <class T>
  __device__ Counted<T> operator()(const Counted<T>& a, const Counted<T>& b) const {
    if (b.n == T(0)) return a;
    if (a.n == T(0)) return b;
    const T n = a.n + b.n, share = b.n / n;
    return {n, rules::merge(a.moments, b.moments, share, a.n * share)};
  }
};

// The moments of a column of a tile. The means are those of x minus the first row of the matrix: small
// numbers keep their digits in a sum, and no row is further from the mean than sqrt(rows) deviations.
template <class T>
__device__ Counted<T> summarise(const BatchNormForward& op, const Tile& tile) {
  Counted<T> all = {};
  const T shift = tile.inside ? row_of<T>(op.x, 0)[tile.col] : T(0);
  for_row_groups(tile, [&](Index row, int rows) {
    T d[kRowsAtOnce], total(0), squares(0);
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      d[k] = k < rows ? row_of<T>(op.x, row + k * kRowLanes)[tile.col] - shift : T(0);
    }
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) total += d[k];
    const T mean = total / T(rows);
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      const T off = k < rows ? d[k] - mean : T(0);
      squares = fma(off, off, squares);
    }
    all = Merge()(all, Counted<T>{
                           T(rows), {mean, squares}
    });
  });
  return reduce_row_lanes(all, Merge());
}

// Statistics of a column: kept, and moved into the running ones.
template <class T>
__device__ void finish_column(const BatchNormForward& op, Index col, rules::Moments<T> all) {
  T* running_mean = static_cast<T*>(op.running_mean);
  T* running_variance = static_cast<T*>(op.running_variance);
  const T momentum(op.momentum);
  const T unbias(op.unbiased && op.rows > 1 ? double(op.rows) / double(op.rows - 1) : 1);
  const T variance = all.squares / T(double(op.rows));
  const T mean = row_of<T>(op.x, 0)[col] + all.mean;
  static_cast<T*>(op.mean)[col] = mean;
  static_cast<T*>(op.inverse_deviation)[col] = rules::inverse_deviation(variance, T(op.epsilon));
  if (running_mean != nullptr) {
    running_mean[col] = rules::lerp(running_mean[col], mean, momentum);
  }
  if (running_variance != nullptr) {
    running_variance[col] = rules::lerp(running_variance[col], variance * unbias, momentum);
  }
}

template <class T>
__device__ void apply(const BatchNormForward& op, const Tile& tile) {
  if (!tile.inside) return;
  const T* means = static_cast<const T*>(op.training ? op.mean : op.running_mean);
  const T mean = means[tile.col];
  const T inverse = op.training
                        ? static_cast<const T*>(op.inverse_deviation)[tile.col]
                        : rules::inverse_deviation(
                              static_cast<const T*>(op.running_variance)[tile.col], T(op.epsilon));
  const T scale = load_or<T>(op.gamma, tile.col, 1) * inverse;
  const T beta = load_or<T>(op.beta, tile.col, 0);
  for_row_groups(tile, [&](Index row, int rows) {
    T x[kRowsAtOnce];
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      if (k < rows) x[k] = row_of<T>(op.x, row + k * kRowLanes)[tile.col];
    }
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      if (k < rows) {
        row_of<T>(op.y, row + k * kRowLanes)[tile.col] = rules::normalize(x[k], mean, scale, beta);
      }
    }
  });
}

// partial == nullptr: the tile is the whole column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    summarise_tiles(BatchNormForward op, Tiles tiles, Counted<T>* partial) {
  const Tile tile = tiles.mine();
  const Counted<T> all = summarise<T>(op, tile);
  const bool first = tile.inside && tile.row_lane() == 0;
  if (partial != nullptr) {
    if (first) partial[tile.chunk * tiles.cols + tile.col] = all;
    return;
  }
  if (first) finish_column(op, tile.col, all.moments);
  __syncthreads();
  apply<T>(op, tile);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    merge_chunks(BatchNormForward op, Tiles tiles, const Counted<T>* partial) {
  const Index col = Index(blockIdx.x) * kThreads + threadIdx.x;
  if (col >= tiles.cols) return;
  Counted<T> all = {};
  for (Index c = 0; c < tiles.chunks; ++c) all = Merge()(all, partial[c * tiles.cols + col]);
  finish_column(op, col, all.moments);
}

template <class T>
__global__ void __launch_bounds__(kThreads) apply_forward(BatchNormForward op, Tiles tiles) {
  apply<T>(op, tiles.mine());
}

// ---- backward ----------------------------------------------------------------------------------

// The sums of dy and of dy (x - mean) down a column of a tile.
template <class T>
__device__ PairOfSums<T> gather(const BatchNormBackward& op, const Tile& tile) {
  PairOfSums<T> sums = {};
  const T mean = tile.inside ? static_cast<const T*>(op.mean)[tile.col] : T(0);
  for_row_groups(tile, [&](Index row, int rows) {
    T g[kRowsAtOnce], d[kRowsAtOnce];
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      g[k] = k < rows ? row_of<T>(op.dy, row + k * kRowLanes)[tile.col] : T(0);
      d[k] = k < rows ? row_of<T>(op.x, row + k * kRowLanes)[tile.col] - mean : T(0);
    }
    T total(0), product(0);
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      total += g[k];
      product = fma(g[k], d[k], product);
    }
    sums = AddPairs()(sums, PairOfSums<T>{total, product});
  });
  return reduce_row_lanes(sums, AddPairs());
}

// What a column needs of its sums: mean(dy) and the slope. Stores the gradients of beta and gamma.
template <class T>
__device__ PairOfSums<T> finish_column(const BatchNormBackward& op, Index col, PairOfSums<T> sums) {
  const T inverse = static_cast<const T*>(op.inverse_deviation)[col];
  const T n(double(op.rows));
  const T sum_dy_xhat = sums.product * inverse;
  store_gradient(op, op.dbeta, sums.dy, col);
  store_gradient(op, op.dgamma, sum_dy_xhat, col);
  return {sums.dy / n, sum_dy_xhat / n * inverse};
}

template <class T>
__device__ void apply(const BatchNormBackward& op, const Tile& tile, PairOfSums<T> means) {
  if (!tile.inside || op.dx.data == nullptr) return;
  const T mean = static_cast<const T*>(op.mean)[tile.col];
  const T scale =
      load_or<T>(op.gamma, tile.col, 1) * static_cast<const T*>(op.inverse_deviation)[tile.col];
  for_row_groups(tile, [&](Index row, int rows) {
    T g[kRowsAtOnce], d[kRowsAtOnce];
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      if (k < rows) {
        g[k] = row_of<T>(op.dy, row + k * kRowLanes)[tile.col];
        d[k] = row_of<T>(op.x, row + k * kRowLanes)[tile.col] - mean;
      }
    }
#pragma unroll
    for (int k = 0; k < kRowsAtOnce; ++k) {
      if (k < rows) {
        T* dx = row_of<T>(op.dx, row + k * kRowLanes) + tile.col;
        const T result = rules::normalize_backward(g[k], d[k], means.dy, means.product, scale);
        *dx = op.accumulate ? *dx + result : result;
      }
    }
  });
}

// partial == nullptr: the tile is the whole column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_tiles(BatchNormBackward op, Tiles tiles, PairOfSums<T>* partial) {
  __shared__ PairOfSums<T> means[kColumns];
  const Tile tile = tiles.mine();
  const PairOfSums<T> sums = gather<T>(op, tile);
  const bool first = tile.inside && tile.row_lane() == 0;
  if (partial != nullptr) {
    if (first) partial[tile.chunk * tiles.cols + tile.col] = sums;
    return;
  }
  if (first) means[threadIdx.x] = finish_column(op, tile.col, sums);
  __syncthreads();
  apply(op, tile, means[threadIdx.x % kColumns]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    finish_columns(BatchNormBackward op, Tiles tiles, const PairOfSums<T>* partial,
                   PairOfSums<T>* means) {
  const Index col = Index(blockIdx.x) * kThreads + threadIdx.x;
  if (col >= tiles.cols) return;
  means[col] = finish_column(op, col, sum_chunks(partial, tiles.chunks, tiles.cols, col));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    apply_backward(BatchNormBackward op, Tiles tiles, const PairOfSums<T>* means) {
  const Tile tile = tiles.mine();
  apply(op, tile, tile.inside ? means[tile.col] : PairOfSums<T>{});
}

}  // namespace

template <class T>
void run(const BatchNormForward& op, const Context& context) {
  if (op.rows == 0) return;
  const Tiles tiles = gathering_tiles(op.rows, op.cols);
  if (op.training) {
    auto* partial = static_cast<Counted<T>*>(tiles.chunks > 1 ? context.workspace : nullptr);
    launch(summarise_tiles<T>, tiles.blocks(), kThreads, 0, context.stream, op, tiles, partial);
    if (partial == nullptr) return;
    launch(merge_chunks<T>, blocks_for(op.cols, kThreads), kThreads, 0, context.stream, op, tiles,
           partial);
  }
  const Tiles applying = applying_tiles(op.rows, op.cols);
  launch(apply_forward<T>, applying.blocks(), kThreads, 0, context.stream, op, applying);
}

template <class T>
void run(const BatchNormBackward& op, const Context& context) {
  const Tiles tiles = gathering_tiles(op.rows, op.cols);
  auto* partial = static_cast<PairOfSums<T>*>(tiles.chunks != 1 ? context.workspace : nullptr);
  launch(gather_tiles<T>, tiles.blocks(), kThreads, 0, context.stream, op, tiles, partial);
  if (partial == nullptr) return;
  PairOfSums<T>* means = partial + tiles.chunks * op.cols;
  launch(finish_columns<T>, blocks_for(op.cols, kThreads), kThreads, 0, context.stream, op, tiles,
         partial, means);
  if (op.dx.data == nullptr) return;
  const Tiles applying = applying_tiles(op.rows, op.cols);
  launch(apply_backward<T>, applying.blocks(), kThreads, 0, context.stream, op, applying, means);
}

template <class T>
size_t workspace(const BatchNormForward& op) {
  const Index chunks = gathering_tiles(op.rows, op.cols).chunks;
  return op.training && chunks > 1 ? sizeof(Counted<T>) * size_t(chunks * op.cols) : 0;
}

template <class T>
size_t workspace(const BatchNormBackward& op) {
  const Index chunks = gathering_tiles(op.rows, op.cols).chunks;
  return chunks != 1 ? sizeof(PairOfSums<T>) * size_t((chunks + 1) * op.cols) : 0;
}

template void run<float>(const BatchNormForward&, const Context&);
template void run<double>(const BatchNormForward&, const Context&);
template void run<float>(const BatchNormBackward&, const Context&);
template void run<double>(const BatchNormBackward&, const Context&);
template size_t workspace<float>(const BatchNormForward&);
template size_t workspace<double>(const BatchNormForward&);
template size_t workspace<float>(const BatchNormBackward&);
template size_t workspace<double>(const BatchNormBackward&);

}  // namespace fusednn::cuda
