// SPDX-License-Identifier: Apache-2.0
// The norms that gradient clipping needs.
#include "cuda/kernels/clip.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class Layout>
__global__ void __launch_bounds__(kThreads)
    sum_squares(ClipCoefficient op, TensorShares shares, SquareSums sums) {
  sum_squares_of_share<Layout>(op, shares, blockIdx.x, sums);
}

// Block 0 finishes the norm of all, the others that of a tensor for each of their warps.
__global__ void __launch_bounds__(kThreads)
    finish(ClipCoefficient op, TensorShares shares, SquareSums sums) {
  if (blockIdx.x == 0) return finish_norm(op, shares, sums);
  constexpr int kWarps = kThreads / kWarp;
  const Index i = Index(blockIdx.x - 1) * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  double square = 0;
  if (i < op.n_tensors) {
    shares.for_steps(i, lane, kWarp, [&](Index step) { square += sums.steps[step]; });
  }
  square = reduce_lanes(square, kWarp, Add());
  if (i < op.n_tensors && lane == 0) {
    op.coefficients[i] = rules::clip_coefficient(sqrt(square), op.max_norm);
  }
}

template <class Layout>
void start(const ClipCoefficient& op, const Context& context) {
  const TensorShares shares{op.tensors, op.n_tensors, op.elements, fixed_shares(op.elements)};
  double* room = static_cast<double*>(context.workspace);
  const SquareSums sums{room, op.global ? nullptr : room + shares.shares};
  launch(sum_squares<Layout>, unsigned(shares.shares), kThreads, 0, context.stream, op, shares,
         sums);
  const unsigned blocks = 1 + (op.global ? 0 : blocks_for(op.n_tensors, kThreads / kWarp));
  launch(finish, blocks, kThreads, 0, context.stream, op, shares, sums);
}

}  // namespace

template <class T>
void run(const ClipCoefficient& op, const Context& context) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (op.storage != Storage::native) return start<AsHalf<Rounding::nearest>>(op, context);
  }
  start<AsT<T>>(op, context);
}

template <class T>
size_t workspace(const ClipCoefficient& op) {
  return sizeof(double) *
         (size_t(fixed_shares(op.elements)) + staircase(op.n_tensors, op.elements));
}

template void run<float>(const ClipCoefficient&, const Context&);
template void run<double>(const ClipCoefficient&, const Context&);
template size_t workspace<float>(const ClipCoefficient&);
template size_t workspace<double>(const ClipCoefficient&);

}  // namespace fusednn::cuda
