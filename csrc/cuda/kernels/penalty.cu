// SPDX-License-Identifier: Apache-2.0
// What regularisation adds to the loss.
#include "cuda/kernels/optimizer_parts.cuh"
#include "cuda/kernels/table.h"
#include "rules/update.h"

namespace fusednn::cuda {
namespace {

using TermShares = Shares<PenaltyTerm>;

// sums[share] = what the elements of a share add.
template <class T>
__global__ void __launch_bounds__(kThreads) add_terms(TermShares shares, double* sums) {
  double mine = 0;
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
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
  if (threadIdx.x == 0) sums[blockIdx.x] = all;
}

// One block.
__global__ void __launch_bounds__(kThreads)
    add_up(const double* sums, Index n, double weight, double* total) {
  double mine = 0;
  for (Index i = threadIdx.x; i < n; i += kThreads) mine += sums[i];
  const double all = reduce_block(mine, Add());
  if (threadIdx.x == 0) *total += weight * all;
}

}  // namespace

template <class T>
void run(const Penalty& op, const Context& context) {
  const TermShares shares{op.terms, op.n_terms, op.elements, fixed_shares(op.elements)};
  if (shares.shares == 0) return;
  double* sums = static_cast<double*>(context.workspace);
  launch(add_terms<T>, unsigned(shares.shares), kThreads, 0, context.stream, shares, sums);
  launch(add_up, 1, kThreads, 0, context.stream, sums, shares.shares, op.weight, op.total);
}

template <class T>
size_t workspace(const Penalty& op) {
  return sizeof(double) * size_t(fixed_shares(op.elements));
}

template void run<float>(const Penalty&, const Context&);
template void run<double>(const Penalty&, const Context&);
template size_t workspace<float>(const Penalty&);
template size_t workspace<double>(const Penalty&);

}  // namespace fusednn::cuda
