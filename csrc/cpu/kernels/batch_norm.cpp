// SPDX-License-Identifier: Apache-2.0
// Batch normalisation: statistics down the columns.
//
// A matrix is cut into tiles, chunks of rows by blocks of columns, by its shape alone. Each tile is
// summarised per column, the chunks of a column are merged in order, and a second pass over the tiles
// applies the result. Within a tile several rows are read at a time, each in the order of memory, so
// that what belongs to a column is loaded once for all of them. The second pass begins where the first
// one ended: that part of the matrix is still in the cache.
#include "cpu/kernels/normalization.h"
#include "cpu/kernels/streams.h"
#include "cpu/kernels/table.h"
#include "rules/normalization.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index kLeastRows = 128;  // of a chunk
// Columns of a tile. Wide ones read memory in long runs; with few chunks of rows there would be too few
// tiles for a team. A column is summed up in the same order either way.
constexpr Index kBlock = 256, kWideBlock = 1024;
constexpr Index kManyChunks = 8;
constexpr int kSummed = 8;   // rows that are summed up at a time, in registers
constexpr int kApplied = 4;  // rows that a result is applied to at a time

struct Tile {
  Index first_row, end_row, first_col, end_col;
  Index chunk;
};

struct Tiles {
  Index rows, cols, chunk_rows, chunks, width, blocks;

  FNN_HD Tiles(Index r, Index c)
      : rows(r),
        cols(c),
        chunk_rows(rows_per_chunk(r, kLeastRows)),
        chunks((r + chunk_rows - 1) / chunk_rows),
        width(chunks < kManyChunks ? kBlock : kWideBlock),
        blocks((c + width - 1) / width) {}

  FNN_HD Index rows_of(Index chunk) const {
    const Index left = rows - chunk * chunk_rows;
    return left < chunk_rows ? left : chunk_rows;
  }

  // body(tile) for this thread's share.
  template <class Body>
  FNN_HD void for_each(const Context& context, Body body) const {
    const cpu::Range mine = share(chunks * blocks, context);
    for (Index i = mine.begin; i < mine.end; ++i) body(tile(i));
  }

  // The same, last tile first.
  template <class Body>
  FNN_HD void for_each_back(const Context& context, Body body) const {
    const cpu::Range mine = share(chunks * blocks, context);
    for (Index i = mine.end; i > mine.begin; --i) body(tile(i - 1));
  }

 private:
  // Blocks of the same rows follow each other, as they do in memory.
  FNN_HD Tile tile(Index i) const {
    const Index chunk = i / blocks, col = i % blocks * width, row = chunk * chunk_rows;
    return {row, row + rows_of(chunk), col, cols - col < width ? cols : col + width, chunk};
  }
};

// body(i, Rows<n>) for all rows of a tile, n = N of them at a time, one by one where fewer are left.
template <int N>
struct Rows {
  static constexpr int size = N;
};
template <int N, class Body>
FNN_HD void for_rows(const Tile& tile, Body body) {
  Index i = tile.first_row;
  for (; i + N <= tile.end_row; i += N) body(i, Rows<N>{});
  for (; i < tile.end_row; ++i) body(i, Rows<1>{});
}

// result(i, j) = body(i, j, lanes) for all of a tile. Several rows at a time load what belongs to a
// column once for all; around the caches it is row by row, for then it is memory that takes the time.
template <class T, class Body>
FNN_HD void apply(const Matrix& result, const Tile& tile, bool streams, Body body) {
  using V = Vec<T>;
  if (streams) {
    for (Index i = tile.first_row; i < tile.end_row; ++i) {
      write_lanes<V>(row_of<T>(result, i), tile.first_col, tile.end_col, true,
                     [&](Index j, int lanes) FNN_INLINE { return body(i, j, lanes); });
    }
    return;
  }
  for_rows<kApplied>(tile, [&](Index i, auto rows) FNN_INLINE {
    for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
      V block[rows.size];
      for (int k = 0; k < rows.size; ++k) block[k] = body(i + k, j, lanes);
      for (int k = 0; k < rows.size; ++k) block[k].store(row_of<T>(result, i + k) + j, lanes);
    });
  });
}

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

// Mean and squared deviations of N numbers per lane, which lie a stride apart. The mean is that of
// x - shift.
template <int N, class V, class T>
FNN_HD rules::Moments<V> moments_of(const T* x, Index stride, V shift, int lanes) {
  V d[N], total(0), squares(0);
  for (int k = 0; k < N; ++k) d[k] = V::load(x + k * stride, lanes) - shift;
  for (int k = 0; k < N; ++k) total += d[k];
  const V mean = total * V(1.0 / N);
  for (int k = 0; k < N; ++k) squares = fma(d[k] - mean, d[k] - mean, squares);
  return {mean, squares};
}

// Mean and squared deviations of the columns of one tile, merged from those of a few rows at a time.
// The means are those of x minus the first row of the matrix: small numbers keep their digits in a
// sum, and no row is further from the mean than sqrt(rows) deviations.
template <class T>
FNN_HD void summarise(const BatchNormForward& op, const Tile& tile, T* mean, T* squares) {
  using V = Vec<T>;
  const T* shift = row_of<T>(op.x, 0);
  for_rows<kSummed>(tile, [&](Index i, auto rows) FNN_INLINE {
    const T* x = row_of<T>(op.x, i);
    const double before = double(i - tile.first_row);
    const double share = rows.size / (before + rows.size);
    const V weight(share), cross(before * share);
    for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
      rules::Moments<V> all =
          moments_of<rows.size>(x + j, op.x.stride, V::load(shift + j, lanes), lanes);
      if (i > tile.first_row) {
        all = rules::merge({V::load(mean + j, lanes), V::load(squares + j, lanes)}, all, weight,
                           cross);
      }
      all.mean.store(mean + j, lanes);
      all.squares.store(squares + j, lanes);
    });
  });
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
  const V unbias(op.unbiased && op.rows > 1 ? double(op.rows) / double(op.rows - 1) : 1);
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
  const bool streams =
      op.y.data != op.x.data && past_caches(2.0 * sizeof(T) * double(op.rows * op.cols));
  tiles.for_each_back(context, [&](const Tile& tile) FNN_INLINE {
    apply<T>(op.y, tile, streams, [&](Index i, Index j, int lanes) FNN_INLINE {
      return rules::normalize(V::load(row_of<T>(op.x, i) + j, lanes), V::load(mean + j, lanes),
                              V::load(scale + j, lanes), V::load(beta + j, lanes));
    });
  });
  finish_streams(streams);
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
    for_rows<kSummed>(tile, [&](Index i, auto rows) FNN_INLINE {
      const T* x = row_of<T>(op.x, i);
      const T* dy = row_of<T>(op.dy, i);
      for_lanes<V>(tile.first_col, tile.end_col, [&](Index j, int lanes) FNN_INLINE {
        const V m = V::load(mean + j, lanes);
        V total(0), product(0);
        for (int k = 0; k < rows.size; ++k) {
          const V g = V::load(dy + k * op.dy.stride + j, lanes);
          total += g;
          product = fma(g, V::load(x + k * op.x.stride + j, lanes) - m, product);
        }
        if (i > tile.first_row) {
          total += V::load(sum_dy + j, lanes);
          product += V::load(sum_product + j, lanes);
        }
        total.store(sum_dy + j, lanes);
        product.store(sum_product + j, lanes);
      });
    });
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

  const bool fresh = !op.accumulate && op.dx.data != op.dy.data && op.dx.data != op.x.data;
  const bool streams = fresh && past_caches(3.0 * sizeof(T) * double(op.rows * op.cols));
  tiles.for_each_back(context, [&](const Tile& tile) FNN_INLINE {
    apply<T>(op.dx, tile, streams, [&](Index i, Index j, int lanes) FNN_INLINE {
      const V scale = load_or<V>(op.gamma, j, lanes, 1) * V::load(inverse + j, lanes);
      const V d = V::load(row_of<T>(op.x, i) + j, lanes) - V::load(mean + j, lanes);
      const V g = V::load(row_of<T>(op.dy, i) + j, lanes);
      V result = rules::normalize_backward(g, d, V::load(mean_dy + j, lanes),
                                           V::load(slope + j, lanes), scale);
      if (op.accumulate) result += V::load(row_of<T>(op.dx, i) + j, lanes);
      return result;
    });
  });
  finish_streams(streams);
}

template <class T>
Demand demand(const BatchNormForward& op, int) {
  const double streams = op.training ? 3 : 2;
  return {200 + 0.02 * streams * sizeof(T) * double(op.rows * op.cols) + 2.0 * double(op.cols),
          workspace_bytes<T>(op.rows, op.cols)};
}

template <class T>
Demand demand(const BatchNormBackward& op, int) {
  return {200 + 0.05 * sizeof(T) * double(op.rows * op.cols) + 2.0 * double(op.cols),
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
