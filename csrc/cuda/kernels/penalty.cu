// SPDX-License-Identifier: Apache-2.0
// What regularisation adds to the loss, and to gradients.
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

template <class T>
__global__ void __launch_bounds__(kThreads) add_gradient(PenaltyGradient op) {
  T* gradient = static_cast<T*>(op.gradient);
  const T* const in[] = {static_cast<const T*>(op.parameter), gradient};
  const T l1 = T(op.factor * op.term->l1), l2 = T(op.factor * op.term->l2);
  map(op.n, in, gradient,
      [&](const T(&v)[2]) { return rules::add_l1(rules::add_l2(v[1], v[0], l2), v[0], l1); });
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

template <class T>
void run(const PenaltyGradient& op, const Context& context) {
  launch(add_gradient<T>, blocks_for_map(op.n, context), kThreads, 0, context.stream, op);
}

template <class T>
size_t workspace(const PenaltyGradient&) {
  return 0;
}

template void run<float>(const Penalty&, const Context&);
template void run<double>(const Penalty&, const Context&);
template void run<float>(const PenaltyGradient&, const Context&);
template void run<double>(const PenaltyGradient&, const Context&);
template size_t workspace<float>(const Penalty&);
template size_t workspace<double>(const Penalty&);
template size_t workspace<float>(const PenaltyGradient&);
template size_t workspace<double>(const PenaltyGradient&);

}  // namespace fusednn::cuda
