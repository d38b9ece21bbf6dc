// SPDX-License-Identifier: Apache-2.0
// What a block does for the norms of gradients, in double, where the square of any float fits and is
// exact.
#pragma once

#include "cuda/kernels/optimizer_parts.cuh"
#include "rules/update.h"

namespace fusednn::cuda {

// Squared norms: of each share, and where every tensor has a coefficient, of each step of the staircase.
struct SquareSums {
  double* shares;
  double* steps;  // or null
};

template <class Layout>
__device__ void sum_squares_of_share(const ClipCoefficient& op, const TensorShares& shares,
                                     Index share, const SquareSums& sums) {
  const Layout layout(op.storage);
  double all = 0;
  shares.for_each(share, [&](Index i, Index begin, Index end) {
    const void* gradient = op.tensors[i].gradient;
    const double scale = op.groups[op.tensors[i].group].gradient_scale;
    const bool whole = holds_packs(static_cast<const float*>(gradient));
    double square = 0;
    for_spots<Layout::kLanes>(begin, end, whole, [&](const Spot& spot) {
      const auto g = layout.load(gradient, spot);  // 0 beyond the end
#pragma unroll
      for (int q = 0; q < Layout::kLanes; ++q) {
        square = fma(double(g.lane[q]), double(g.lane[q]), square);
      }
    });
    square *= scale * scale;
    all += square;
    if (sums.steps == nullptr) return;
    square = reduce_block(square, Add());
    if (threadIdx.x == 0) sums.steps[share + i] = square;
  });
  all = reduce_block(all, Add());
  if (threadIdx.x == 0) sums.shares[share] = all;
}

// From the sums of all shares: the norm of all gradients, and where it clips, its coefficient.
__device__ inline void finish_norm(const ClipCoefficient& op, const TensorShares& shares,
                                   const SquareSums& sums) {
  double mine = 0;
  for (Index share = threadIdx.x; share < shares.shares; share += kThreads) {
    mine += sums.shares[share];
  }
  const double norm = sqrt(reduce_block(mine, Add()));
  if (threadIdx.x != 0) return;
  if (op.global) op.coefficients[0] = rules::clip_coefficient(norm, op.max_norm);
  if (op.norm != nullptr) *op.norm = norm;
}

}  // namespace fusednn::cuda
