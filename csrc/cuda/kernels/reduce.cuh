// SPDX-License-Identifier: Apache-2.0
// What a block does of a sum, and of accuracy.
#pragma once

#include "cuda/kernels/teams.cuh"

namespace fusednn::cuda {

constexpr Index kSumChunk = 16384;  // values that one block adds up

// The sum of a chunk.
template <class T>
__device__ double sum_of_chunk(const T* values, Index n, Index chunk) {
  constexpr int kAtOnce = 4;
  const Index begin = chunk * kSumChunk, end = smaller(n, begin + kSumChunk);
  double running[kAtOnce] = {};
  for (Index i = begin + threadIdx.x; i < end; i += kAtOnce * kThreads) {
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (i + u * kThreads < end) running[u] += double(values[i + u * kThreads]);
    }
  }
  const double mine = (running[0] + running[2]) + (running[1] + running[3]);
  return reduce_block(mine, Add());
}

// An element and where it stands. Of equals the first counts; NaN never does.
template <class T>
struct Standing {
  T value;
  Index at;
};

template <class T>
__device__ Standing<T> better(Standing<T> a, Standing<T> b) {
  const bool takes_b = b.value > a.value || (b.value == a.value && b.at < a.at);
  return takes_b ? b : a;
}

// The place of the greatest element of a row; `none` where all are NaN.
template <class T, class Team>
__device__ Index place_of_greatest(const Team& team, const T* x, Index cols, Index none) {
  Standing<T> best{T(-kInfinity), none};
  for (Index j = team.rank(); j < cols; j += team.size()) best = better(best, Standing<T>{x[j], j});
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

// Accuracy of the rows that fall to a block.
template <class T, class Team>
__device__ void accuracy_rows(const Accuracy& op, const Team& team, Index block) {
  const Index row = team.row(block);
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

}  // namespace fusednn::cuda
