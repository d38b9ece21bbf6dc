// SPDX-License-Identifier: Apache-2.0
// Numbers from many rows: sums and accuracy.
#include "cuda/kernels/table.h"
#include "cuda/kernels/teams.cuh"

namespace fusednn::cuda {
namespace {

// ---- sum -------------------------------------------------------------------------------------

constexpr Index kChunk = 16384;  // values that one block adds up

Index chunks_of(Index n) { return divide_up(n, kChunk); }

// sums[chunk] = the sum of a chunk, or where there is one chunk only, *total += it.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_chunks(const T* values, Index n, double* sums, double* total) {
  constexpr int kAtOnce = 4;
  const Index begin = Index(blockIdx.x) * kChunk, end = smaller(n, begin + kChunk);
  double running[kAtOnce] = {};
  for (Index i = begin + threadIdx.x; i < end; i += kAtOnce * kThreads) {
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (i + u * kThreads < end) running[u] += double(values[i + u * kThreads]);
    }
  }
  const double mine = (running[0] + running[2]) + (running[1] + running[3]);
  const double all = reduce_block(mine, Add());
  if (threadIdx.x != 0) return;
  if (total != nullptr) {
    *total += all;
  } else {
    sums[blockIdx.x] = all;
  }
}

// The chunks' sums, by one block.
__global__ void __launch_bounds__(kThreads) sum_up(const double* sums, Index n, double* total) {
  double mine = 0;
  for (Index i = threadIdx.x; i < n; i += kThreads) mine += sums[i];
  const double all = reduce_block(mine, Add());
  if (threadIdx.x == 0) *total += all;
}

// ---- accuracy --------------------------------------------------------------------------------

// An element and where it stands. Of equals the first counts; NaN never does.
template <class T>
struct Place {
  T value;
  Index at;
};

template <class T>
__device__ Place<T> better(Place<T> a, Place<T> b) {
  const bool takes_b = b.value > a.value || (b.value == a.value && b.at < a.at);
  return takes_b ? b : a;
}

// The place of the greatest element of a row; `none` where all are NaN.
template <class T, class Team>
__device__ Index place_of_greatest(const Team& team, const T* x, Index cols, Index none) {
  Place<T> best{T(-kInfinity), none};
  for (Index j = team.rank(); j < cols; j += team.size()) best = better(best, Place<T>{x[j], j});
  const T greatest = team.all(best.value, Greatest());
  const Index mine = best.value == greatest ? best.at : none;
  return team.all(mine, [](Index a, Index b) { return smaller(a, b); });
}

// Whether fewer than `top` elements of a row are greater than that at `place`. NaN is among the
// greatest of nothing.
template <class T, class Team>
__device__ bool is_among_greatest(const Team& team, const T* x, Index cols, Index place,
                                  Index top) {
  const bool there = place < cols && x[place] == x[place];
  int greater = 0;
  for (Index j = team.rank(); there && j < cols; j += team.size()) greater += x[j] > x[place];
  return team.all(greater, Add()) < top && there;
}

template <class T, class Team>
__global__ void __launch_bounds__(kThreads) accuracy(Accuracy op, Team team) {
  const Index row = team.row();
  const bool active = row < op.rows;
  const Index cols = active ? op.cols : 0;
  const int32_t* labels = op.target.labels;
  const T* x = row_of<T>(op.x, row);
  const T* dense = labels == nullptr ? row_of<T>(op.target.dense, row) : nullptr;
  bool right;
  if (op.cols == 1) {
    const double target = !active ? 0 : labels != nullptr ? double(labels[row]) : double(dense[0]);
    right = active && (double(x[0]) > op.threshold) == (target > 0.5);
  } else {
    const Index target = !active ? 0 : labels != nullptr ? Index(labels[row]) : Index(-1);
    const Index expected =
        labels != nullptr ? target : place_of_greatest(team, dense, cols, op.cols);
    right = op.top > 1 ? is_among_greatest(team, x, cols, expected, op.top)
                       : place_of_greatest(team, x, cols, op.cols) == expected;
  }
  if (team.rank() != 0 || !active) return;
  const T* weights = static_cast<const T*>(op.sample_weight);
  const T weight = weights == nullptr ? T(1) : weights[row];
  static_cast<T*>(op.values)[row] = right ? weight : T(0);
}

}  // namespace

template <class T>
void run(const Sum& op, const Context& context) {
  const Index chunks = chunks_of(op.n);
  const T* values = static_cast<const T*>(op.values);
  double* sums = static_cast<double*>(context.workspace);
  launch(sum_chunks<T>, unsigned(chunks), kThreads, 0, context.stream, values, op.n, sums,
         chunks == 1 ? op.total : nullptr);
  if (chunks > 1) launch(sum_up, 1, kThreads, 0, context.stream, sums, chunks, op.total);
}

template <class T>
void run(const Accuracy& op, const Context& context) {
  with_row_team(op.cols, [&](auto shape) {
    launch(accuracy<T, typename decltype(shape)::Team>, shape.blocks(op.rows), kThreads, 0,
           context.stream, op, shape.team);
  });
}

template <class T>
size_t workspace(const Sum& op) {
  const Index chunks = chunks_of(op.n);
  return chunks > 1 ? size_t(chunks) * sizeof(double) : 0;
}

template <class T>
size_t workspace(const Accuracy&) {
  return 0;
}

template void run<float>(const Sum&, const Context&);
template void run<double>(const Sum&, const Context&);
template void run<float>(const Accuracy&, const Context&);
template void run<double>(const Accuracy&, const Context&);
template size_t workspace<float>(const Sum&);
template size_t workspace<double>(const Sum&);
template size_t workspace<float>(const Accuracy&);
template size_t workspace<double>(const Accuracy&);

}  // namespace fusednn::cuda
