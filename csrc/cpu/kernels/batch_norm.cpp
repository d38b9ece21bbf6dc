// SPDX-License-Identifier: Apache-2.0
// Batch normalisation: statistics down the columns.
//
// A matrix is cut into tiles, chunks of rows by blocks of columns, by its shape alone. Each tile is
// summarised per column, the chunks of a column are merged in order, and a second pass over the tiles
// applies the result. Rows are read in the order of memory; the columns' sums stay in the cache.
#include "cpu/kernels/normalization.h"
#include "cpu/kernels/table.h"
#include "rules/normalization.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index kBlock = 128;  // columns of a tile

struct Tile {
  Index first_row, end_row, first_col, end_col;
  Index chunk;
};

struct Tiles {
  Index rows, cols, chunk_rows, chunks, blocks;

  FNN_HD Tiles(Index r, Index c)
      : rows(r),
        cols(c),
        chunk_rows(rows_per_chunk(r, 128)),
        chunks((r + chunk_rows - 1) / chunk_rows),
        blocks((c + kBlock - 1) / kBlock) {}

  FNN_HD Index rows_of(Index chunk) const {
    const Index left = rows - chunk * chunk_rows;
    return left < chunk_rows ? left : chunk_rows;
  }

  // body(tile) for this thread's share.
  template <class Body>
  FNN_HD void for_each(const Context& context, Body body) const {
    const cpu::Range mine = share(chunks * blocks, context);
    for (Index i = mine.begin; i < mine.end; ++i) {
      const Index chunk = i % chunks, col = i / chunks * kBlock, row = chunk * chunk_rows;
      body(Tile{row, row + rows_of(chunk), col, cols - col < kBlock ? cols : col + kBlock, chunk});
    }
  }
};

// Two numbers per column and chunk, then two per column.
template <class T>
struct Workspace {
  T* base;
  Index chunks, cols;

  FNN_HD Workspace(const Context& context, const Tiles& tiles)
      : base(reinterpret_cast<T*>(context.workspace)), chunks(tiles.chunks), cols(tiles.cols) {}
  FNN_HD T* first(Index chunk) const { return base + 2 * chunk * cols; }
  FNN_HD T* second(Index chunk) const { return base + (2 * chunk + 1) * cols; }
  FNN_HD T* column_first() const { return base + 2 * chunks * cols; }
  FNN_HD T* column_second() const { return base + (2 * chunks + 1) * cols; }
};

template <class T>
size_t workspace_bytes(Index rows, Index cols) {
  return sizeof(T) * static_cast<size_t>(2 * (Tiles(rows, cols).chunks + 1) * cols);
}

// Mean and squared deviations of the columns of one tile, in two passes of which the second one finds
// the tile in the cache. The means are those of x minus the first row of the matrix: small numbers
// keep their digits in a sum, and no row is further from the mean than sqrt(rows) deviations.
template <class T>
FNN_HD void summarise(const BatchNormForward& op, const Tile& tile, T* mean, T* squares) {
  using V = Vec<T>;
  const T* shift = row_of<T>(op.x, 0);
  for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
    V(0).store(mean + j, lanes);
    V(0).store(squares + j, lanes);
  });
  for (Index i = tile.first_row; i < tile.end_row; ++i) {
    const T* x = row_of<T>(op.x, i);
    for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
      const V d = V::load(x + j, lanes) - V::load(shift + j, lanes);
      (V::load(mean + j, lanes) + d).store(mean + j, lanes);
    });
  }
  const V n(double(tile.end_row - tile.first_row));
  for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
    (V::load(mean + j, lanes) / n).store(mean + j, lanes);
  });
  for (Index i = tile.first_row; i < tile.end_row; ++i) {
    const T* x = row_of<T>(op.x, i);
    for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
      const V d = (V::load(x + j, lanes) - V::load(shift + j, lanes)) - V::load(mean + j, lanes);
      fma(d, d, V::load(squares + j, lanes)).store(squares + j, lanes);
    });
  }
}

// The chunks of a column together.
template <class V, class T>
FNN_HD rules::Moments<V> merge_chunks(const Tiles& tiles, const Workspace<T>& work, Index j,
                                      int lanes) {
  rules::Moments<V> all = {V::load(work.first(0) + j, lanes), V::load(work.second(0) + j, lanes)};
  for (Index c = 1; c < tiles.chunks; ++c) {
    const double before = double(c * tiles.chunk_rows);
    const double share = double(tiles.rows_of(c)) / (before + double(tiles.rows_of(c)));
    const rules::Moments<V> chunk = {V::load(work.first(c) + j, lanes),
                                     V::load(work.second(c) + j, lanes)};
    all = rules::merge(all, chunk, V(share), V(before * share));
  }
  return all;
}

// Statistics of all columns: kept, moved into the running ones, and turned into what apply() needs.
template <class T>
FNN_HD void finish_columns(const BatchNormForward& op, const Tiles& tiles, const Workspace<T>& work,
                           const Context& context) {
  using V = Vec<T>;
  const V eps(op.epsilon), momentum(op.momentum), n(double(op.rows));
  const V unbias(op.rows > 1 ? double(op.rows) / double(op.rows - 1) : 1);
  T* running_mean = static_cast<T*>(op.running_mean);
  T* running_variance = static_cast<T*>(op.running_variance);
  const cpu::Range mine = share_lines<T>(op.cols, context);
  for_lanes<V>(mine.begin, mine.end, [&](Index j, int lanes) FNN_INLINE {
    V inverse;
    if (op.training) {
      const rules::Moments<V> all = merge_chunks<V>(tiles, work, j, lanes);
      const V variance = all.squares / n;
      inverse = rules::inverse_deviation(variance, eps);
      const V mean = V::load(row_of<T>(op.x, 0) + j, lanes) + all.mean;
      mean.store(static_cast<T*>(op.mean) + j, lanes);
      inverse.store(static_cast<T*>(op.inverse_deviation) + j, lanes);
      if (running_mean) {
        rules::lerp(V::load(running_mean + j, lanes), mean, momentum)
            .store(running_mean + j, lanes);
      }
      if (running_variance) {
        rules::lerp(V::load(running_variance + j, lanes), variance * unbias, momentum)
            .store(running_variance + j, lanes);
      }
    } else {
      inverse = rules::inverse_deviation(V::load(running_variance + j, lanes), eps);
    }
    const V gamma = load_or<V>(op.gamma, j, lanes, 1);
    (gamma * inverse).store(work.column_first() + j, lanes);
    load_or<V>(op.beta, j, lanes, 0).store(work.column_second() + j, lanes);
  });
}

}  // namespace

template <class T>
void run(const BatchNormForward& op, const Context& context) {
  using V = Vec<T>;
  if (op.rows == 0) return;
  const Tiles tiles(op.rows, op.cols);
  const Workspace<T> work(context, tiles);
  if (op.training) {
    tiles.for_each(context, [&](const Tile& tile) FNN_INLINE {
      summarise(op, tile, work.first(tile.chunk), work.second(tile.chunk));
    });
    context.sync();
  }
  finish_columns(op, tiles, work, context);
  context.sync();

  const T* mean = static_cast<const T*>(op.training ? op.mean : op.running_mean);
  const T* scale = work.column_first();
  const T* beta = work.column_second();
  tiles.for_each(context, [&](const Tile& tile) FNN_INLINE {
    for (Index i = tile.first_row; i < tile.end_row; ++i) {
      const T* x = row_of<T>(op.x, i);
      T* y = row_of<T>(op.y, i);
      for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
        rules::normalize(V::load(x + j, lanes), V::load(mean + j, lanes), V::load(scale + j, lanes),
                         V::load(beta + j, lanes))
            .store(y + j, lanes);
      });
    }
  });
}

template <class T>
void run(const BatchNormBackward& op, const Context& context) {
  using V = Vec<T>;
  const Tiles tiles(op.rows, op.cols);
  const Workspace<T> work(context, tiles);
  const T* mean = static_cast<const T*>(op.mean);
  const T* inverse = static_cast<const T*>(op.inverse_deviation);

  // Per column and chunk: the sums of dy and of dy (x - mean).
  tiles.for_each(context, [&](const Tile& tile) FNN_INLINE {
    T* sum_dy = work.first(tile.chunk);
    T* sum_product = work.second(tile.chunk);
    for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
      V(0).store(sum_dy + j, lanes);
      V(0).store(sum_product + j, lanes);
    });
    for (Index i = tile.first_row; i < tile.end_row; ++i) {
      const T* x = row_of<T>(op.x, i);
      const T* dy = row_of<T>(op.dy, i);
      for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
        const V g = V::load(dy + j, lanes);
        const V d = V::load(x + j, lanes) - V::load(mean + j, lanes);
        (V::load(sum_dy + j, lanes) + g).store(sum_dy + j, lanes);
        fma(g, d, V::load(sum_product + j, lanes)).store(sum_product + j, lanes);
      });
    }
  });
  context.sync();

  // Per column: the gradients of beta and gamma, then mean(dy) and the slope.
  T* mean_dy = work.column_first();
  T* slope = work.column_second();
  const V n(double(op.rows));
  const cpu::Range mine = share_lines<T>(op.cols, context);
  for_lanes<V>(mine.begin, mine.end, [&](Index j, int lanes) FNN_INLINE {
    V sum_dy(0), sum_product(0);
    for (Index c = 0; c < tiles.chunks; ++c) {
      sum_dy += V::load(work.first(c) + j, lanes);
      sum_product += V::load(work.second(c) + j, lanes);
    }
    const V inv = V::load(inverse + j, lanes);
    const V sum_dy_xhat = sum_product * inv;
    store_gradient(op, op.dbeta, sum_dy, j, lanes);
    store_gradient(op, op.dgamma, sum_dy_xhat, j, lanes);
    (sum_dy / n).store(mean_dy + j, lanes);
    (sum_dy_xhat / n * inv).store(slope + j, lanes);
  });
  if (op.dx.data == nullptr) return;
  context.sync();

  tiles.for_each(context, [&](const Tile& tile) FNN_INLINE {
    for (Index i = tile.first_row; i < tile.end_row; ++i) {
      const T* x = row_of<T>(op.x, i);
      const T* dy = row_of<T>(op.dy, i);
      T* dx = row_of<T>(op.dx, i);
      for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
        const V scale = load_or<V>(op.gamma, j, lanes, 1) * V::load(inverse + j, lanes);
        const V d = V::load(x + j, lanes) - V::load(mean + j, lanes);
        V result = rules::normalize_backward(V::load(dy + j, lanes), d, V::load(mean_dy + j, lanes),
                                             V::load(slope + j, lanes), scale);
        if (op.accumulate) result += V::load(dx + j, lanes);
        result.store(dx + j, lanes);
      });
    }
  });
}

template <class T>
Demand demand(const BatchNormForward& op, int) {
  const double streams = op.training ? 3 : 2;
  return {200 + 0.025 * streams * sizeof(T) * double(op.rows * op.cols) + 2.0 * double(op.cols),
          workspace_bytes<T>(op.rows, op.cols)};
}

template <class T>
Demand demand(const BatchNormBackward& op, int) {
  return {200 + 0.1 * sizeof(T) * double(op.rows * op.cols) + 2.0 * double(op.cols),
          workspace_bytes<T>(op.rows, op.cols)};
}

template void run<float>(const BatchNormForward&, const Context&);
template void run<double>(const BatchNormForward&, const Context&);
template void run<float>(const BatchNormBackward&, const Context&);
template void run<double>(const BatchNormBackward&, const Context&);
template Demand demand<float>(const BatchNormForward&, int);
template Demand demand<double>(const BatchNormForward&, int);
template Demand demand<float>(const BatchNormBackward&, int);
template Demand demand<double>(const BatchNormBackward&, int);

}  // namespace fusednn::FNN_ISA
