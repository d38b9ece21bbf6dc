// SPDX-License-Identifier: Apache-2.0
// Threads that reduce together: a few lanes of a warp, or a whole block. Every thread of a team gets
// the same bits, over a tree that is fixed by the size of the team.
//
// All lanes of a warp call a reduction together, those without elements included.
#pragma once

#include "cuda/kernels/loops.cuh"

namespace fusednn::cuda {

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Greatest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return max(b, a);  // a NaN in b is passed over
  }
};

template <class T, class Combine>
__device__ T reduce_lanes(T value, int lanes, Combine combine) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// The value of every warp, combined in order.
template <class T, class Combine>
__device__ T reduce_block(T value, Combine combine) {
  __shared__ T parts[kThreads / kWarp];
  value = reduce_lanes(value, kWarp, combine);
  __syncthreads();  // the last reduction has been read
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = parts[0];
  for (int w = 1; w < int(blockDim.x) / kWarp; ++w) value = combine(value, parts[w]);
  return value;
}

// A power of two of adjacent lanes.
struct LaneTeam {
  static constexpr bool whole_block = false;
  int threads;
  __device__ int size() const { return threads; }
  __device__ int rank() const { return threadIdx.x & (threads - 1); }
  __device__ Index row(Index block) const { return (block * kThreads + threadIdx.x) / threads; }
  template <class T, class Combine>
  __device__ T all(T value, Combine combine) const {
    return reduce_lanes(value, threads, combine);
  }
};

struct BlockTeam {
  static constexpr bool whole_block = true;
  int threads;
  __device__ int size() const { return kThreads; }
  __device__ int rank() const { return threadIdx.x; }
  __device__ Index row(Index block) const { return block; }
  template <class T, class Combine>
  __device__ T all(T value, Combine combine) const {
    return reduce_block(value, combine);
  }
};

// Who works on a row: a team, and how many elements each of its threads keeps in registers. 0: rows
// may have any length, and what is needed again is read again.
template <class TeamType, int kItemsPerThread>
struct RowShape {
  using Team = TeamType;
  static constexpr int items = kItemsPerThread;
  Team team;
  FNN_HD unsigned blocks(Index rows) const {
    return unsigned(Team::whole_block ? rows : divide_up(rows * team.threads, kThreads));
  }
};

FNN_HD int lanes_for(Index cols) {
  int lanes = 1;
  while (lanes < kWarp && lanes < cols) lanes *= 2;
  return lanes;
}

// f(shape) with the shape for rows of this length.
template <class F>
void with_row_shape(Index cols, F f) {
  if (cols <= kWarp) return f(RowShape<LaneTeam, 1>{{lanes_for(cols)}});
  if (cols <= 4 * kWarp) return f(RowShape<LaneTeam, 4>{{kWarp}});
  if (cols <= 16 * kWarp) return f(RowShape<LaneTeam, 16>{{kWarp}});
  if (cols <= 8 * kThreads) return f(RowShape<BlockTeam, 8>{{kThreads}});
  f(RowShape<BlockTeam, 0>{{kThreads}});
}

// The same where a row is passed over once, so that nothing is kept.
template <class F>
void with_row_team(Index cols, F f) {
  if (cols <= 16 * kWarp) return f(RowShape<LaneTeam, 0>{{lanes_for(cols)}});
  f(RowShape<BlockTeam, 0>{{kThreads}});
}

// The columns of a row that fall to one thread: f(k, j) for its k-th one, column j.
template <int kItems, class Team, class F>
__device__ void for_columns(const Team& team, Index cols, F f) {
  if constexpr (kItems > 0) {
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      const int j = team.rank() + k * team.size();
      if (j < cols) f(k, j);
    }
  } else {
    for (Index j = team.rank(); j < cols; j += team.size()) f(0, j);
  }
}

// A thread's part of a row, kept in registers where there is room.
template <class T, int kItems>
struct RowItems {
  const T* row;
  T item[kItems > 0 ? kItems : 1];

  template <class Team>
  __device__ RowItems(const Team& team, const T* r, Index cols) : row(r) {
    if constexpr (kItems > 0) {
      for_columns<kItems>(team, cols, [&](int k, Index j) { item[k] = row[j]; });
    }
  }
  __device__ T get(int k, Index j) const {
    if constexpr (kItems > 0) {
      return item[k];
    } else {
      return row[j];
    }
  }
};

}  // namespace fusednn::cuda
