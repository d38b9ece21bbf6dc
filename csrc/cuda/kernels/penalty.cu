// SPDX-License-Identifier: Apache-2.0
// What regularisation adds to the loss, and to gradients.
#include "cuda/kernels/penalty.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) add_terms(TermShares shares, double* sums) {
  add_terms_of_share<T>(shares, blockIdx.x, sums);
}

__global__ void __launch_bounds__(kThreads) add_up(const double* sums, Index n, Penalty op) {
  add_up_shares(sums, n, op);
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_gradient(PenaltyGradient op) {
  add_penalty_gradient<T>(op);
}

}  // namespace

template <class T>
void run(const Penalty& op, const Context& context) {
  const TermShares shares{op.terms, op.n_terms, op.elements, fixed_shares(op.elements)};
  if (shares.shares == 0) return;
  double* sums = static_cast<double*>(context.workspace);
  launch(add_terms<T>, unsigned(shares.shares), kThreads, 0, context.stream, shares, sums);
  launch(add_up, 1, kThreads, 0, context.stream, sums, shares.shares, op);
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
