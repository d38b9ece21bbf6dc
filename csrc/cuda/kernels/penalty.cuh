// SPDX-License-Identifier: Apache-2.0
// What a block does of the penalties on weights.
#pragma once

#include "cuda/kernels/optimizer_parts.cuh"
#include "rules/update.h"

namespace fusednn::cuda {

using TermShares = Shares<PenaltyTerm>;

// sums[share] = what the elements of a share add.
template <class T>
__device__ void add_terms_of_share(const TermShares& shares, Index share, double* sums) {
  double mine = 0;
  shares.for_each(share, [&](Index i, Index begin, Index end) {
    const PenaltyTerm term = shares.list[i];
    const T* p = static_cast<const T*>(term.parameter);
    for_spots<kQuad>(begin, end, holds_packs(p), [&](const Spot& spot) {
      const Quad<T> quad = load<kQuad>(p, spot);
#pragma unroll
      for (int q = 0; q < kQuad; ++q) {
        if (q < spot.count) mine += rules::penalty(double(quad.lane[q]), term.l1, term.l2);
      }
    });
  });
  const double all = reduce_block(mine, Add());
  if (threadIdx.x == 0) sums[share] = all;
}

// The total, from the sums of all shares, by one block.
__device__ inline void add_up_shares(const double* sums, Index n, const Penalty& op) {
  double mine = 0;
  for (Index i = threadIdx.x; i < n; i += kThreads) mine += sums[i];
  const double all = reduce_block(mine, Add());
  if (threadIdx.x == 0) *op.total += op.weight * *op.scale * all;
}

template <class T>
__device__ void add_penalty_gradient(const PenaltyGradient& op) {
  T* gradient = static_cast<T*>(op.gradient);
  const T* const in[] = {static_cast<const T*>(op.parameter), gradient};
  const double factor = op.factor * *op.scale;
  const T l1 = T(factor * op.term->l1), l2 = T(factor * op.term->l2);
  map(op.n, in, gradient,
      [&](const T(&v)[2]) { return rules::add_l1(rules::add_l2(v[1], v[0], l2), v[0], l1); });
}

}  // namespace fusednn::cuda
