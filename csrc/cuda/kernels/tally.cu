// SPDX-License-Identifier: Apache-2.0
// What metrics count over the rows of a batch. First it is found where each row or element counts;
// then every count has a thread of its own, which goes through the rows in order.
#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"
#include "rules/tally.h"

namespace fusednn::cuda {
namespace {

Index chunk_rows(const Tally& op) { return rules::tally_rows(op.n_counts, op.cols); }
Index chunks_of(const Tally& op) { return divide_up(op.rows, chunk_rows(op)); }

// Places that a row counts at.
FNN_HD Index places_per_row(const Tally& op) {
  if (op.what == Tallied::moments) return 0;
  return op.what == Tallied::classes || op.column >= 0 ? 1 : op.cols;
}

// An element and where it stands.
struct Place {
  double value;
  Index at;
};

// The last of the `top` greatest elements of a row.
template <class T>
__device__ Place last_of_greatest(const T* x, Index n, Index top) {
  Place last{double(x[0]), 0};
  for (Index k = 0; k < top && k < n; ++k) {
    Place best{0, -1};
    for (Index j = 0; j < n; ++j) {
      const bool behind = k == 0 || rules::precedes(last.value, last.at, double(x[j]), j);
      const bool better = best.at < 0 || rules::precedes(double(x[j]), j, best.value, best.at);
      if (behind && better) best = {double(x[j]), j};
    }
    last = best;
  }
  return last;
}

template <class T>
__device__ double target_of(const Tally& op, Index row, Index j) {
  if (op.target.labels != nullptr) return double(op.target.labels[row] == j);
  return double(row_of<T>(op.target.dense, row)[j]);
}

template <class T>
__device__ double weight_of(const Tally& op, Index row) {
  const T* weights = static_cast<const T*>(op.sample_weight);
  return weights == nullptr ? 1 : double(weights[row]);
}

template <class T>
__device__ Index class_place(const Tally& op, Index row) {
  const T* x = row_of<T>(op.x, row);
  const int32_t* labels = op.target.labels;
  if (op.cols == 1) {
    const double target =
        labels != nullptr ? double(labels[row]) : double(row_of<T>(op.target.dense, row)[0]);
    return 2 * rules::is_positive(target) + (double(x[0]) > op.thresholds[0]);
  }
  const Index is = labels != nullptr
                       ? Index(labels[row])
                       : last_of_greatest(row_of<T>(op.target.dense, row), op.cols, 1).at;
  return is * op.cols + last_of_greatest(x, op.cols, 1).at;
}

// A thread per row where a row is looked at as a whole, else per element.
template <class T>
__global__ void __launch_bounds__(kThreads) find_places(Tally op, bool whole_rows, Index* places) {
  const Index thread = Index(blockIdx.x) * kThreads + threadIdx.x;
  const Index per_row = places_per_row(op);
  const Index row = whole_rows ? thread : thread / per_row;
  if (row >= op.rows) return;
  if (op.what == Tallied::classes) {
    places[row] = class_place<T>(op, row);
    return;
  }
  const T* x = row_of<T>(op.x, row);
  const bool all = op.top == 0 || op.top >= op.cols;
  const Place last = all ? Place{} : last_of_greatest(x, op.cols, op.top);
  const Index begin = whole_rows ? 0 : thread % per_row;
  const Index end = whole_rows ? per_row : begin + 1;
  for (Index k = begin; k < end; ++k) {
    const Index j = op.column < 0 ? k : op.column;
    const double value = double(x[j]);
    const bool may = all || !rules::precedes(last.value, last.at, value, j);
    const Index level = may ? rules::level_of(value, op.thresholds, op.n_thresholds) : 0;
    const bool positive = rules::is_positive(target_of<T>(op, row, j));
    places[row * per_row + k] =
        rules::level_place(op.per_column ? k : 0, positive, level, op.n_thresholds);
  }
}

// parts[chunk] = the counts of a chunk of rows, or where there is one chunk only, counts += them.
template <class T>
__global__ void __launch_bounds__(kThreads)
    count(Tally op, const Index* places, Index rows_per_chunk, double* parts) {
  const Index c = Index(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= op.n_counts) return;
  const Index begin = Index(blockIdx.y) * rows_per_chunk;
  const Index end = smaller(op.rows, begin + rows_per_chunk);
  const Index per_row = places_per_row(op);
  double sum = 0;
  for (Index row = begin; row < end; ++row) {
    const double weight = weight_of<T>(op, row);
    if (op.what == Tallied::moments) {
      const Index j = c / rules::kMoments;
      const double x = double(row_of<T>(op.x, row)[j]);
      sum += weight * rules::moment(c % rules::kMoments, x, target_of<T>(op, row, j));
    }
    for (Index k = 0; k < per_row; ++k) {
      if (places[row * per_row + k] == c) sum += weight;
    }
  }
  if (gridDim.y == 1) {
    op.counts[c] += sum;
  } else {
    parts[Index(blockIdx.y) * op.n_counts + c] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) add_up(Tally op, const double* parts, Index chunks) {
  const Index c = Index(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= op.n_counts) return;
  double sum = 0;
  for (Index chunk = 0; chunk < chunks; ++chunk) sum += parts[chunk * op.n_counts + c];
  op.counts[c] += sum;
}

size_t bytes_of_places(const Tally& op) {
  return sizeof(Index) * size_t(op.rows * places_per_row(op));
}

}  // namespace

template <class T>
void run(const Tally& op, const Context& context) {
  const Index chunks = chunks_of(op);
  Index* places = static_cast<Index*>(context.workspace);
  double* parts =
      reinterpret_cast<double*>(static_cast<char*>(context.workspace) + bytes_of_places(op));
  if (op.what != Tallied::moments) {
    const bool whole_rows = op.what == Tallied::classes || op.top > 0;
    const Index threads = op.rows * (whole_rows ? 1 : places_per_row(op));
    launch(find_places<T>, blocks_for(threads, kThreads), kThreads, 0, context.stream, op,
           whole_rows, places);
  }
  const unsigned blocks = blocks_for(op.n_counts, kThreads);
  launch(count<T>, dim3(blocks, unsigned(chunks)), kThreads, 0, context.stream, op, places,
         chunk_rows(op), parts);
  if (chunks > 1) launch(add_up, blocks, kThreads, 0, context.stream, op, parts, chunks);
}

template <class T>
size_t workspace(const Tally& op) {
  const Index chunks = chunks_of(op);
  const size_t parts = chunks > 1 ? sizeof(double) * size_t(chunks * op.n_counts) : 0;
  return bytes_of_places(op) + parts;
}

template void run<float>(const Tally&, const Context&);
template void run<double>(const Tally&, const Context&);
template size_t workspace<float>(const Tally&);
template size_t workspace<double>(const Tally&);

}  // namespace fusednn::cuda
