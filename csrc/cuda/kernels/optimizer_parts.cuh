// SPDX-License-Identifier: Apache-2.0
// How one launch goes through thousands of tensors, and what it sees of them.
//
// All elements in a row, tensor after tensor, are cut into equal shares, one for each block, which
// finds its first tensor by a binary search. Within a tensor a cut moves on to the next multiple of
// eight, so that shares begin where 16 bytes can be read at once.
//
// Sums over a tensor are gathered share by share. A share and a tensor that meet are a step of a
// staircase, on which `share + tensor` names every step once: that is where their sum waits. There the
// number of shares follows from the number of elements alone.
#pragma once

#include "cuda/kernels/storage.cuh"
#include "cuda/kernels/teams.cuh"
#include "rules/rounding.h"

namespace fusednn::cuda {

constexpr Index kMostLanes = 8;             // elements of 2 bytes in an access of 16
constexpr Index kPiece = kThreads * kQuad;  // elements that are worth a block
constexpr Index kMostShares = 1024;

// `List` is an array of what has a length `n` and stands behind `before` elements of others.
template <class List>
struct Shares {
  const List* list;
  Index n_list, elements, shares;

  FNN_HD Index cut(Index share) const { return elements * share / shares; }
  // Where a share begins in a tensor, and the one before it ends.
  __device__ Index begin_of(Index share, const List& tensor) const {
    const Index place = divide_up(cut(share) - tensor.before, kMostLanes) * kMostLanes;
    return place < 0 ? 0 : smaller(place, tensor.n);
  }
  __device__ Index tensor_of(Index element) const {
    Index low = 0, high = n_list;
    while (high - low > 1) {
      const Index middle = (low + high) / 2;
      (list[middle].before <= element ? low : high) = middle;
    }
    return low;
  }

  // visit(i, begin, end) for the elements [begin, end) of tensor i that are in a share. All threads of
  // a block go together.
  template <class Visit>
  __device__ void for_each(Index share, Visit visit) const {
    const Index end = cut(share + 1);
    for (Index i = tensor_of(cut(share)); i < n_list && list[i].before < end; ++i) {
      const Index from = begin_of(share, list[i]), to = begin_of(share + 1, list[i]);
      if (from < to) visit(i, from, to);
    }
  }

  // visit(step) for the steps of the staircase that belong to tensor i, `threads` apart.
  template <class Visit>
  __device__ void for_steps(Index i, int rank, int threads, Visit visit) const {
    const List tensor = list[i];
    if (tensor.n == 0) return;
    const Index first = (tensor.before * shares) / elements;
    const Index last = smaller(shares - 1, ((tensor.before + tensor.n) * shares) / elements);
    for (Index share = (first > 0 ? first - 1 : 0) + rank; share <= last; share += threads) {
      if (begin_of(share, tensor) < begin_of(share + 1, tensor)) visit(share + i);
    }
  }
};

using TensorShares = Shares<UpdateTensor>;

// Shares that do not depend on the device: for sums.
FNN_HD Index fixed_shares(Index elements) {
  return smaller(kMostShares, divide_up(elements, kPiece));
}

// How many sums there may be.
inline size_t staircase(Index n_list, Index elements) {
  return size_t(fixed_shares(elements) + n_list);
}

// ---- neighbours in a tensor, as they lie in memory -----------------------------------------------

struct Spot {
  Index begin;
  int count;   // of elements that are there
  bool whole;  // all, in accesses of 16 bytes
};

// body(spot) for what falls to a thread of a run, N elements at a time.
template <int N, class Body>
__device__ void for_spots(Index begin, Index end, bool whole, Body body) {
#pragma unroll 1
  for (Index i = begin + threadIdx.x * N; i < end; i += kThreads * N) {
    const int count = int(smaller(end - i, N));
    body(Spot{i, count, whole && count == N});
  }
}

template <int N, class T>
__device__ Pack<T, N> load(const T* base, const Spot& spot) {
  if (spot.whole) return load_pack<N>(base + spot.begin);
  Pack<T, N> pack = {};
#pragma unroll
  for (int q = 0; q < N; ++q) {
    if (q < spot.count) pack.lane[q] = base[spot.begin + q];
  }
  return pack;
}
template <int N, class T>
__device__ void store(T* base, const Spot& spot, const Pack<T, N>& pack) {
  if (spot.whole) return store_pack(base + spot.begin, pack);
#pragma unroll
  for (int q = 0; q < N; ++q) {
    if (q < spot.count) base[spot.begin + q] = pack.lane[q];
  }
}

// How the numbers of a tensor lie in memory: as T ...
template <class T>
struct AsT {
  static constexpr bool kNarrow = false;
  static constexpr int kLanes = kQuad;
  using Stored = T;
  using Lane = T;
  using Lanes = Pack<T, kLanes>;
  __device__ explicit AsT(Storage) {}
  __device__ AsT(const OptimizerStep&, const UpdateGroup&, const UpdateTensor&) {}
  __device__ Lanes load(const void* base, const Spot& spot) const {
    return cuda::load<kLanes>(static_cast<const T*>(base), spot);
  }
  // `which` as in rules::noise_block(); returns what a later load would give.
  __device__ Lanes store(void* base, const Spot& spot, const Lanes& lanes, int /*which*/) const {
    cuda::store(static_cast<T*>(base), spot, lanes);
    return lanes;
  }
};

// ... or in half of a float.
template <Rounding kRounding>
struct AsHalf {
  static constexpr bool kNarrow = true;
  static constexpr int kLanes = 8;
  using Stored = uint16_t;
  using Lane = float;
  using Lanes = Pack<float, kLanes>;
  Storage storage;
  rules::NoiseKey key;
  __device__ explicit AsHalf(Storage s) : storage(s) {}
  __device__ AsHalf(const OptimizerStep& op, const UpdateGroup& group, const UpdateTensor& tensor)
      : storage(op.storage), key{group.seed, group.step, tensor.number} {}
  __device__ Lanes load(const void* base, const Spot& spot) const {
    const auto half = cuda::load<kLanes>(static_cast<const uint16_t*>(base), spot);
    Lanes lanes;
#pragma unroll
    for (int q = 0; q < kLanes; ++q) lanes.lane[q] = widen(storage, half.lane[q]);
    return lanes;
  }
  __device__ Lanes store(void* base, const Spot& spot, const Lanes& lanes, int which) const {
    const Pack<uint16_t, kLanes> half =
        kRounding == Rounding::nearest ? nearest(lanes) : at_random(spot, lanes, which);
    cuda::store(static_cast<uint16_t*>(base), spot, half);
    Lanes kept;
#pragma unroll
    for (int q = 0; q < kLanes; ++q) kept.lane[q] = widen(storage, half.lane[q]);
    return kept;
  }

 private:
  __device__ Pack<uint16_t, kLanes> nearest(const Lanes& lanes) const {
    Pack<uint16_t, kLanes> half;
#pragma unroll
    for (int q = 0; q < kLanes; ++q) half.lane[q] = narrow(storage, lanes.lane[q]);
    return half;
  }
  // Spots begin at multiples of eight, and so each has one block of noise.
  __device__ Pack<uint16_t, kLanes> at_random(const Spot& spot, const Lanes& lanes,
                                              int which) const {
    static_assert(kLanes == rules::kNoiseBlock && kMostLanes == kLanes);
    const uint64_t number = static_cast<uint64_t>(spot.begin) / rules::kNoiseBlock;
    const PhiloxBlock<uint32_t> noise = rules::noise_block(
        key, which, static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32));
    Pack<uint16_t, kLanes> half;
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      const uint32_t mine = (noise.word[q / 2] >> (16 * (q % 2))) & 0xffffu;
      half.lane[q] = uint16_t(rules::round_at_random(bits_of_float(lanes.lane[q]), mine));
    }
    return half;
  }
};

// Whether every tensor of an update begins where 16 bytes may be taken.
__device__ inline bool all_hold_packs(const UpdateTensor& t) {
  uintptr_t places = reinterpret_cast<uintptr_t>(t.parameter) |
                     reinterpret_cast<uintptr_t>(t.master) |
                     reinterpret_cast<uintptr_t>(t.gradient) | reinterpret_cast<uintptr_t>(t.ema);
  for (int k = 0; k < kMaxStates; ++k) places |= reinterpret_cast<uintptr_t>(t.state[k]);
  return places % 16 == 0;
}

}  // namespace fusednn::cuda
